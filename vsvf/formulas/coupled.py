"""Coupled methods: two states, interleaved into one sequence z so that each update is a two-step row of a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vsvf.formula import Formula
from vsvf.formulas.checks import fraction, text
from vsvf.grid import Grid
from vsvf.plan import Plan

Array = np.ndarray


@dataclass(frozen=True, repr=False)
class Coupled(Formula):
    """A method whose step is several two-step rows on the interleaved states (X, Y).

    Attributes:
        stage: (h, node, next node) -> (a, c, nodes, positions) of the rows of one step: a (n, 2), c (n, 3), and for each
            row's result the node of its slope and the position at which it approximates the solution.
    """

    name: str
    order: int
    stage: Callable[[float, float, float], tuple[list, list, list, list]] = field(compare=False)
    source: str = ""
    steps: int = 2

    def plan(self, grid: Grid) -> Plan:
        a: list = []
        c: list = []
        nodes = [grid.sigma_bar[-1]] * 2
        positions = [grid.sigma_bar[-1]] * 2
        for i in range(grid.steps, 0, -1):
            here, there = grid.sigma_bar[i], grid.sigma_bar[i - 1]
            rows_a, rows_c, row_nodes, row_positions = self.stage(here - there, here, there)
            a += rows_a
            c += rows_c
            nodes += row_nodes
            positions += row_positions
        index = np.full(len(nodes), -1)
        index[:: len(a) // grid.steps][: grid.steps + 1] = np.arange(grid.steps, -1, -1)  # the first state after each step
        return Plan(self.name, np.array(a), np.array(c), np.array(nodes), np.array(positions), index=index, last=0)


def edict(p: float = 0.93) -> Coupled:
    """EDICT: two states updated from each other's slope, then mixed,

        X' = X - h eps(Y),   Y' = Y - h eps(X'),   X'' = p X' + (1-p) Y',   Y'' = p Y' + (1-p) X'',

    both slopes at the step's noisy node. Four rows per step, two evaluations. p in [0, 1]; p = 0 is not invertible. Order 1;
    for a fixed p < 1 the two states stay O(h^2) apart. Written in x_bar; the original feeds X' to the network in the scale of
    the next node with the time of this one, which differs by O(h).
    Source: Wallace, Gokul & Naik, CVPR 2023, equation (9) of the paper.
    """
    p = fraction("p", p)

    def stage(h: float, here: float, there: float) -> tuple[list, list, list, list]:
        a = [[0.0, 1.0], [0.0, 1.0], [1.0 - p, p], [1.0 - p, p]]
        c = [[0.0, -h, 0.0], [0.0, -h, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
        return a, c, [here, here, there, there], [there] * 4

    return Coupled(f"edict({text(p)})", 1, stage, "Wallace, Gokul & Naik 2023")


def mccallum_foster(coupling: float = 0.999) -> Coupled:
    """The reversible scheme of McCallum & Foster with Euler's increment,

        Y' = l Y + (1-l) Z - h eps(Z, here),   Z' = Z - h eps(Y', there),

    l = `coupling` in [0, 1]; 0 is not invertible. Two rows and two evaluations per step, order 1.
    Source: McCallum & Foster, Efficient, accurate and stable gradients for neural ODEs, 2024.
    """
    coupling = fraction("coupling", coupling)

    def stage(h: float, here: float, there: float) -> tuple[list, list, list, list]:
        a = [[1.0 - coupling, coupling], [0.0, 1.0]]
        c = [[0.0, -h, 0.0], [0.0, -h, 0.0]]
        return a, c, [there, there], [there, there]

    return Coupled(f"mccallum_foster({text(coupling)})", 1, stage, "McCallum & Foster 2024")
