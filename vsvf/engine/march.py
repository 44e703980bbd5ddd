"""The engine: one loop that runs any plan, in either direction, and asks for the slopes it needs.

A plan's rows only say which states and slopes are summed with which weights, so sampling, inversion (the same relations
solved for the oldest state), implicit rows and Runge-Kutta starters are all runs of `questions`. It is a generator: it yields a
state and is sent the slope there. Whoever answers (a predictor, a diffusers pipeline, a user who steps by hand) need not know in
which order slopes are taken and rows formed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch

from vsvf.engine.iteration import Anderson, Iteration
from vsvf.engine.register import Register
from vsvf.engine.watch import Watch
from vsvf.errors import ConvergenceError
from vsvf.plan import Plan

Result = TypeVar("Result")


class Question(NamedTuple):
    """A state whose slope is wanted.

    Attributes:
        x: the state, x = alpha x_bar, (B, …): a view of the engine's memory, which must not be changed and is overwritten later.
        s: its number in the order of march. rows: the plan that it belongs to.
        copied: called with s, gives x in memory of its own, which may be kept and changed; None where nothing does.
    """

    x: torch.Tensor
    s: int
    rows: Plan
    copied: Callable[[int], torch.Tensor] | None = None

    @property
    def sigma_bar(self) -> float:
        """The level at which the slope is taken."""
        return self.rows.node.item(self.s)


Questions = Generator[Question, torch.Tensor, Result]


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


def questions(
    rows: Plan,
    register: Register,
    iteration: Iteration,
    watch: Watch,
    after: Callable[[int], None] | None = None,
    start: int = 0,
) -> Questions[None]:
    """The rows of a plan as a conversation: yields a `Question`, is sent eps there.

        z_{K+m} = sum_j a[m, j-1] z_{K+m-j} + sum_j c[m, j] eps(z_{K+m-j})

    Args:
        rows: the plan in marching order, in the scale of the register's states.
        register: holds the states K + start - 1 and older. A slope that it has is not asked for; none is asked for twice.
        iteration: for implicit rows.
        watch: is shown every slope.
        after: called with m when row m is done.
        start: the first row to be formed.
    """
    steps = rows.steps
    for m, weights in enumerate(rows.c[start:].tolist(), start):
        for j in range(steps, 0, -1):
            s = steps + m - j
            if weights[j] != 0.0 and not register.has_slope(s):
                slope = yield Question(register.state(s), s, rows, register.copied)
                watch.slope(slope, rows, s, register)
                register.put_slope(s, slope)
        register.advance(m)
        if weights[0] != 0.0:
            yield from _solve(register, rows, steps + m, weights[0], iteration, watch)
        if after is not None:
            after(m)


def _solve(register: Register, rows: Plan, s: int, weight: float, iteration: Iteration, watch: Watch) -> Questions[None]:
    """Solve z = explicit part + weight eps(z) for state s by fixed-point iteration."""
    explicit = register.state(s).clone()
    acceleration = Anderson()
    change = float("inf")
    for _ in range(iteration.cap):
        slope = yield Question(register.state(s), s, rows, register.copied)
        watch.slope(slope, rows, s, register)
        new = explicit + weight * slope
        old = register.state(s).clone()
        change = float((new - old).abs().max() / new.abs().max().clamp(min=1.0))
        if change <= iteration.tolerance:
            slope = slope.clone()  # it may be (a view of) the state, which is about to change
            register.put(s, new)
            register.put_slope(s, slope)
            return
        if change != change:  # nan: nothing will mend it
            register.put(s, new)
            watch.check()
        register.put(s, acceleration.step(old, new, change))
    raise ConvergenceError(
        f"{rows.name}: the implicit row for state {s} is not solved: after {iteration.cap} iterations the relative change is "
        f"{change:.3g}, the tolerance {iteration.tolerance:.3g}; take more steps, raise max_iterations, or use an explicit formula",
        residual=change,
        iterations=iteration.cap,
    )


@torch.no_grad()
def march(conversation: Questions[Result], answer: Callable[[Question], torch.Tensor]) -> Result:
    """Answer every question of a conversation, and return what it returns.

    Args:
        conversation: `questions(…)`, or several of them joined by `yield from`.
        answer: gives eps at a question's state, (B, …).
    """
    try:
        question = next(conversation)
        while True:
            question = conversation.send(answer(question))
    except StopIteration as end:
        return end.value
