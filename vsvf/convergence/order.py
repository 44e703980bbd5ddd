"""Measured order of convergence: errors on refined smooth grids, exact starting values, a fitted slope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vsvf.convergence.problems import Problem, problems, smooth_grid
from vsvf.engine.march import Step
from vsvf.errors import ConvergenceError, NonFiniteError
from vsvf.formula import Formula
from vsvf.grid import Grid
from vsvf.solve import invert, sample
from vsvf.state import State

Array = np.ndarray


@dataclass(frozen=True)
class Fit:
    """Errors of one problem in one direction, and the slope of log(error) against log(1/N).

    Attributes:
        problem: its name. steps: (n,) N. errors: (n,) largest error over the march, relative to the solution's size.
        used: (n,) which of them the slope is fitted to: those above rounding and in the asymptotic range.
        slope: the measured order, nan when nothing could be fitted or the error grows with N.
    """

    problem: str
    steps: Array
    errors: Array
    used: Array
    slope: float


@dataclass(frozen=True)
class Order:
    """Measured order in both directions; `inversion` is None for formulas whose inverse is not explicit.

    Attributes:
        formula: name. claimed: the formula's own claim.
        sampling, inversion: the median slope over the problems that gave one; nan where the errors grow.
        fits: the single fits, keyed by (direction, problem).
    """

    formula: str
    claimed: int
    sampling: float
    inversion: float | None
    fits: dict[tuple[str, str], Fit]


def exact_state(formula: Formula, grid: Grid, problem: Problem, at: str, dtype: torch.dtype = torch.float64) -> State:
    """The k states of a march at the "noise" or "data" end, taken from the exact solution."""
    plan = formula.plan(grid)
    window = 0 if at == "noise" else plan.rows
    values = torch.stack([problem.exact(float(p)) for p in plan.position[window : window + plan.steps]]).to(dtype)
    return State.at(at, values, formula, grid)


def march_error(formula: Formula, grid: Grid, problem: Problem, direction: str) -> float:
    """Largest error over the states of a march from exact starting values, relative to the solution's largest entry.

    (The error at the end alone can change its sign as N grows, which bends a fit.) Infinite where the march overflows or an
    implicit row does not converge.
    """
    errors: list[float] = []
    size = max(float(problem.exact(float(s)).abs().max()) for s in (grid.sigma_bar[0], grid.sigma_bar[-1]))

    def compare(step: Step) -> None:
        errors.append(float((step.x - problem.exact(step.sigma_bar)).abs().max()))

    sampling = direction == "sampling"
    start = exact_state(formula, grid, problem, "noise" if sampling else "data")
    run = sample if sampling else invert
    try:
        run(problem.predictor, start, grid, formula, tolerance=1e-15, max_iterations=400, callback=compare, warn=False)
    except (NonFiniteError, ConvergenceError):
        return float("inf")
    return max(errors) / size


def fit_slope(steps: Sequence[int], errors: Sequence[float], floor: float = 5e-12) -> tuple[float, Array]:
    """Slope of -log(error) against log N by least squares over the finest grids whose error is above `floor`.

    The two finest grids above the floor are used: coarser ones are not asymptotic yet.

    Returns:
        the slope (nan with fewer than two usable grids, or where the error grows), and a mask of the grids used.
    """
    n, e = np.asarray(steps, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    above = np.flatnonzero(np.isfinite(e) & (e > floor))
    used = np.zeros(len(n), dtype=bool)
    used[above[-2:]] = True
    if used.sum() < 2:
        return float("nan"), used
    slope = float(-np.polyfit(np.log(n[used]), np.log(e[used]), 1)[0])
    return slope if slope > 0.0 else float("nan"), used


def order(formula: Formula, steps: Sequence[int] | None = None) -> Order:
    """Measure the order of convergence of a formula on smooth variable grids, in both directions.

    Starting values are exact, grids are `smooth_grid(N)`, problems those of `vsvf.convergence.problems`. The largest error
    over the march is fitted as C N^{-p}.

    Args:
        formula: the formula. steps: the numbers of steps; default 16, 24, 32, … 768.
    """
    if steps is None:
        steps = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
    fits: dict[tuple[str, str], Fit] = {}
    explicit_inverse = formula.plan(smooth_grid(max(steps))).backward_explicit
    for direction in ("sampling", "inversion") if explicit_inverse else ("sampling",):
        for problem in problems():
            errors = [march_error(formula, smooth_grid(n), problem, direction) for n in steps]
            slope, used = fit_slope(steps, errors)
            fits[direction, problem.name] = Fit(problem.name, np.asarray(steps), np.asarray(errors), used, slope)

    def median(direction: str) -> float:
        slopes = np.array([fit.slope for (way, _), fit in fits.items() if way == direction])
        growing = [fit.errors[-1] > 1.0 for (way, _), fit in fits.items() if way == direction]
        return float("nan") if np.all(np.isnan(slopes)) or any(growing) else float(np.nanmedian(slopes))

    return Order(formula.name, formula.order, median("sampling"), median("inversion") if explicit_inverse else None, fits)
