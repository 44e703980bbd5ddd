"""Inverting what no single row can invert: the whole path is unknown at once, and Picard sweeps solve for it.

A plan whose oldest state appears only inside eps (Adams-Bashforth, DEIS, DPM-Solver++) gives no explicit inverse. Its rows,
together with the starter's, are linear equations in the states once the slopes are frozen: A z = C eps(z), with the data-end
state known. Each sweep evaluates all slopes (one batch) and solves that system. The fixed point is a path that the method
would sample to the given image; whether the sweeps reach it depends on the step sizes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from vsvf.engine.arguments import Request
from vsvf.engine.evaluator import compare
from vsvf.engine.floating import all_finite
from vsvf.engine.iteration import Anderson, Iteration
from vsvf.engine.run import starter_plan
from vsvf.errors import ConvergenceError, NonFiniteError
from vsvf.fixed import plan_bits
from vsvf.plan import Plan
from vsvf.predictors.base import Predictor
from vsvf.state import Record, State

Array = np.ndarray


def invert_by_sweeps(
    predictor: Predictor,
    request: Request,
    nodes_per_call: int | None,
    after: Callable[[int, torch.Tensor, int], None],
    verify: bool,
) -> State:
    """The state at the noise end whose march, starter included, ends at the request's image.

    Args:
        nodes_per_call, after, verify: as in `invert_path`.

    Raises:
        ValueError: not the whole grid is asked for, or fixed-point numbers. ConvergenceError: the sweeps do not converge.
    """
    plan = request.plan
    if request.fixed is not None:
        plan_bits(plan, predictor.alpha(plan.node), request.fixed)  # which refuses it, with the reason
    if request.stop != request.grid.steps or request.start != plan.rows:
        raise ValueError(f"{plan.name} is inverted as a whole path: stop must be N = {request.grid.steps}, from the data end")
    starting, used = None, ""
    if plan.steps > 1:
        starting, _, used = starter_plan(request, plan.position[: plan.steps])
    x = request.given.x if request.given is not None else request.tensor
    values, nfe, residual = invert_path(
        predictor, x, plan, starting, request.iteration, request.dtype, nodes_per_call, after, verify
    )
    record = Record.of(
        plan, 0, "inversion", request.arithmetic, schedule=predictor.schedule.fingerprint, starter=used, nfe=nfe, residual=residual
    )
    return State(values, record)


@torch.no_grad()
def invert_path(
    predictor: Predictor,
    x: torch.Tensor,
    plan: Plan,
    starter: Plan | None,
    iteration: Iteration,
    dtype: torch.dtype,
    nodes_per_call: int | None = None,
    after: Callable[[int, torch.Tensor, int], None] | None = None,
    verify: bool = False,
) -> tuple[torch.Tensor, int, float]:
    """The path z_0 … of `plan` that ends at x.

    Args:
        predictor: the predictor.
        x: (B, …) the image at the data end, in the predictor's scale.
        plan: in sampling order, for x_bar.
        starter: the plan of the starter that sampling would use, or None for one-step plans.
        iteration: tolerance on the relative change of the path, cap on sweeps.
        dtype: of the path.
        nodes_per_call: states evaluated in one call of the network; default all.
        after: called with the number of sweeps done, the noise found so far, and the evaluations so far.
        verify: evaluate every batch twice and compare the bits.

    Returns:
        The first window (K, B, …) at the noise end, the number of evaluations of eps, the last relative change.

    Raises:
        ConvergenceError: not converged within the cap, with the residual.
    """
    a, c, nodes, window = equations(plan, starter)
    scale = predictor.alpha(nodes)
    known = len(nodes) - 1
    unknown = np.arange(known)
    needed = np.flatnonzero(np.any(c != 0.0, axis=0))
    # x_bar = solve(A_unknown, C eps - A_known x_bar_known), then x = alpha x_bar
    solution = np.linalg.solve(a[:, unknown], np.concatenate([c[:, needed], -a[:, [known]]], axis=1))
    solution *= scale[unknown, None]
    solution[:, -1] /= scale[known]
    gain = torch.as_tensor(solution[:, :-1], device=x.device).to(dtype)
    carry = torch.as_tensor(solution[:, -1], device=x.device).to(dtype)
    x = x.to(dtype)
    flat = x.reshape(1, -1)
    path, nfe = _ddim_inversion(predictor, x, nodes, scale)
    chunk = len(needed) if nodes_per_call is None else max(1, int(nodes_per_call))
    acceleration = Anderson()
    change = float("inf")
    for sweep in range(1, iteration.cap + 1):
        slopes = []
        for start in range(0, len(needed), chunk):
            part = needed[start : start + chunk]
            batch = path[torch.as_tensor(part, device=x.device)].reshape(-1, *x.shape[1:])
            levels = np.repeat(nodes[part], x.shape[0])
            slope = predictor.epsilon(batch, levels)
            if verify:
                where = f"sweep {sweep} (sigma_bar from {levels.min():.6g} to {levels.max():.6g})"
                compare(slope.clone(), predictor.epsilon(batch, levels), where)
            if not all_finite(slope) and all_finite(batch):
                raise NonFiniteError(
                    f"{plan.name}: a prediction in sweep {sweep}, between sigma_bar = {levels.min():.6g} and {levels.max():.6g}, "
                    "is not finite"
                )
            slopes.append(slope.to(dtype).reshape(len(part), -1))
        nfe += len(needed) * (2 if verify else 1)
        new = torch.matmul(gain, torch.cat(slopes)) + carry[:, None] * flat
        old = path[:known].reshape(known, -1)
        change = float((new - old).abs().max() / new.abs().max().clamp(min=1.0))
        if change <= iteration.tolerance or not np.isfinite(change):
            path[:known] = new.reshape(known, *x.shape)
        else:
            by_sample = [t.reshape(known, x.shape[0], -1).transpose(0, 1).reshape(x.shape[0], -1) for t in (old, new)]
            better = acceleration.step(by_sample[0], by_sample[1], change)
            path[:known] = better.reshape(x.shape[0], known, -1).transpose(0, 1).reshape(known, *x.shape)
        if after is not None:
            after(sweep, path[window[0]], nfe)
        if not np.isfinite(change):
            raise ConvergenceError(
                f"{plan.name}: the inversion sweeps diverged at sweep {sweep}; take more steps or a BELM formula",
                residual=change,
                iterations=sweep,
            )
        if change <= iteration.tolerance:
            return path[window], nfe, change
    raise ConvergenceError(
        f"{plan.name} is not backward explicit, and its inversion did not converge: after {iteration.cap} sweeps over the path "
        f"the relative change is {change:.3g}, the tolerance {iteration.tolerance:.3g}; take more steps, raise max_iterations, "
        "or use a BELM formula, which inverts exactly with one evaluation per step",
        residual=change,
        iterations=iteration.cap,
    )


def equations(plan: Plan, starter: Plan | None) -> tuple[Array, Array, Array, list[int]]:
    """A z = C eps over all states: those of the starter first (they hold the plan's first window), then the plan's.

    Args:
        plan: in sampling order. starter: its starter's plan, or None where all states of the first window are copies of the first.

    Returns:
        A, C: a row for every state but the first. The states' nodes. Which states are the plan's first window.
    """
    if starter is None:
        rows = [(plan, 0)]
        total, window, base = plan.rows + plan.steps, list(range(plan.steps)), 0
        nodes = plan.node
    else:
        # starter states: `steps - 1` unused copies stand before the given one
        unused = starter.steps - 1
        count = starter.rows + starter.steps
        given = [int(np.flatnonzero(starter.position[unused:] == p)[-1]) for p in plan.position[: plan.steps]]
        base = count - unused
        total = base + plan.rows
        window = given
        rows = [(starter, -unused)]
        nodes = np.concatenate([starter.node[unused:], plan.node[plan.steps :]])
    a = np.zeros((total - 1, total))
    c = np.zeros((total - 1, total))
    if starter is None:
        for copied in range(1, plan.steps):
            a[copied - 1, [copied - 1, copied]] = -1.0, 1.0
    for part, offset in rows:
        for m in range(part.rows):
            target = m + part.steps + offset
            _fill(a, c, part, m, target, [target - j for j in range(1, part.steps + 1)])
    if starter is not None:
        index = window + list(range(base, total))
        for m in range(plan.rows):
            _fill(a, c, plan, m, index[m + plan.steps], [index[m + plan.steps - j] for j in range(1, plan.steps + 1)])
    return a, c, nodes, window


def _fill(a: Array, c: Array, part: Plan, m: int, target: int, sources: list[int]) -> None:
    """Row m of `part` as the equation for state `target`: z_target - sum a z = sum c eps."""
    a[target - 1, target] = 1.0
    c[target - 1, target] += part.c[m, 0]
    for j, source in enumerate(sources, start=1):
        if part.a[m, j - 1] != 0.0:
            a[target - 1, source] -= part.a[m, j - 1]
        if part.c[m, j] != 0.0:
            c[target - 1, source] += part.c[m, j]


def _ddim_inversion(predictor: Predictor, x: torch.Tensor, nodes: Array, scale: Array) -> tuple[torch.Tensor, int]:
    """A first guess of the path: explicit Euler from the data end upwards, through the states' nodes."""
    path = x.new_empty((len(nodes), *x.shape))
    order = np.argsort(nodes, kind="stable")
    where, x_bar, nfe = nodes[-1], x / float(scale[-1]), 0
    for s in order:
        if nodes[s] > where:
            slope = predictor.epsilon(x_bar * float(predictor.alpha(where)), float(where))
            nfe += 1
            if not all_finite(slope):
                raise NonFiniteError(f"the prediction at sigma_bar = {where:.6g} is not finite")
            x_bar = x_bar + float(nodes[s] - where) * slope.to(x.dtype)
            where = nodes[s]
        path[s] = x_bar * float(scale[s])
    return path, nfe
