"""A corrector at the data end: one more row, explicit both ways, that interpolates where the last row extrapolates."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vsvf.formula import Formula, LinearMultistep
from vsvf.formulas import powers
from vsvf.formulas.checks import fraction, text
from vsvf.grid import Grid
from vsvf.plan import Plan

Array = np.ndarray


@dataclass(frozen=True, repr=False)
class Corrected(Formula):
    """A main formula and the corrector row that ends its plan (`corrected`).

    Attributes:
        main: the formula of all other rows. p, mix: the corrector's exponent and M.
    """

    main: LinearMultistep
    p: float
    mix: float
    name: str = field(init=False)
    steps: int = field(init=False)
    order: int = field(init=False)
    source: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"corrected({self.main.name},{text(self.p)},{text(self.mix)})")
        object.__setattr__(self, "steps", self.main.steps)
        object.__setattr__(self, "order", self.main.order)
        object.__setattr__(self, "source", f"corrector row, docs/choosing.md; {self.main.source}")

    def correction(self, nodes: Array) -> tuple[Array, Array]:
        """a (..., k) and c (..., k-1) of the corrector row on nodes s_0 < … < s_{k-1} (..., k); the last node has no slope.

        Raises:
            ValueError: s_0 = 0.
        """
        if np.any(nodes[..., 0] <= 0.0):
            raise ValueError(
                f"{self.name}: the corrector needs sigma_bar > 0 at the data end, this grid ends at 0, where its weights of all "
                "other states vanish: make the grid with final='smallest', or leave the corrector out"
            )
        alpha = np.zeros_like(nodes)
        alpha[..., -2:] = 1.0 - self.mix, self.mix
        return powers.row(nodes[..., 0], nodes, alpha, self.p, powers.exponents(self.steps - 1))

    def plan(self, grid: Grid) -> Plan:
        main, k = self.main.plan(grid), self.steps
        a, slopes = self.correction(grid.sigma_bar[:k])
        c = np.concatenate([[0.0], slopes, [0.0]])
        return Plan(
            self.name,
            np.concatenate([main.a, a[None]]),
            np.concatenate([main.c, c[None]]),
            np.concatenate([main.node, main.node[-1:]]),
            np.concatenate([main.position, main.position[-1:]]),
            np.concatenate([main.index, main.index[-1:]]),
            last=k - 1,
        )


def corrected(formula: Formula, p: float = 0.7, mix: float = 4.0) -> Corrected:
    """A formula and, after its march, one more row whose new state also stands at the last node s_0.

    The row reads the states at s_0, s_1, …, s_{k-1} and the slopes at all of these but the oldest. With z = x_bar / sigma_bar^p it
    takes z_{k-2} (1 - M) + z_{k-1} M and adds slopes so as to be exact for x_bar = sigma_bar^p, 1, sigma_bar, sigma_bar^{3/2}, …
    (k of them; `powers.row`). For k = 3 its conditions on D_1, D_2 are those of `power_fitted_belm` for the nodes
    (s_0; s_0, s_1, s_2) and alpha = (0, 1 - M, M). The state before the correction enters by its slope alone and by what z's
    slope takes of it, so that most of the error of the last row, which extrapolates over the longest step there is against
    sigma_bar, is gone: the slope at s_0 makes an interpolation of it.

    Explicit both ways: solved for the oldest state, whose weight is M (s_0 / s_{k-1})^p, all slopes are known. One evaluation more
    than the main formula, at node 0. Needs sigma_bar_0 > 0: as s_0 goes to 0 the row becomes x_bar' = x_bar, and cannot be solved.

    Args:
        formula: a linear multistep formula of at least 2 steps. p: exponent, 0 to 1. mix: M, not 0.

    Raises:
        ValueError: another kind of formula, an argument out of range, or, on use, a grid that ends at 0.
    """
    if not isinstance(formula, LinearMultistep):
        raise ValueError(f"formula must be a linear multistep formula, such as stable_belm(3), got {formula!r}")
    if formula.steps < 2:
        raise ValueError(f"{formula.name} carries one state, a corrector needs at least 2")
    if not np.isfinite(mix) or mix == 0.0:
        raise ValueError(f"mix must be a finite number other than 0, got {mix!r}")
    return Corrected(formula, fraction("p", p), float(mix))
