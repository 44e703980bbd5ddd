"""Predictor-corrector BELM: two states to a node, one evaluation, and every row explicit in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vsvf.formula import Formula
from vsvf.formulas import powers
from vsvf.formulas.checks import fraction, real, text
from vsvf.formulas.root_placed import roots_at
from vsvf.grid import Grid
from vsvf.plan import Plan

Array = np.ndarray
Angles = float | Sequence[float]


@dataclass(frozen=True, repr=False)
class PredictorCorrector(Formula):
    """A predictor and a corrector row for every node (`pec_belm`).

    Attributes:
        p: exponent of z. corrector, predictor: angles of their modes, in units of pi. gamma, beta: of the modes' weights.
        nodes: k, the nodes that a row reads besides the new one; a window holds `steps` = 2 k states.
    """

    p: float
    corrector: tuple[float, ...]
    predictor: tuple[float, ...]
    gamma: float
    beta: float
    name: str = field(init=False)
    nodes: int = field(init=False)
    steps: int = field(init=False)
    order: int = field(init=False)
    source: str = field(init=False, default="predictor-corrector BELM, docs/stability.md")

    def __post_init__(self) -> None:
        angles = f"{_listed(self.corrector)},{_listed(self.predictor)}"
        object.__setattr__(self, "name", f"pec_belm({text(self.p)},{angles},{text(self.gamma)},{text(self.beta)})")
        nodes = len(roots_at(self.predictor))
        for name, value in (("nodes", nodes), ("steps", 2 * nodes), ("order", nodes)):
            object.__setattr__(self, name, value)

    def rows(self, window: Array, log_weight: Array) -> tuple[Array, Array]:
        """a (..., 2, 2 k) and c (..., 2, 2 k + 1) of the predictor's row and the corrector's behind it, in x_bar and eps_bar.

        Args:
            window: (..., k+1) nodes s_0 < … < s_k. log_weight: ln w there.
        """
        k, new = self.nodes, window[..., 0]
        damped = _recursion(self.predictor) * np.exp(log_weight[..., :1] - log_weight[..., 1:])  # of z(P_j) - z(C_j)
        kept = _recursion(self.corrector) * np.exp(log_weight[..., :1] - log_weight[..., 1:k])  # of z(C_{j-1}) - z(C_j)
        start = np.zeros((*window.shape[:-1], k))
        start[..., 0] = 1.0
        placed = start.copy()
        placed[..., :-1] += kept
        placed[..., 1:] -= kept
        ratio = (window[..., :1] / window) ** self.p
        a, c = np.zeros((*window.shape[:-1], 2, 2 * k)), np.zeros((*window.shape[:-1], 2, 2 * k + 1))
        # states of the predictor's row, newest first: C_1, P_1, …, C_k, P_k
        _, slopes = powers.row(new, window[..., 1:], start, self.p, powers.exponents(k - 1))
        a[..., 0, 0::2] = ratio[..., 1:] * (start - damped)
        a[..., 0, 1::2] = ratio[..., 1:] * damped
        a[..., 0, 1:-1:2] -= self.p * slopes / window[..., 1:-1]
        c[..., 0, 2:-1:2] = slopes
        # of the corrector's: P_0, C_1, P_1, …, P_{k-1}, C_k
        _, slopes = powers.row(
            new, window, np.concatenate([np.zeros_like(new)[..., None], placed], -1), self.p, powers.exponents(k)
        )
        a[..., 1, 1::2] = ratio[..., 1:] * placed
        a[..., 1, 0::2] = -self.p * slopes / window[..., :-1]
        c[..., 1, 1::2] = slopes
        return a, c

    def plan(self, grid: Grid) -> Plan:
        k, s = self.nodes, grid.sigma_bar
        if grid.steps < k:
            raise ValueError(f"{self.name} needs at least {k} steps, the grid has {grid.steps}")
        if s[0] <= 0.0:
            raise ValueError(
                f"{self.name} divides by a power of sigma_bar and needs sigma_bar > 0 at the data end, this grid ends at 0: make "
                "it with final='smallest'"
            )
        log_weight = self.gamma * np.log(np.log(s[1:] / s[:-1])) + 0.5 * (self.beta - self.p) * (np.log(s[1:]) + np.log(s[:-1]))
        log_weight = np.append(log_weight, log_weight[-1])
        windows, weights = (np.lib.stride_tricks.sliding_window_view(v, k + 1)[::-1] for v in (s, log_weight))
        a, c = self.rows(windows, weights)
        places = np.repeat(s[::-1], 2)
        index = np.full(len(places), -1)
        index[1::2] = np.arange(grid.steps, -1, -1)
        return Plan(self.name, a.reshape(-1, 2 * k), c.reshape(-1, 2 * k + 1), places, places, index, first=1, last=2 * k - 1)


def pec_belm(p: float = 1.0, phi: Angles = 1.0, theta: Angles = 1 / 3, gamma: float = 0.5, beta: float = 1.0) -> PredictorCorrector:
    """The bidirectionally explicit predictor-corrector formula PEC(p, phi, theta, gamma, beta).

    Every node has a predicted state P and a corrected one C, and eps is asked at P alone: one evaluation to a node. With
    z = x_bar / sigma_bar^p, its slope r = (eps_bar(P) - p P / sigma_bar) sigma_bar^{1-p} (to ln sigma_bar) and nodes s_0 < … < s_k,
    s_0 new,

        z(P_0) = z(C_1) + sum_{j=1..k-1} E_j r_j + sum_{j=1..k} D_j (w_0 / w_j) (z(P_j) - z(C_j)),
        z(C_0) = z(C_1) + sum_{j=2..k} B_j (w_0 / w_{j-1}) (z(C_{j-1}) - z(C_j)) + sum_{j=0..k-1} F_j r_j.

    The E_j and F_j make the rows exact for x_bar = sigma_bar^p, 1, sigma_bar, sigma_bar^{3/2}, … (k - 1 functions besides
    sigma_bar^p for the predictor, k for the corrector, which interpolates where an explicit formula extrapolates). The B_j are
    those of the polynomial prod (y - e^{+-i pi phi}) = y^{k-1} - sum_{j=2..k} B_j y^{k-j}, the D_j of prod (y - e^{+-i pi theta})
    = y^k - sum_{j=1..k} D_j y^{k-j}, and

        w_j = ln(s_{j+1} / s_j)^gamma (s_j s_{j+1})^{(beta - p)/2}

    is the weight of the interval above s_j (at the noise end, that below). So with r frozen the differences z(P) - z(C) and the
    increments of z(C), each over its weight, are bounded in both directions on any grid: zero-stable for z both ways
    (docs/stability.md). A smooth defect g of the prediction leaves z(P) - z(C) = g / prod (1 - e^{i pi theta}), less than it.

    Explicit both ways: the corrector's row gives its oldest state C_k from slopes at P_0 … P_{k-1}, the predictor's then P_k from
    slopes at P_1 … P_{k-1}. The image is C. From noise or an image alone P = C = the starter's states. N steps take N evaluations
    from k given states, one of them at node 0. Order k. Needs sigma_bar_0 > 0.

    Args:
        p: from 0 to 1 (1: r is the slope that the prediction of x_0 gives).
        phi: angles of the corrector's k-1 modes, in units of pi, 0 < phi <= 1; one below 1 stands for a pair, 1 for the mode -1.
        theta: likewise of the predictor's k modes, other angles than the corrector's (whose modes drive the predictor's).
        gamma, beta: finite real numbers.

    Raises:
        ValueError: an argument out of range, or, on use, a grid that ends at sigma_bar = 0.
    """
    corrector, predictor = _angles("phi", phi), _angles("theta", theta)
    modes = len(roots_at(corrector)), len(roots_at(predictor))
    if modes[1] != modes[0] + 1:
        raise ValueError(
            f"theta={theta!r} gives {modes[1]} modes and phi={phi!r} {modes[0]}: the predictor must have one more (an angle "
            "below 1 gives two)"
        )
    for angle in set(corrector) & set(predictor):
        raise ValueError(f"angle {text(angle)} stands in both phi and theta: the corrector's mode would drive the predictor's")
    return PredictorCorrector(fraction("p", p), corrector, predictor, real("gamma", gamma), real("beta", beta))


def _angles(name: str, value: Angles) -> tuple[float, ...]:
    angles = tuple(fraction(name, angle) for angle in ((value,) if isinstance(value, (int, float)) else value))
    if not angles or 0.0 in angles or len(set(angles)) < len(angles):
        raise ValueError(f"{name} must be one or more different angles in (0, 1], in units of pi, got {value!r}")
    return angles


def _recursion(angles: tuple[float, ...]) -> Array:
    return -np.real(np.poly(roots_at(angles)))[1:]


def _listed(angles: tuple[float, ...]) -> str:
    return text(angles[0]) if len(angles) == 1 else f"({','.join(map(text, angles))})"
