"""UniPC: a predictor and a corrector that share one evaluation per step; as a plan, two rows per step."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vsvf.formula import Formula
from vsvf.formulas.checks import whole_number
from vsvf.grid import Grid
from vsvf.plan import Plan

Array = np.ndarray


@dataclass(frozen=True, repr=False)
class UniPC(Formula):
    """The predictor-corrector `unipc`.

    Attributes:
        width: p, of how many data predictions.
    """

    width: int
    name: str = field(init=False)
    steps: int = field(init=False)
    order: int = 2
    source: str = "Zhao et al. 2023"

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"unipc({self.width})")
        object.__setattr__(self, "steps", 2 * self.width + 1)

    def plan(self, grid: Grid) -> Plan:
        s, count = grid.sigma_bar, grid.steps
        if count < self.width:
            raise ValueError(f"{self.name} needs at least {self.width} steps, the grid has {count}")
        rows: list[tuple[Array, Array]] = []
        node, index = [s[-1]] * self.steps, [count] * self.steps
        for i in range(count - 1, -1, -1):
            order = min(self.width, count - i, i + 1)
            window = s[i : i + order + 1]
            rows.append(_row(window, order, self.steps, corrector=False))
            node.append(s[i])
            index.append(i if i == 0 else -1)
            if i > 0:
                rows.append(_row(window, order, self.steps, corrector=True))
                node.append(s[i])
                index.append(i)
        a, c = (np.array(part) for part in zip(*rows, strict=True))
        place = np.array(node)
        return Plan(self.name, a, c, place, place, index=np.array(index), last=self.steps - 1)


def unipc(p: int = 2) -> UniPC:
    """UniPC-p with B_2(h) = e^h - 1 for the data prediction, p = 1, 2 or 3: predictor UniP-p, corrector UniC-p.

    With lambda = -log sigma_bar, nodes s_0 < s_1 < … (s_0 new), h = lambda_0 - lambda_1, r_j = (lambda_{j+1} - lambda_1)/h and the
    data predictions m_j = P_j - sigma_bar_j eps_bar(P_j), taken at the *predicted* states P,

        P_0 = e^{-h} C_1 + (1 - e^{-h}) [ m_1 + sum_{j=1..p-1} rho_j (m_{j+1} - m_1)/r_j ]
        C_0 = the same with rho', and rho'_p (m_0 - m_1) in the bracket,

    where sum_j rho_j r_j^{n-1} = b_n and b_n (1 - e^{-h}) h^n / n! is what m's n-th derivative adds over the step; as published,
    the single weight of p = 2's predictor and of p = 1's corrector is 1/2. The corrected state C goes on, the slope taken at P is
    used for both: one evaluation per step. The last step has no corrector.

    Starts itself, as published codes do: the first steps and the last ones are of as many data predictions as there are steps
    before them or left. They decide the order on smooth grids, which is 2. No inverse: two rows of a step share their oldest state.
    Source: Zhao, Bai, Rao, Zhou & Lu, UniPC, NeurIPS 2023.

    Raises:
        ValueError: another p, or, on use, fewer steps than p.
    """
    return UniPC(whole_number("p", p, 1, 3))


def _row(nodes: Array, order: int, width: int, corrector: bool) -> tuple[Array, Array]:
    """a (K,) and c (K+1,) of one row on the window of `order` + 1 nodes; the states, newest first, are [P_0], C_1, P_1, C_2, P_2, …

    The row that ends at s_0 = 0 is the first-order one: its state is the data prediction.
    """
    a, c = np.zeros(width), np.zeros(width + 1)
    behind = 1 if corrector else 0  # P_0 stands before C_1
    decay = nodes[0] / nodes[1]
    gain = 1.0 - decay
    weights = np.zeros(order + 1)  # of m_0, m_1, …, m_order
    weights[1] = gain
    if order > 1 or corrector:
        h = np.log(nodes[1] / nodes[0])
        r = np.log(nodes[1] / nodes[2 : order + 1]) / h
        points = np.append(r, 1.0) if corrector else r
        for j, rho in enumerate(_rho(points, h), start=2):
            target = 0 if j > order else j  # the last point of the corrector is the new node
            weights[target] += gain * rho / points[j - 2]
            weights[1] -= gain * rho / points[j - 2]
    a[behind] = decay
    for j, weight in enumerate(weights):
        if weight == 0.0:
            continue
        place = 0 if j == 0 else behind + 2 * j - 1
        a[place] += weight
        c[place + 1] -= weight * nodes[j]
    return a, c


def _rho(points: Array, h: float) -> Array:
    """The weights rho: sum_j rho_j r_j^{n-1} = b_n, n = 1 … len(points)."""
    if len(points) == 1:
        return np.array([0.5])
    b, phi, factorial = [], np.expm1(-h) / -h - 1.0, 1.0
    for n in range(1, len(points) + 1):
        b.append(phi * factorial / np.expm1(-h))
        factorial *= n + 1
        phi = phi / -h - 1.0 / factorial
    return np.linalg.solve(points[None, :] ** np.arange(len(points))[:, None], np.array(b))
