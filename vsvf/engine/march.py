"""The engine: one loop that runs any plan, in either direction.

A plan's rows only say which states and slopes are summed with which weights, so sampling, inversion (the same relations
solved for the oldest state), implicit rows and Runge-Kutta starters are all runs of `march`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from vsvf.engine.floating import all_finite
from vsvf.engine.iteration import Anderson, Iteration
from vsvf.engine.register import Register
from vsvf.errors import ConvergenceError, NonFiniteError
from vsvf.plan import Plan
from vsvf.predictors.base import Predictor


@dataclass(frozen=True)
class Step:
    """What a callback is told after each row.

    Attributes:
        row, rows: rows done and in all.
        sigma_bar: where the newest state approximates the solution.
        x: the newest state, a view that the next rows overwrite: clone it to keep it.
        nfe: evaluations of eps so far.
    """

    row: int
    rows: int
    sigma_bar: float
    x: torch.Tensor
    nfe: int


class Evaluator:
    """eps at the states of a plan, counted and checked.

    Args:
        predictor: the predictor.
        rows: the plan in marching order (its nodes are where slopes are taken).
        nfe: evaluations counted already.
    """

    def __init__(self, predictor: Predictor, rows: Plan, nfe: int = 0) -> None:
        self.predictor = predictor
        self.nodes = rows.node.tolist()
        self.times = predictor.time(rows.node).tolist()
        self.name = rows.name
        self.nfe = nfe

    def __call__(self, x: torch.Tensor, s: int) -> torch.Tensor:
        version = 0 if x.is_inference() else x._version  # inference tensors have none
        slope = self.predictor.epsilon(x, self.nodes[s], self.times[s])
        self.nfe += 1
        if not x.is_inference() and x._version != version:
            raise ValueError("the predictor changed its input x in place; it must leave x as it is (clone it first)")
        if not all_finite(slope):
            what = "prediction" if all_finite(x) else "state itself, and so the prediction,"
            raise NonFiniteError(
                f"{self.name}: the {what} at state {s} (sigma_bar = {self.nodes[s]:.6g}, t = {self.times[s]:.6g}, "
                f"evaluation {self.nfe}) is not finite"
            )
        return slope


@torch.no_grad()
def march(
    rows: Plan,
    register: Register,
    evaluate: Callable[[torch.Tensor, int], torch.Tensor],
    iteration: Iteration,
    after: Callable[[int], None] | None = None,
) -> None:
    """Run all rows of a plan.

        z_{K+m} = sum_j a[m, j-1] z_{K+m-j} + sum_j c[m, j] eps(z_{K+m-j})

    Args:
        rows: the plan in marching order, in the scale of the register's states.
        register: holds the first K states.
        evaluate: (x, s) -> eps at state s. Called once per state whose slope some row needs.
        iteration: for implicit rows.
        after: called with s = K + m when state s is done.
    """
    steps = rows.steps
    reads = [[j for j in range(steps, 0, -1) if weights[j] != 0.0] for weights in rows.c.tolist()]
    implicit = rows.c[:, 0].tolist()
    for m, columns in enumerate(reads):
        s = steps + m
        for j in columns:
            if not register.has_slope(s - j):
                register.put_slope(s - j, evaluate(register.state(s - j), s - j))
        register.advance(m)
        if implicit[m] != 0.0:
            _solve(register, evaluate, s, implicit[m], iteration, rows.name)
        if after is not None:
            after(s)


def _solve(
    register: Register,
    evaluate: Callable[[torch.Tensor, int], torch.Tensor],
    s: int,
    weight: float,
    iteration: Iteration,
    name: str,
) -> None:
    """Solve z = explicit part + weight eps(z) for state s by fixed-point iteration."""
    explicit = register.state(s).clone()
    acceleration = Anderson()
    change = float("inf")
    for _ in range(iteration.cap):
        slope = evaluate(register.state(s), s)
        new = explicit + weight * slope
        old = register.state(s).clone()
        change = float((new - old).abs().max() / new.abs().max().clamp(min=1.0))
        if change <= iteration.tolerance:
            slope = slope.clone()  # it may be (a view of) the state, which is about to change
            register.put(s, new)
            register.put_slope(s, slope)
            return
        register.put(s, acceleration.step(old, new, change))
    raise ConvergenceError(
        f"{name}: the implicit row for state {s} is not solved: after {iteration.cap} iterations the relative change is "
        f"{change:.3g}, the tolerance {iteration.tolerance:.3g}; take more steps, raise max_iterations, or use an explicit formula",
        residual=change,
        iterations=iteration.cap,
    )
