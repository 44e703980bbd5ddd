"""Starters: the K states that a K-step method needs, from one. Data as well: a Runge-Kutta tableau, compiled to a plan."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vsvf.formula import Formula, LinearMultistep
from vsvf.plan import Plan

Array = np.ndarray


@dataclass(frozen=True)
class Starter:
    """An explicit Runge-Kutta method with `substeps` equal steps per missing state.

        Y_q = x + h sum_{r<q} A[q][r] f(Y_r, s + C[q] h),   x_new = x + h sum_r B[r] f(Y_r).

    Attributes:
        name: as given to `sample` and `invert`, for instance "heun" or "rk4:8".
        order: of the global error.
        stages: rows A of the tableau below the diagonal; weights: B; nodes: C.
        substeps: Runge-Kutta steps per missing state.
    """

    name: str
    order: int
    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    nodes: tuple[float, ...]
    substeps: int = 1

    @property
    def evaluations(self) -> int:
        """Evaluations of eps per missing state."""
        return len(self.weights) * self.substeps

    def plan(self, positions: Array) -> Plan:
        """The plan that steps from positions[0] to positions[1], positions[2], … (in either direction).

        With q stages its rows look back q states; state q - 1 is the given one (q - 1 copies of it stand before, with weight
        zero), and states q - 1 + evaluations * n are those at positions[n].
        """
        count = len(self.weights)
        a: list[Array] = []
        c: list[Array] = []
        nodes = [positions[0]] * count
        for here, there in pairwise(positions):
            grid = np.linspace(here, there, self.substeps + 1)
            for s, h in zip(grid[:-1], np.diff(grid)):
                for q in range(1, count + 1):  # stage q, and at last the result
                    row_a, row_c = np.zeros(count), np.zeros(count + 1)
                    row_a[q - 1] = 1.0  # the step's first state stands q back
                    slopes = self.stages[q] if q < count else self.weights
                    row_c[q:0:-1] = h * np.asarray(slopes)  # stage r stands q - r back
                    a.append(row_a)
                    c.append(row_c)
                    nodes.append(s + h * (self.nodes[q] if q < count else 1.0))
            nodes[-1] = there
        place = np.array(nodes)
        return Plan(self.name, np.array(a).reshape(-1, count), np.array(c).reshape(-1, count + 1), place, place, last=count - 1)


TABLEAUS: dict[str, Starter] = {
    "ddim": Starter("ddim", 1, ((),), (1.0,), (0.0,)),
    "heun": Starter("heun", 2, ((), (1.0,)), (0.5, 0.5), (0.0, 1.0)),
    "rk4": Starter("rk4", 4, ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), (0.0, 0.5, 0.5, 1.0)),
    # EES(2,5; 1/10): a step and the step back return to O(h^6). Barancikova, Shmelev & Salvi, arXiv 2605.16399 (2026)
    "ees25": Starter("ees25", 2, ((), (1 / 3,), (-5 / 48, 15 / 16)), (1 / 10, 1 / 2, 2 / 5), (0.0, 1 / 3, 5 / 6)),
}

LOWER_ORDER = "lower_order"


def starter_by_name(name: str | Starter) -> Starter:
    """ "ddim" (Euler, order 1), "heun" (2), "rk4" (4) or "ees25" (2, nearly reversible), with ":n" for n sub-steps per missing
    state, as in "rk4:8".

    Raises:
        ValueError: an unknown name.
    """
    if isinstance(name, Starter):
        return name
    match = re.fullmatch(r"(ddim|heun|rk4|ees25)(?::([1-9]\d*))?", str(name))
    if match is None:
        raise ValueError(
            f"starter={name!r} is not known; choose 'ddim', 'heun', 'rk4', 'ees25', one of these with sub-steps as in 'rk4:8', or "
            "'lower_order' for families that start themselves"
        )
    base = TABLEAUS[match[1]]
    substeps = int(match[2] or 1)
    return Starter(str(name), base.order, base.stages, base.weights, base.nodes, substeps)


def lower_order_plan(formula: Formula, positions: Array, alpha: Array) -> Plan:
    """A start with the same family's formulas of 1, 2, …, k-1 steps (as LMS, DEIS and DPM-Solver++ codes do).

    `positions` are the first k nodes in sampling direction (decreasing), alpha the alphas there. State k - 2 is the given one.

    Raises:
        ValueError: the family has no lower members.
    """
    family = formula.lower_order if isinstance(formula, LinearMultistep) else None
    if family is None:
        raise ValueError(f"starter='lower_order': {formula.name} has no formulas with fewer steps to start with")
    width = formula.steps - 1
    a, c = np.zeros((width, width)), np.zeros((width, width + 1))
    for n in range(1, width + 1):
        row_a, row_c = family(n).weights(positions[n::-1], alpha[n::-1])
        a[n - 1, :n], c[n - 1, : n + 1] = row_a, row_c
    place = np.concatenate([np.full(width - 1, positions[0]), positions])
    return Plan(LOWER_ORDER, a, c, place, place, last=width - 1)
