"""A formula on a predictor of one's own, before it is used: how spurious modes grow, and what error its rows will make.

Stability on Gaussian data knows one Jacobian; weak instability depends on the network's. Here the Jacobian is measured, by
differences along a trajectory x_bar(s) of the predictor, and carried through the rows linearised there,

    d_new = sum_j a_j d_j + sum_j c_j J_j d_j,   J_j d = (eps_bar(x_bar_j + eta d) - eps_bar(x_bar_j)) / eta,

once for perturbations of the starting window that no solution has (states that differ at neighbouring nodes), and once for the
rows' own truncation errors tau = x_bar_new - row(x_bar), which need no further evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from vsvf import formulas
from vsvf.formula import Formula
from vsvf.formulas.belm import belm
from vsvf.grid import Grid
from vsvf.plan import Plan
from vsvf.predictors.base import Predictor
from vsvf.solve import integrate

Array = np.ndarray

WORSE = 2.0  # times O-BELM's error, estimated: the march itself may be half as much worse again
GROWING = (
    10.0  # a spurious perturbation that sampling multiplies by more than this carries the error of the first rows to the image
)
RATIO = 1.3  # largest ratio of neighbouring sigma_bar along the trajectory


@dataclass(frozen=True)
class Way:
    """What `examine` found in one direction.

    Attributes:
        sampling: whether the march runs towards the data.
        sigma_bar: (M,) where the rows' new states stand, in the order of the march.
        growth: (M,) rms of a spurious perturbation there, in x_bar, over that of the starting window; the largest over the window's
            patterns.
        error: (M,) rms of the error that truncation makes of every state, in x_bar, from exact starting states, as far as it is
            linear. reference_error: O-BELM's at the end of the march.
    """

    sampling: bool
    sigma_bar: Array
    growth: Array
    error: Array
    reference_error: float

    @property
    def ratio(self) -> float:
        """The error at the end of the march over O-BELM's."""
        return float(self.error[-1] / self.reference_error)

    @property
    def suspect(self) -> bool:
        """More than twice O-BELM's error at the end, or, in sampling, spurious perturbations that grow more than tenfold.

        (Inversion has to undo what sampling damps, so there growth alone says little.)
        """
        return not self.ratio <= WORSE or (self.sampling and not np.max(self.growth) <= GROWING)

    @property
    def sentence(self) -> str:
        """In words."""
        worst = int(np.argmax(np.where(np.isfinite(self.growth), self.growth, np.inf)))
        text = (
            f"its error is {_short(self.ratio)} times O-BELM's; perturbations that no solution has grow at most "
            f"{_short(self.growth[worst])}-fold, at sigma_bar = {self.sigma_bar[worst]:.3g}"
        )
        return f"do not use it here: {text}" if self.suspect else text


@dataclass(frozen=True)
class Examination:
    """A formula on a predictor and a grid; `inversion` is None where the inverse is not explicit.

    Attributes:
        formula, grid: as text. sampling, inversion: what was found each way. nfe: evaluations of eps that it took, per image.
    """

    formula: str
    grid: str
    sampling: Way
    inversion: Way | None
    nfe: int

    @property
    def suspect(self) -> bool:
        """Whether one of the directions is."""
        return self.sampling.suspect or (self.inversion is not None and self.inversion.suspect)

    @property
    def sentence(self) -> str:
        """In words."""
        parts = [f"sampling: {self.sampling.sentence}"]
        if self.inversion is not None:
            parts.append(f"inversion: {self.inversion.sentence}")
        return f"{self.formula} on this predictor: " + "; ".join(parts)


def examine(
    predictor: Predictor, x: torch.Tensor, grid: Grid, formula: Formula | str, generator: torch.Generator | None = None
) -> Examination:
    """Examine a formula on a predictor, a grid and a few samples of noise, before anything is sampled with it.

    Linear in the errors: what it says of a formula that stays close to the solution is quantitative, of one that does not it is a
    warning.

    Args:
        predictor: gives eps and the scale of x.
        x: noise x_N (B, …), in the predictor's scale: B = 2 is enough. The trajectory starts there.
        grid: the nodes. formula: a formula without implicit rows, or its name.
        generator: draws the directions of the perturbations; default one with seed 0.

    Returns:
        an `Examination`, after about 4 N evaluations for the trajectory, N for each pattern (k-1 of them) and direction, and
        2 N for each direction's errors.

    Raises:
        ValueError: an implicit formula. NonFiniteError: a trajectory that is not finite.
    """
    chosen = formulas.by_name(formula) if isinstance(formula, str) else formula
    plan, reference = chosen.plan(grid), belm(2).plan(grid)
    if not plan.explicit:
        raise ValueError(f"{chosen.name} is implicit: its rows have to be solved, which the examination does not do")
    path = _Path(predictor, x, np.concatenate([plan.position, plan.node]))
    draw = torch.Generator().manual_seed(0) if generator is None else generator

    def way(rows: Plan, base: Plan) -> Way:
        growth = path.carried(rows, path.patterns(rows, draw), None)
        error = path.carried(rows, None, path.truncation(rows))
        base_error = path.carried(base, None, path.truncation(base))
        return Way(rows is plan, rows.position[rows.steps :], growth, error, float(base_error[-1]))

    sampling = way(plan, reference)
    inversion = way(plan.inverse(), reference.inverse()) if plan.backward_explicit else None
    return Examination(chosen.name, repr(grid), sampling, inversion, path.nfe)


class _Path:
    """States x_bar and slopes eps_bar of a trajectory at all levels that plans need, and directional derivatives there."""

    def __init__(self, predictor: Predictor, x: torch.Tensor, levels: Array) -> None:
        self.predictor, self.nfe = predictor, 0
        wanted = np.unique(levels)[::-1]
        state = x.double()
        self.states = {float(wanted[0]): state / float(predictor.alpha(wanted[0]))}
        for high, low in pairwise(wanted):
            if low == 0.0:
                nodes = np.array([high, low])
            else:
                nodes = np.geomspace(high, low, int(np.ceil(np.log(high / low) / np.log(RATIO))) + 1)
                nodes[[0, -1]] = high, low
            state, evaluations = integrate(predictor, state, nodes, "rk4")
            self.nfe += evaluations
            self.states[float(low)] = state / float(predictor.alpha(low))
        self.slopes: dict[tuple[float, float], torch.Tensor] = {}

    def epsilon(self, x_bar: torch.Tensor, level: float) -> torch.Tensor:
        self.nfe += len(x_bar) // len(next(iter(self.states.values())))
        return self.predictor.epsilon(x_bar * float(self.predictor.alpha(level)), level).double()

    def slope(self, rows: Plan, s: int) -> torch.Tensor:
        """eps_bar of state s of a plan (coupled methods take it at another node than where the state stands)."""
        place = float(rows.position[s]), float(rows.node[s])
        if place not in self.slopes:
            self.slopes[place] = self.epsilon(self.states[place[0]], place[1])
        return self.slopes[place]

    def derivative(self, direction: torch.Tensor, rows: Plan, s: int) -> torch.Tensor:
        """J d at state s for directions (P, B, …), by a difference as long as balances rounding against curvature."""
        x = self.states[float(rows.position[s])]
        size = direction.pow(2).mean(dim=tuple(range(2, direction.ndim)), keepdim=True).sqrt()
        eta = float(torch.finfo(self.predictor.dtype or torch.float64).eps) ** 0.5
        eta *= float(x.pow(2).mean().sqrt()) + 1e-30
        moved = x + eta * direction / size.clamp_min(1e-300)
        found = self.epsilon(moved.flatten(0, 1), float(rows.node[s])).reshape(direction.shape)
        return (found - self.slope(rows, s)) / eta * size

    def patterns(self, rows: Plan, generator: torch.Generator) -> list[torch.Tensor]:
        """The starting window of K states, (P, B, …) each: P = K-1 orthonormal patterns over the window, each of mean zero, times
        random directions. (One state only: that state perturbed.)"""
        x = next(iter(self.states.values()))
        k = rows.steps
        basis = np.ones((1, 1)) if k == 1 else np.linalg.qr(np.concatenate([np.ones((k, 1)), np.eye(k)[:, 1:]], axis=1))[0][:, 1:]
        noise = torch.randn((basis.shape[1], *x.shape), generator=generator, dtype=torch.float64)
        return [torch.from_numpy(basis[n]).reshape(-1, *[1] * x.ndim) * noise for n in range(k)]

    def truncation(self, rows: Plan) -> list[torch.Tensor]:
        """tau of every row, (1, B, …) each."""
        found = []
        for m in range(rows.rows):
            value = self.states[float(rows.position[m + rows.steps])].clone()
            for j in range(rows.steps + 1):
                s = m + rows.steps - j
                if j and rows.a[m, j - 1]:
                    value -= rows.a[m, j - 1] * self.states[float(rows.position[s])]
                if rows.c[m, j]:
                    value -= rows.c[m, j] * self.slope(rows, s)
            found.append(value[None])
        return found

    def carried(self, rows: Plan, start: list[torch.Tensor] | None, sources: list[torch.Tensor] | None) -> Array:
        """rms of the perturbation of every new state, (M,): of a starting window, or of errors committed by the rows."""
        k = rows.steps
        zero = torch.zeros_like(next(iter(self.states.values())))[None]
        d = list(start) if start is not None else [zero] * k
        moved: dict[int, torch.Tensor] = {}
        sizes = []
        for m in range(rows.rows):
            new = torch.zeros_like(d[-1]) if sources is None else sources[m].clone()
            for j in range(1, k + 1):
                s = m + k - j
                if rows.a[m, j - 1]:
                    new = new + rows.a[m, j - 1] * d[s]
                if rows.c[m, j] and bool(d[s].any()):
                    if s not in moved:
                        moved[s] = self.derivative(d[s], rows, s)
                    new = new + rows.c[m, j] * moved[s]
            d.append(new)
            moved.pop(m, None)
            size = new.pow(2).mean(dim=tuple(range(1, new.ndim))).sqrt().max()
            sizes.append(float(size) if bool(torch.isfinite(size)) else float("inf"))
            if not np.isfinite(sizes[-1]) or sizes[-1] > 1e100:
                return np.array(sizes + [np.inf] * (rows.rows - m - 1))
        scale = 1.0
        if start is not None:
            scale = float(torch.stack(start).pow(2).mean().sqrt()) or 1.0
        return np.array(sizes) / scale


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 1e4 else f"{value:.0e}" if np.isfinite(value) else "1e100"
