"""`sample`, `invert` and `integrate`: what users call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vsvf.engine.floating import FLOATS, FloatRegister, all_finite, name_of
from vsvf.engine.iteration import Iteration
from vsvf.engine.march import Evaluator, Step, march
from vsvf.engine.run import Run, check_types, progress_bar, warn_if_unsafe
from vsvf.fixed import Fixed
from vsvf.formula import Formula
from vsvf.grid import Grid
from vsvf.predictors.base import Predictor
from vsvf.starter import Starter, starter_by_name
from vsvf.state import State


def sample(
    predictor: Predictor,
    x: torch.Tensor | State,
    grid: Grid,
    formula: Formula | str,
    *,
    starter: str | Starter = "ddim",
    arithmetic: str | Fixed | None = None,
    stop: int = 0,
    tolerance: float | None = None,
    max_iterations: int = 100,
    callback: Callable[[Step], None] | None = None,
    verify: bool = False,
    progress: bool = False,
    warn: bool = True,
) -> State:
    """Sample: march from noise (index N) towards data (index `stop`).

    Args:
        predictor: gives eps and the scale of x.
        x: noise x_N, (B, …), with variance alpha^2 + sigma^2 in the predictor's scale; or a `State` to go on from, such as the
            result of `invert`.
        grid: the nodes.
        formula: a formula or its name, for instance "belm(2)".
        starter: how the other k-1 first states are made from one: "ddim", "heun", "rk4", sub-stepped "rk4:8", or "lower_order"
            (the same family's formulas with fewer steps). Not used when x is a `State`, or by one-step and coupled methods.
        arithmetic: "float16", "bfloat16", "float32" or "float64" for states and slopes, whatever the predictor computes in;
            "fixed" (or a `Fixed`) for integers, with which inversion returns every bit; default: that of x.
        stop: node index to stop at; 0 is the data end. (The first k states reach k-1 nodes down already.)
        tolerance: relative change at which implicit rows count as solved; default 1e-10, or 16 units of rounding of the
            state's or the predictor's precision where that is more.
        max_iterations: cap of their fixed-point iteration.
        callback: called with a `Step` after every row (after every sweep, of `max_iterations`, where the path is swept).
        verify: evaluate eps twice at every state and compare the bits: exactness needs a deterministic predictor.
        progress: show a progress bar.
        warn: examine the formula on the grid and warn, once, if it amplifies perturbations without bound.

    Returns:
        A `State`: `.x` the image (B, …), `.nfe` the number of evaluations of eps, and the k states that exact inversion needs.

    Raises:
        ValueError, TypeError: an argument that does not fit, named.
        NonFiniteError, ConvergenceError, FixedPointOverflowError, DeterminismError: while marching, with the step.
    """
    run = Run(predictor, x, grid, formula, "sampling", arithmetic, stop, tolerance, max_iterations, starter)
    if warn:
        warn_if_unsafe(run)
    return run.march(starter, callback, verify, progress)


def invert(
    predictor: Predictor,
    x: torch.Tensor | State,
    grid: Grid,
    formula: Formula | str,
    *,
    starter: str | Starter = "ddim",
    arithmetic: str | Fixed | None = None,
    stop: int | None = None,
    tolerance: float | None = None,
    max_iterations: int = 100,
    nodes_per_call: int | None = None,
    callback: Callable[[Step], None] | None = None,
    verify: bool = False,
    progress: bool = False,
    warn: bool = True,
) -> State:
    """Invert: march from data (index 0) towards noise (index `stop`, default N), along the relations that sampling used.

    A backward explicit formula is inverted exactly, row by row. A one-step formula that is not (DDIM, the trapezoidal rule) is
    inverted by a fixed-point iteration per row; any other by sweeps over the whole path (`vsvf.engine.path`), which hold N states
    and may not converge.

    Args:
        x: an image x_0, (B, …), in the predictor's scale; or a `State` that `sample` returned: its k states are then the first,
            and a bidirectionally explicit formula retraces its steps. (A single image leaves k-1 states to the starter.)
        starter: as in `sample`, here from the image upwards; for an inversion by sweeps, the starter that sampling would use.
        nodes_per_call: in sweeps, how many states are given to the network at once; default all N.
        predictor, grid, formula, arithmetic, stop, tolerance, max_iterations, callback, verify, progress, warn:
            as in `sample`.

    Returns:
        A `State` at the noise end: `.x` the noise, `.record.residual` the last relative change where an iteration was needed.

    Raises:
        ValueError, TypeError: an argument that does not fit, named.
        NonFiniteError: a prediction that is not finite. ConvergenceError: the iteration did not reach its tolerance.
    """
    check_types(predictor, grid)
    stop = grid.steps if stop is None else stop
    run = Run(predictor, x, grid, formula, "inversion", arithmetic, stop, tolerance, max_iterations, starter)
    if run.by_sweeps:
        return run.sweep(starter, nodes_per_call, callback, progress)
    if warn:
        warn_if_unsafe(run)
    return run.march(starter, callback, verify, progress)


def integrate(
    predictor: Predictor,
    x: torch.Tensor,
    nodes: Any,
    method: str | Starter = "ddim",
    *,
    arithmetic: str | None = None,
    progress: bool = False,
) -> tuple[torch.Tensor, int]:
    """Integrate the ODE along `nodes`, up or down, with a Runge-Kutta method: no multistep formula, no inversion of one.

    Upwards with "ddim" this is "DDIM inversion", equation (8) of the paper, x_bar_i = x_bar_{i-1} + h_i eps_bar_{i-1}: another
    relation than the one DDIM samples with, hence inexact. With "rk4:4" on a fine grid it gives reference solutions.

    Args:
        predictor: gives eps and the scale of x.
        x: (B, …) at nodes[0], in the predictor's scale.
        nodes: values of sigma_bar, strictly monotone, for instance `grid.sigma_bar` (upwards) or `grid.sigma_bar[::-1]`.
        method: "ddim", "heun", "rk4", or one of these with sub-steps per interval ("rk4:4").
        arithmetic: as in `sample`. progress: show a progress bar.

    Returns:
        x at nodes[-1], and the number of evaluations of eps.
    """
    check_types(predictor)
    if not isinstance(x, torch.Tensor) or x.ndim < 2 or not x.is_floating_point() or x.numel() == 0:
        raise ValueError("x must be a floating tensor (B, …) that is not empty")
    if not all_finite(x):
        raise ValueError("x has entries that are not finite")
    positions = np.asarray(nodes, dtype=np.float64)
    moves = np.diff(positions)
    if positions.ndim != 1 or len(positions) < 2 or not (np.all(moves > 0) or np.all(moves < 0)):
        raise ValueError("nodes must be at least 2 values of sigma_bar, strictly increasing or strictly decreasing")
    arithmetic = name_of(x.dtype) if arithmetic is None else arithmetic
    if arithmetic not in FLOATS:
        raise ValueError(f"arithmetic={arithmetic!r} is not known; choose one of {', '.join(FLOATS)}")
    rows = starter_by_name(method).plan(positions)
    rows = rows.rescaled(predictor.alpha(rows.node))
    register = FloatRegister(rows, x.expand(rows.steps, *x.shape), FLOATS[arithmetic])
    evaluate = Evaluator(predictor, rows)
    with progress_bar(rows.rows, f"{rows.name}", progress) as bar:
        march(rows, register, evaluate, Iteration(1.0, 1), lambda s: bar.update() if bar is not None else None)
    return register.state(rows.rows + rows.steps - 1).clone(), evaluate.nfe
