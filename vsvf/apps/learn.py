"""A few numbers of a formula (its roots' angles, its exponent) learned for a network, by the gradient of its marches' errors.

The formula's numbers enter a march through the weights of its rows alone. Their derivatives by the numbers are differences of
plans, in float64 and without any evaluation of the network; those of the error by the weights are autograd's, through the
engine's own march with a register that keeps the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vsvf.engine.graph import GraphRegister
from vsvf.engine.march import Question, march, questions
from vsvf.engine.trail import EXPLICIT
from vsvf.engine.watch import Watch
from vsvf.formula import Formula
from vsvf.grid import Grid
from vsvf.plan import Plan
from vsvf.predictors.base import Predictor

Array = np.ndarray
Family = Callable[[Sequence[float]], Formula]
DIRECTIONS = ("sampling", "inversion")
NUDGE = 1e-5  # of a number, for the derivatives of the weights


@dataclass(frozen=True)
class Case:
    """What a formula is judged on: a march in each direction that begins with exact states.

    Attributes:
        predictor: smooth. grid: its nodes. path: x (B, …) of the solution at every node sigma_bar of the grid.
    """

    predictor: Predictor
    grid: Grid
    path: Mapping[float, torch.Tensor]


@dataclass(frozen=True)
class Learned:
    """Numbers and how they came about.

    Attributes:
        numbers: of the least loss. losses: before every step, and the last.
    """

    numbers: list[float]
    losses: list[float]


def learn(
    family: Family, numbers: Sequence[float], cases: Sequence[Case], *, steps: int = 40, learning_rate: float = 0.02
) -> Learned:
    """Change a family's numbers until its marches err less, by Adam.

        learn(lambda n: root_placed_belm(roots_at([n[0]]), n[1]), [0.75, 1.0], [Case(predictor, grid, path)])

    Args:
        family: numbers -> a formula that is explicit both ways. numbers: where it begins.
        cases: the loss is the mean of `log_error` over them and both directions.
        steps, learning_rate: of Adam.
    """
    values = torch.tensor([float(n) for n in numbers], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([values], lr=learning_rate)
    losses: list[float] = []
    best = values.detach().clone()
    for step in range(steps + 1):
        optimiser.zero_grad()
        loss = torch.stack([log_error(family, values, case, way) for case in cases for way in DIRECTIONS]).mean()
        if not losses or float(loss.detach()) < min(losses):
            best = values.detach().clone()
        losses.append(float(loss.detach()))
        if step < steps:
            torch.autograd.backward(loss)
            optimiser.step()
    return Learned(best.tolist(), losses)


def log_error(family: Family, numbers: torch.Tensor, case: Case, direction: str) -> torch.Tensor:
    """The logarithm of the root of the mean squared error of a march from exact states, with its graph by the numbers.

    Args:
        family: numbers -> formula. numbers: (P,) float64. direction: "sampling" or "inversion"; its error is over sigma there.

    Raises:
        ValueError: a formula that is not explicit both ways.
    """
    rows, a, c = _weights(family, numbers, case, direction)
    levels = rows.position
    first = torch.stack([case.path[float(level)].double() for level in levels[: rows.steps]])
    register = GraphRegister(a, c, first)

    def answer(question: Question) -> torch.Tensor:
        with torch.enable_grad():
            return case.predictor.epsilon(question.x, question.sigma_bar)

    march(questions(rows, register, EXPLICIT, Watch()), answer)
    s = rows.rows + rows.last
    size = 1.0 if direction == "sampling" else float(case.predictor.alpha(levels[s]) * levels[s])
    with torch.enable_grad():
        return ((register.state(s) - case.path[float(levels[s])].double()) / size).square().mean().log() / 2.0


def _weights(family: Family, numbers: torch.Tensor, case: Case, direction: str) -> tuple[Plan, torch.Tensor, torch.Tensor]:
    """The rows in the scale of the states, and their weights a, c with the graph by the numbers."""
    here = numbers.detach().tolist()

    def rows_of(values: Sequence[float]) -> Plan:
        plan = family(values).plan(case.grid)
        if not plan.bidirectionally_explicit:
            raise ValueError(f"{plan.name} is not explicit both ways; learn the numbers of a BELM formula")
        plan = plan if direction == "sampling" else plan.inverse()
        return plan.rescaled(case.predictor.alpha(plan.node))

    rows = rows_of(here)
    a, c = torch.tensor(rows.a), torch.tensor(rows.c)
    for p in range(len(here)):
        low, high = (rows_of([*here[:p], here[p] + nudge, *here[p + 1 :]]) for nudge in (-NUDGE, NUDGE))
        change = numbers[p] - here[p]  # 0, with a derivative
        a = a + change * torch.tensor((high.a - low.a) / (2.0 * NUDGE))
        c = c + change * torch.tensor((high.c - low.c) / (2.0 * NUDGE))
    return rows, a, c
