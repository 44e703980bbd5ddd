"""How fast does the error fall when the steps are refined?

Toy problems with exact solutions on smooth variable grids, exact starting values, in both directions; then the diffusion ODE of
an ideal denoiser. A method of order p has slope -p. Inversion is shown for methods whose inverse is explicit; where the inverse
(or the method itself, 3-step LTE-minimising BELM) is not zero-stable, refining the grid makes the error grow without bound.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import vsvf
from analysis import progress, style
from analysis.common import Mark, generator, save_answer, save_figure, save_number, save_table, test_images
from vsvf import formulas, predictors
from vsvf.convergence.order import Order, fit_slope, order

STEPS = (24, 48, 96, 192, 256, 384)
IDEAL_STEPS = (24, 48, 96, 192, 384)
IDEAL_METHODS = (
    "ddim", "adams_bashforth(2)", "adams_bashforth(3)", "deis(2)", "deis(3)", "adams_moulton(1)", "bdf(2)", "dpm_solver_pp(2)",
    "dpm_solver_pp(3)", "belm(2)", "belm(3)", "bdia(1)", "edict(0.93)", "mccallum_foster(1)", "stable_belm(3)", "stable_belm(4)",
)  # fmt: skip


# families of few members share a panel
FAMILIES = {
    "ddim": "adams_bashforth",
    "bdia": "coupled and BDIA",
    "edict": "coupled and BDIA",
    "mccallum_foster": "coupled and BDIA",
    "root_placed_belm": "stable_belm",
}
DPM = ("dpm_solver_pp(3)", "dpm_solver_pp(3,True)")


def main(out: Path) -> None:
    """Write order_*.csv and order_*.svg into `out`."""
    measured = [order(formulas.by_name(name), STEPS) for name in progress.steps(formulas.METHODS, "toy problems")]
    save_table(
        out,
        "order_toy",
        "Measured order on toy problems: the median of the slopes in both directions, and sampling's on each problem.",
        ["method", "claimed", "median | sampling", "median | inversion", *[f"sampling on | {p}" for p in _problems(measured[0])]],
        [
            [m.formula, m.claimed, _slope(m.sampling), _slope(m.inversion)]
            + [_slope(m.fits["sampling", p].slope) for p in _problems(m)]
            for m in measured
        ],
    )
    for direction in ("sampling", "inversion"):
        curves = {
            m.formula: (m.claimed, m.fits[direction, "rotation"].errors) for m in measured if (direction, "rotation") in m.fits
        }
        caption = (
            f"Largest relative error of {direction} against the number of steps on the rotation x' = 6 (-x₂, x₁), a panel per "
            "family; grey: the slope of the order that the method claims."
        )
        save_figure(out, f"order_{direction}", caption, _multiples(curves, STEPS))
    _ideal_denoiser(out)
    _conclude(out, measured)


def _conclude(out: Path, measured: list[Order]) -> None:
    reached = [m for m in measured if m.sampling is not None and m.sampling > m.claimed - 0.1]
    fallen = [m for m in measured if m not in reached]
    names = ", ".join(f"{m.formula} ({'its error grows' if not m.sampling > 0.0 else f'{m.sampling:.2f}'})" for m in fallen)
    save_answer(
        out, "order",
        f"{len(reached)} of {len(measured)} methods reach the order that they claim, to within 0.1, when sampling"
        + (f"; not {names}." if fallen else "."),
    )  # fmt: skip
    meaning = "methods reach the order that they claim when the grid is refined (slopes measured, to within 0.1)."
    save_number(out, "order_reached", f"{len(reached)} of {len(measured)}", meaning, "order_toy")
    printed, corrected = (next(m.sampling for m in measured if m.formula.replace(" ", "") == name) for name in DPM)
    meaning = (
        f"is the measured order of DPM-Solver++(3M) as published and implemented: a term carries half the weight it should. "
        f"Corrected, it is {corrected:.2f}."
    )
    save_number(out, "order_dpm", f"{printed:.2f}", meaning, "order_toy")


def _problems(result: Order) -> list[str]:
    return [problem for direction, problem in result.fits if direction == "sampling"]


def _slope(slope: float | None) -> Mark:
    if slope is None:
        return Mark("…", "the inverse is implicit: it solves the relations of sampling, and has their errors")
    return Mark(f"{slope:.2f}") if slope > 0.0 else Mark("✗", "the error grows with the number of steps: not zero-stable")


def _multiples(curves: dict[str, tuple[int, list[float]]], steps: Sequence[int]) -> Figure:
    """A panel per family, (claimed order, errors) per method; the slope of the claimed order beside its curve.

    Errors beyond 1e3 are left out, and families of one member share a panel with others.
    """
    families: dict[str, list[str]] = {}
    for name in curves:
        families.setdefault(FAMILIES.get(name.split("(")[0], name.split("(")[0]), []).append(name)
    figure, axes = style.panels(len(families), height=3.9)
    for axis, (family, names) in zip(axes, families.items()):
        for n, name in enumerate(names):
            claimed, errors = curves[name]
            shown = np.where(np.isfinite(errors) & (np.asarray(errors) < 1e3), errors, np.nan)
            slope, _ = fit_slope(steps, errors)
            short = re.sub(r"\d+\.\d{4,}", lambda number: f"{float(number[0]):.2g}", name)
            axis.loglog(steps, shown, label=f"{short.removeprefix(family)}  {_slope(slope).symbol}", **style.line(n))
            if slope > 0.0:
                style.draw_slope(axis, steps, errors, claimed)
        axis.set(title=family, ylim=(1e-14, 1e3))
        style.steps_axis(axis, steps)
        style.legend_below(axis)
    for axis in axes[:: style.COLUMNS]:
        axis.set_ylabel("largest error")
    return figure


def _ideal_denoiser(out: Path) -> None:
    """The diffusion ODE of 100 digits blurred by N(0, 0.5²), sigma_bar from 0.2 to 20, against a fine reference."""
    images, _ = test_images()
    predictor = predictors.ideal_denoiser(images.double(), std=0.5)
    schedule = vsvf.Schedule.edm(0.2, 20.0)
    noise = 20.0 * torch.randn(4, 1, 28, 28, generator=generator(1), dtype=torch.float64)
    fine = vsvf.Grid.from_schedule(schedule, 1500, "karras", "smallest")
    reference = vsvf.integrate(predictor, noise, fine.sigma_bar[::-1], "rk4")[0]
    rows, curves = [], {}
    for name in progress.steps(IDEAL_METHODS, "ideal denoiser"):
        formula, errors = formulas.by_name(name), []
        for steps in IDEAL_STEPS:
            grid = vsvf.Grid.from_schedule(schedule, steps, "karras", "smallest")
            try:
                x = vsvf.sample(predictor, noise, grid, formula, starter="rk4:4", tolerance=1e-13, max_iterations=200, warn=False).x
                errors.append(float((x - reference).abs().max()))
            except vsvf.VsvfError:
                errors.append(float("inf"))
        slope, _ = fit_slope(IDEAL_STEPS, errors)
        curves[name] = errors
        rows.append([name, formula.order, _slope(slope), *errors])
    save_table(
        out, "order_ideal", "Sampling error on the ideal denoiser of 100 digits (largest pixel error; Karras nodes, RK4 starter).",
        ["method", "claimed", "slope", *[f"N={n}" for n in IDEAL_STEPS]], rows,
    )  # fmt: skip
    curves = {name: (formulas.by_name(name).order, errors) for name, errors in curves.items()}
    caption = "Sampling error on the ideal denoiser against the number of steps, a panel per family; grey: the claimed order."
    save_figure(out, "order_ideal_plot", caption, _multiples(curves, IDEAL_STEPS))
