"""A search for the best root-placed BELM formulas, on plans alone.

The objective is the propagated local truncation error E on Gaussian data (`stability_gaussian`). E_sampling and E_inversion are the
root mean squares of E over s = 0.01 … 1, each divided by O-BELM's on the same grid. The objective is the product of their
worst values over Stable Diffusion and DDPM grids of several N. Constraints: K in both directions, and max |phi| along
sampling, which is how far weak instability lets a perturbation grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from vsvf.formula import Formula, LinearMultistep
from vsvf.formulas.belm import belm
from vsvf.formulas.root_placed import root_placed_belm, roots_at
from vsvf.grid import Grid
from vsvf.schedule import Schedule
from vsvf.stability.gaussian import truncation_errors
from vsvf.stability.grids import uniform_time
from vsvf.stability.growth import log_amplification

Array = np.ndarray

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
DIVISIONS = 12  # angles are multiples of pi / 12, from pi / 6 on: nearer to 1 the mode constant of the bound grows


@dataclass(frozen=True)
class Task:
    """What a k-step formula is searched for: the numbers of steps it is meant for, the limits on its growth, and the slopes'
    coordinates tried."""

    steps: tuple[int, ...]
    k_sampling: float = 20.0
    k_inversion: float = 1500.0
    reaction: float = 20.0
    slope_rhos: tuple[int, ...] = (1,)


# With more than two slopes a coordinate makes weak instability worse (largest reaction of stable_belm(4) with rho = 1, 2, 3: 18.8,
# 23.8, 26.7), and a network's samples more than Gaussian data show (docs/stability.md): there it is not searched.
# No 6-step member keeps weak instability below 20 even at N = 100: its limits are wider, and stable_belm says so.
TASKS = {
    2: Task((20, 50, 100)),
    3: Task((20, 50, 100), slope_rhos=(1, 2, 3)),
    4: Task((50, 100)),
    5: Task((50, 100)),
    6: Task((100, 200), k_sampling=40.0, reaction=500.0),
}


@dataclass(frozen=True)
class Score:
    """A formula's numbers, each the worst over the grids; errors relative to O-BELM's.

    Attributes:
        sampling, inversion: propagated truncation error / that of belm(2).
        k_sampling, k_inversion: K.
        reaction: max |phi| along sampling.
    """

    sampling: float
    inversion: float
    k_sampling: float
    k_inversion: float
    reaction: float

    @property
    def objective(self) -> float:
        return self.sampling * self.inversion

    def feasible(self, task: Task) -> bool:
        return self.k_sampling <= task.k_sampling and self.k_inversion <= task.k_inversion and self.reaction <= task.reaction


@dataclass(frozen=True)
class Member:
    """A root-placed formula by the angles of its roots (in units of pi, 1 for the root -1), its exponent and its slopes' rho."""

    angles: tuple[float, ...]
    exponent: float
    slope_rho: int
    score: Score

    @property
    def formula(self) -> LinearMultistep:
        return root_placed_belm(roots_at(self.angles), self.exponent, slope_rho=self.slope_rho)


def grids_of(task: Task) -> list[Grid]:
    """The Stable Diffusion and DDPM grids, uniform in time, that a task is scored on."""
    families = [uniform_time(Schedule.scaled_linear()), uniform_time(Schedule.linear())]
    return [family(steps) for family in families for steps in task.steps]


def score(formula: Formula, grids: Sequence[Grid], reference: Array | None = None) -> Score:
    """Score a formula with an exact inverse on grids, against `reference_errors(grids)` unless given."""
    own = np.array([_errors(formula, grid) for grid in grids])
    ratio = (own[:, :2] / (reference_errors(grids) if reference is None else reference)).max(axis=0)
    plans = [formula.plan(grid) for grid in grids]
    return Score(
        sampling=float(ratio[0]),
        inversion=float(ratio[1]),
        k_sampling=float(np.exp(max(log_amplification(plan.a) for plan in plans))),
        k_inversion=float(np.exp(max(log_amplification(plan.inverse().a) for plan in plans))),
        reaction=float(own[:, 2].max()),
    )


def reference_errors(grids: Sequence[Grid]) -> Array:
    """O-BELM's E along sampling and inversion, (len(grids), 2)."""
    return np.array([_errors(belm(2), grid)[:2] for grid in grids])


def _errors(formula: Formula, grid: Grid) -> tuple[float, float, float]:
    plan = formula.plan(grid)
    sampling, reaction = truncation_errors(plan)
    inversion, _ = truncation_errors(plan.inverse())
    return float(np.sqrt(np.mean(sampling**2))), float(np.sqrt(np.mean(inversion**2))), float(reaction.max())


def search(k: int, task: Task | None = None, divisions: int = DIVISIONS) -> list[Member]:
    """All members with k steps that satisfy the task's limits, best first. Deterministic; k = 5 takes about 10 s.

    Roots: -1 when k is even, and pairs e^{± i pi m / divisions}, m from divisions/6 to divisions - 1.

    Raises:
        ValueError: k outside 2 … 6 without a task.
    """
    if task is None:
        if k not in TASKS:
            raise ValueError(f"k must be from 2 to 6 unless a task is given, got {k!r}")
        task = TASKS[k]
    grids = grids_of(task)
    reference = reference_errors(grids)
    members = []
    for pairs in combinations(range(divisions // 6, divisions), (k - 1) // 2):
        angles = tuple(m / divisions for m in pairs) + ((1.0,) if k % 2 == 0 else ())
        for exponent, slope_rho in product(EXPONENTS, task.slope_rhos):
            formula = root_placed_belm(roots_at(angles), exponent, slope_rho=slope_rho)
            if any(truncation_errors(formula.plan(grid))[1].max() > task.reaction for grid in grids):
                continue
            result = score(formula, grids, reference)
            if result.feasible(task):
                members.append(Member(angles, exponent, slope_rho, result))
    return sorted(members, key=lambda member: member.score.objective)
