"""Members of the power-fitted and corrected families, drawn at random and judged on the part of the zoo that is for choosing.

    python -m analysis.draws log_snr --seed 7 --count 200 --out OUT
    python -m analysis.draws leading --seed 3 --count 60 --out OUT

Each member is marched on the problems with exact solutions (not the network, which is slow, nor what is held back), with both
schedules, 10, 20 and 50 evaluations; one whose mean over the first twelve cases is bad is left. OUT/draws_<grid>.csv, which a
later run goes on from, has for each the sampling error over the best published sampler's (geometric mean, worst, mean per
number of evaluations) and the inversion error over O-BELM's. The members of `formulas.recommended` were among the first hundred
draws of these two lines, judged on smaller batches, and on log-SNR nodes against DPM-Solver++(2M) and DEIS(3) only; one of them
is rounded.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from analysis.common import generator
from analysis.pareto import SCHEDULES, make_grid, trajectory
from analysis.problems import ZOO
from analysis.zoo import BASE, PUBLISHED, one, steps_of
from vsvf.formulas.checks import text
from vsvf.formulas.root_placed import roots_at
from vsvf.grid import Grid
from vsvf.predictors import Predictor

PROBLEMS = tuple(name for name, animal in ZOO.items() if animal.part == "choosing" and not name.startswith("network"))
NFE = (10, 20, 50)
SAMPLES = 30
FIRST, BAD = 12, {"log_snr": 1.6, "leading": 1.2}  # a member is left when its mean over so many cases exceeds this
HEADER = ("member", "mean", "worst", *(f"mean, {n} NFE" for n in NFE), "inversion, mean", "inversion, worst")


@dataclass(frozen=True)
class Case:
    """A problem on a schedule at a number of evaluations, with what members are compared to."""

    predictor: Predictor
    path: dict[float, torch.Tensor]
    schedule: str
    nfe: int
    published: float
    base: float


def draw_log_snr(number: int, chance: np.random.Generator) -> str:
    """A power-fitted formula of 4 or, every second time, 5 steps."""
    if number % 2 == 0:
        p, low = chance.choice([0.7, 0.8, 0.85, 0.9, 0.95]), 0.8
    else:
        p, low = chance.choice([0.5, 0.6, 0.7, 0.8, 0.9]), 0.9
    gamma, beta = round(chance.uniform(0.4, 2.6), 2), round(chance.uniform(low, 1.2), 2)
    if number % 2 == 0:
        angles = f"({round(chance.uniform(0.24, 0.58), 3)}, 1)"
    else:
        angles = f"({round(chance.uniform(0.2, 0.48), 3)}, {round(chance.uniform(0.74, 0.9), 3)})"
    return f"power_fitted_belm({p}, {angles}, {gamma}, {beta})"


def draw_leading(number: int, chance: np.random.Generator) -> str:
    """A corrector row behind a power-fitted formula of 3, 4 or 5 steps, or a root-placed one of 3."""

    def between(low: float, high: float, digits: int = 2) -> float:
        return round(float(chance.uniform(low, high)), digits)

    kind = number % 6
    if kind in (0, 5):
        p = chance.choice([0.6, 0.7, 0.8, 0.9, 0.95])
        main = f"power_fitted_belm({p}, {between(0.7, 0.95, 3)}, {between(0.8, 2.4)}, {between(0.4, 1.1)})"
    elif kind in (2, 4):
        p = chance.choice([0.7, 0.8, 0.9, 0.95])
        angles = f"{between(0.2, 0.45, 3)}, {between(0.75, 0.9, 3)}" if kind == 2 else f"{between(0.25, 0.55, 3)}, 1"
        main = f"power_fitted_belm({p}, ({angles}), {between(0.4, 2.2)}, {between(0.6, 1.1)})"
    else:
        z = roots_at((between(0.7, 0.92, 3),))[0]
        roots = ",".join(f"{text(float(z.real))}{sign}{text(abs(float(z.imag)))}j" for sign in "+-")
        rest = f"{between(0.8, 2.0)}, {chance.choice([1, 1.2, 1.4, 1.6])}, {chance.choice([1, 2, 3, 4])}"
        main = f"root_placed_belm(({roots},), {rest})"
    return f"corrected({main}, {chance.choice([0.5, 0.6, 0.7, 0.8, 0.9])}, {chance.choice([1.5, 2, 3, 4, 6])})"


DRAWS = {"log_snr": draw_log_snr, "leading": draw_leading}


def grid_of(case: Case, spacing: str, member: str) -> Grid:
    """The nodes that a member has for the case's evaluations."""
    return make_grid(case.schedule, steps_of(member, case.nfe), spacing)


def cases(spacing: str, problems: Sequence[str], nfe: Sequence[int]) -> list[Case]:
    """All cases, problem by problem."""
    found = []
    for problem in problems:
        animal = ZOO[problem]
        predictor = animal.make(SAMPLES)
        noise = torch.randn((SAMPLES, *animal.shape), generator=generator(301), dtype=torch.float64)
        for schedule in SCHEDULES:
            grids = [make_grid(schedule, steps, spacing) for n in nfe for steps in (n - 1, n)]
            path = trajectory(predictor, noise, np.concatenate([grid.sigma_bar for grid in grids]))
            for n in nfe:
                grid = make_grid(schedule, n, spacing)
                published = min(one(predictor, path, grid, method).rms[0] for method in PUBLISHED)
                found.append(Case(predictor, path, schedule, n, published, one(predictor, path, grid, BASE).rms[1]))
    return found


def judged(member: str, spacing: str, among: Sequence[Case]) -> list[float] | None:
    """The numbers of a row behind its name; None for a member that was left."""
    ratios: list[tuple[float, float]] = []
    for case in among:
        sampling, inversion = one(case.predictor, case.path, grid_of(case, spacing, member), member).rms
        ratios.append((sampling / case.published, inversion / case.base))
        if len(ratios) == FIRST and _mean([r for r, _ in ratios]) > BAD[spacing]:
            return None
    first = [r for r, _ in ratios]
    by_nfe = [_mean([r for r, case in zip(first, among) if case.nfe == n]) for n in dict.fromkeys(case.nfe for case in among)]
    second = [v for _, v in ratios]
    return [_mean(first), max(first), *by_nfe, _mean(second), max(second)]


def _mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(np.maximum(values, 1e-300)))))


def main(
    out: Path, spacing: str, seed: int, count: int, problems: Sequence[str] = PROBLEMS, nfe: Sequence[int] = NFE
) -> dict[str, list[float]]:
    """Draw and judge; returns the members that were not left."""
    path = out / f"draws_{spacing}.csv"
    done: dict[str, list[float]] = {}
    if path.exists():
        with open(path, newline="") as file:
            done = {row[0]: [float(cell) for cell in row[1:] if cell] for row in list(csv.reader(file))[1:]}
    else:
        with open(path, "w", newline="") as file:
            csv.writer(file).writerow(HEADER)
    chance = np.random.default_rng(seed)
    among = cases(spacing, problems, nfe)
    for number in range(count):
        member = DRAWS[spacing](number, chance)
        if member in done:
            continue
        done[member] = judged(member, spacing, among) or []
        with open(path, "a", newline="") as file:
            csv.writer(file).writerow([member, *(f"{value:.4g}" for value in done[member])])
    return {member: numbers for member, numbers in done.items() if numbers}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Members of the families, drawn at random and judged on the zoo.")
    parser.add_argument("spacing", choices=list(DRAWS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = main(arguments.out, arguments.spacing, arguments.seed, arguments.count)
    for member, numbers in sorted(kept.items(), key=lambda item: item[1][0])[:10]:
        print(f"{member}: {' '.join(f'{value:.3g}' for value in numbers)}")
