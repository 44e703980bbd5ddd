"""`sample`, `invert`, `steps` and `integrate`: what users call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vsvf.engine.arguments import Request, whole_number
from vsvf.engine.evaluator import Evaluator
from vsvf.engine.floating import FLOATS, FloatRegister, all_finite, name_of
from vsvf.engine.gradient import check_gradient, differentiable_march
from vsvf.engine.iteration import Iteration
from vsvf.engine.march import Step, march, questions
from vsvf.engine.path import invert_by_sweeps
from vsvf.engine.run import Run
from vsvf.engine.stepping import Steps
from vsvf.engine.watch import Watch
from vsvf.fixed import Fixed
from vsvf.formula import Formula
from vsvf.grid import Grid
from vsvf.predictors.base import Predictor
from vsvf.schedule import Schedule
from vsvf.starter import Starter, starter_by_name
from vsvf.state import State

Array = np.ndarray


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
    check_every: int | None = None,
    verify: bool = False,
    progress: bool = False,
    warn: bool = True,
    gradient: str | None = None,
    inputs: Iterable[torch.Tensor] = (),
) -> State:
    """Sample: march from noise (index N) towards data (index `stop`).

    Args:
        predictor: gives eps and the scale of x.
        x: noise x_N, (B, …), with variance alpha^2 + sigma^2 in the predictor's scale; or a `State` to go on from, such as the
            result of `invert`, or k states of your own (`State.at`).
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
        check_every: evaluations after which it is looked whether they were finite and nothing overflowed. Each look waits for the
            device; by default there is one, at the end, which names the first state all the same.
        verify: evaluate eps twice at every state and compare the bits: exactness needs a deterministic predictor.
        progress: show a progress bar.
        warn: examine the formula on the grid and warn if it amplifies perturbations without bound, or is much less accurate
            than DDIM with these steps; warn of a network in training mode, of a grid whose lowest step spoils inversion, and of
            one whose alpha is not the predictor's where the formula depends on it; and look, while sampling, whether the states
            move as their slopes say, and warn with the step if they do not: spurious modes have then grown on this predictor.
        gradient: let `.x` (and `.reals`, all k states) carry a graph: "reversible" retraces the states by the inverse rows when
            the backward pass comes, and keeps none of them; "checkpoint" recomputes them from a few that are
            kept; "stored" keeps all with their graphs. Default: no gradient. (None is taken within `torch.no_grad`.)
        inputs: tensors besides x and the network's parameters that the predictor uses and that require a gradient: conditions,
            a guidance scale.

    Returns:
        A `State`: `.x` the image (B, …), `.nfe` the number of evaluations of eps, and the k states that exact inversion needs.

    Raises:
        ValueError, TypeError: an argument that does not fit, named. StateFileError: a state of another plan or schedule.
        NonFiniteError, ConvergenceError, FixedPointOverflowError, DeterminismError: while marching, with the step.
    """
    check_predictor(predictor, grid)
    if warn:
        predictor.warn_if_training()
    request = Request(
        x,
        grid,
        formula,
        "sampling",
        starter=starter,
        arithmetic=arithmetic,
        stop=stop,
        tolerance=tolerance,
        max_iterations=max_iterations,
        precision=predictor.precision,
    )
    return _march(predictor, request, Driving(callback, check_every, verify, progress, warn, gradient, inputs))


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
    check_every: int | None = None,
    verify: bool = False,
    progress: bool = False,
    warn: bool = True,
    gradient: str | None = None,
    inputs: Iterable[torch.Tensor] = (),
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
        predictor, grid, formula, arithmetic, stop, tolerance, max_iterations, callback, check_every, verify, progress, warn,
            gradient, inputs: as in `sample`.

    Returns:
        A `State` at the noise end: `.x` the noise, `.record.residual` the last relative change where an iteration was needed.

    Raises:
        ValueError, TypeError: an argument that does not fit, named. StateFileError: a state of another plan or schedule.
        NonFiniteError: a prediction that is not finite. ConvergenceError: the iteration did not reach its tolerance.
    """
    check_predictor(predictor, grid)
    if warn:
        predictor.warn_if_training()
    request = Request(
        x,
        grid,
        formula,
        "inversion",
        starter=starter,
        arithmetic=arithmetic,
        stop=stop,
        tolerance=tolerance,
        max_iterations=max_iterations,
        precision=predictor.precision,
    )
    if warn and isinstance(x, torch.Tensor) and request.plan.steps > 1:
        grid.warn_if_lowest_step_is_tiny()
    if nodes_per_call is not None:
        nodes_per_call = whole_number("nodes_per_call", nodes_per_call, 1)
    driving = Driving(callback, check_every, verify, progress, warn, gradient, inputs)
    if request.by_sweeps and gradient is None:
        with progress_bar(request.iteration.cap, f"{request.plan.name} inversion, sweeps", progress) as bar:
            return invert_by_sweeps(predictor, request, nodes_per_call, driving.after_sweep(request, bar), verify)
    return _march(predictor, request, driving)


def steps(
    scale: Predictor | Schedule,
    x: torch.Tensor | State,
    grid: Grid,
    formula: Formula | str,
    *,
    direction: str = "sampling",
    starter: str | Starter = "ddim",
    arithmetic: str | Fixed | None = None,
    stop: int | None = None,
    check_every: int | None = None,
    warn: bool = True,
) -> Steps:
    """Step by hand: the march of `sample` or `invert`, which asks for one slope at a time and waits.

        march = vsvf.steps(schedule, noise, grid, "belm(2)")
        while not march.done:
            march.give(network(march.x, march.t))
        image = march.x

    For an edit between two steps, guidance of your own, several marches side by side with one batched call of the network.
    For the same answers it has the bits of `sample` and `invert`.

    Args:
        scale: the predictor, or the schedule alone: it gives alpha, the scale of x, and the model's time.
        direction: "sampling" or "inversion". x, grid, formula, starter, arithmetic, stop, check_every: as in `sample`.
        warn: warn at the end if the states did not move as their slopes say (as `sample` does; not after an edit of a state).

    Returns:
        `Steps`: `.x`, `.sigma_bar`, `.t` of the state that is asked for, `.give(eps)`, `.replace(x)`, `.done`, `.state()`.

    Raises:
        ValueError, TypeError: an argument that does not fit, or a march that iterates. StateFileError: as in `sample`.
    """
    if not isinstance(scale, (Predictor, Schedule)):
        raise TypeError(f"scale must be a Predictor or a Schedule, got {type(scale).__name__}")
    request = Request(x, grid, formula, direction, starter=starter, arithmetic=arithmetic, stop=stop)
    return Steps(request, ScheduleScale(scale) if isinstance(scale, Schedule) else scale, check_every, warn=warn)


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

    Raises:
        ValueError, TypeError: an argument that does not fit. NonFiniteError: a prediction or the result is not finite.
    """
    check_predictor(predictor)
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
    watch = Watch()
    evaluate = Evaluator(predictor, [rows])
    with progress_bar(rows.rows, rows.name, progress) as bar:
        after = None if bar is None else lambda m: bar.update()
        march(questions(rows, register, Iteration(1.0, 1), watch, after), evaluate)
    watch.check()
    return register.state(rows.rows + rows.steps - 1).clone(), evaluate.nfe


# ---- driving -----------------------------------------------------------------------------------------------


class ScheduleScale:
    """A schedule in the place of a predictor: alpha and the model's time at sigma_bar."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule, self.alpha, self.time = schedule, schedule.alpha_at, schedule.timestep


@dataclass(frozen=True)
class Driving:
    """How a march is driven and watched; the fields are arguments of `sample`."""

    callback: Callable[[Step], None] | None
    check_every: int | None
    verify: bool
    progress: bool
    warn: bool
    gradient: str | None
    inputs: Iterable[torch.Tensor]

    def after_sweep(self, request: Request, bar: Any) -> Callable[[int, torch.Tensor, int], None]:
        """What is called after a sweep, with its number, the noise found so far, and the evaluations so far."""

        def after(sweep: int, noise: torch.Tensor, nfe: int) -> None:
            if self.callback is not None:
                self.callback(Step(sweep, request.iteration.cap, float(request.plan.position[0]), noise, nfe))
            if bar is not None:
                bar.update()

        return after


def _march(predictor: Predictor, request: Request, driving: Driving) -> State:
    if driving.gradient is not None:
        check_gradient(request, driving.gradient)
    if driving.warn:
        request.warn(stacklevel=3)
        request.warn_of_alpha(predictor.alpha, stacklevel=3)
    every = None if driving.check_every is None else whole_number("check_every", driving.check_every, 1)
    watch = Watch(every)
    run = Run(request, predictor, watch)
    if driving.warn:
        run.look_at_movement()
    evaluate = Evaluator(predictor, run.plans, driving.verify)
    rows, steps = run.plans[-1], request.plan.steps
    with progress_bar(rows.rows, f"{request.formula.name} {request.direction}", driving.progress) as bar:

        def after(m: int) -> None:
            if driving.callback is not None:
                assert run.register is not None
                x, place = run.register.state(steps + m), float(rows.position[steps + m])
                driving.callback(Step(m + 1, rows.rows, place, x, evaluate.nfe))
            if bar is not None:
                bar.update()

        run.after = after if driving.callback is not None or bar is not None else None
        if driving.gradient is not None and torch.is_grad_enabled():
            state = differentiable_march(run, evaluate, driving.gradient, driving.inputs)
        else:
            march(run.conversation(), evaluate)
            state = run.state(evaluate.nfe)
    run.warn_of_movement(stacklevel=3)
    return state


def check_predictor(predictor: Any, grid: Any = None) -> None:
    """Raises:
    TypeError: not a predictor, or not a grid.
    """
    if not isinstance(predictor, Predictor):
        raise TypeError(
            f"predictor must be a vsvf.predictors.Predictor, got {type(predictor).__name__}; wrap a callable(x, t) as "
            "Predictor(callable, schedule, kind=…)"
        )
    if grid is not None and not isinstance(grid, Grid):
        raise TypeError(f"grid must be a vsvf.Grid, got {type(grid).__name__}")


@contextmanager
def progress_bar(total: int, label: str, shown: bool) -> Iterator[Any]:
    """A tqdm progress bar, or None."""
    if not shown:
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=label, leave=False) as bar:
        yield bar
