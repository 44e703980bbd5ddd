"""A zoo of predictors to choose formulas on: what is good on one network need not be on another.

Exact denoisers of digits and of mixtures, the same with finite resolution (eps is then singular down to the smallest sigma_bar,
as it is of networks that predict x_0), a guided mixture, the embedded network with two guidances, and a small network of
`analysis.variants`, the miniature Stable Diffusion. Formulas are chosen on one part; the other is held back and only confirms. Both
schedules, leading timesteps and uniform log-SNR, equal numbers of evaluations (a corrector row's is one of them: its grid has a
step less), exact starters (UniPC starts itself, as published); sampling error rms of x at the smallest sigma_bar, inversion error
rms of x_bar_N over sigma_bar_N, against RK4.

    python -m analysis.zoo --out OUT --problems "digits, exact" mixture --nfe 10 20 50

goes on from the rows that OUT/zoo_errors.csv has already.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vsvf
from analysis import variants
from analysis.common import generator, save_table, test_images
from analysis.pareto import SCHEDULES, formula_of, make_grid, march_errors, trajectory
from vsvf import formulas, predictors
from vsvf.formulas.choosing import recommended
from vsvf.predictors import ClosedForm, Predictor, gaussian_mixture, ideal_denoiser
from vsvf.predictors.scenes import LATENTS

METHODS = (
    "dpm_solver_pp(2)",
    "deis(3)",
    "unipc(2)",
    "unipc(3)",
    "belm(2)",
    "stable_belm(3)",
    "stable_belm(4)",
    "corrected(stable_belm(3), 0.7, 4)",
    "coarse_belm",
    "corrected(coarse_belm, 0.7, 4)",
    "power_fitted_belm(0.6, 5/6, 2.25, 0.85)",
    "power_fitted_belm(0.7, 7/8, 2, 0.75)",
    "power_fitted_belm(0.9, 7/8, 1.75, 0.6)",
    "corrected(power_fitted_belm(0.9, 7/8, 1.75, 0.6), 0.7, 4)",
    "power_fitted_belm(0.6, (1/3, 1), 1, 0.9)",
    "power_fitted_belm(0.9, (0.526, 1), 1.59, 1.15)",
    "power_fitted_belm(0.7, (0.44, 0.828), 2.49, 1.18)",
    "power_fitted_belm(0.6, (0.24, 0.855), 1.92, 1.15)",
)
PUBLISHED, BASE = ("dpm_solver_pp(2)", "deis(3)", "unipc(2)", "unipc(3)"), "belm(2)"
SPACINGS = ("leading", "log_snr")
BARS = (1.0, 1.2, 0.2, 0.5)  # of the four ratios of `summary`
HEADER = ("problem", "part", "schedule", "spacing", "NFE", "method", "sampling error", "inversion error")


@dataclass(frozen=True)
class Animal:
    """A problem of the zoo.

    Attributes:
        part: "choosing" or "held back". kind: what its predictor is like, "epsilon" or "sample". shape: of its batch of noise.
        make: builds the predictor.
    """

    part: str
    kind: str
    shape: tuple[int, ...]
    make: Callable[[], Predictor]


def with_floor(base: ClosedForm, floor: float) -> ClosedForm:
    """A denoiser D of finite resolution: D(x_bar, sqrt(sigma_bar^2 + f^2)), so that eps_bar = (x_bar - D)/sigma_bar."""

    def function(x_bar: torch.Tensor, sigma_bar: Any) -> torch.Tensor:
        blurred = (sigma_bar**2 + floor**2) ** 0.5
        denoised = x_bar - blurred * base.function(x_bar, blurred)
        return (x_bar - denoised) / sigma_bar

    return ClosedForm(function, base.schedule)


def guided(condition: ClosedForm, null: ClosedForm, scale: float) -> ClosedForm:
    """Classifier-free guidance of two exact predictors."""

    def function(x_bar: torch.Tensor, sigma_bar: Any) -> torch.Tensor:
        base = null.function(x_bar, sigma_bar)
        return base + scale * (condition.function(x_bar, sigma_bar) - base)

    return ClosedForm(function, condition.schedule)


def _exact_digits(std: float) -> ClosedForm:
    return ideal_denoiser(test_images()[0].double(), std, vsvf.Schedule.linear())


def _means(seed: int, count: int, dimension: int) -> torch.Tensor:
    return 0.7 * torch.randn(count, dimension, generator=generator(seed), dtype=torch.float64)


def _mixture(means: torch.Tensor, std: float) -> ClosedForm:
    return gaussian_mixture(means, std, schedule=vsvf.Schedule.linear())


PROMPTS = ["a red three on a blue background", "a green seven to the left of a white two on plain yellow"]
LABELS = torch.tensor([3, 8, 1])
IMAGE = (3, 1, 28, 28)
ZOO: dict[str, Animal] = {
    "digits, exact": Animal("choosing", "epsilon", IMAGE, lambda: _exact_digits(0.05)),
    "digits, floor 0.2": Animal("choosing", "sample", IMAGE, lambda: with_floor(_exact_digits(0.05), 0.2)),
    "digits, blurred, floor 0.1": Animal("choosing", "sample", IMAGE, lambda: with_floor(_exact_digits(0.2), 0.1)),
    "mixture": Animal("choosing", "epsilon", (64, 12), lambda: _mixture(_means(5, 8, 12), 0.25)),
    "guided mixture": Animal(
        "choosing", "epsilon", (64, 12), lambda: guided(_mixture(_means(5, 8, 12)[:2], 0.25), _mixture(_means(5, 8, 12), 0.25), 3.0)
    ),
    "network, guidance 2": Animal("choosing", "epsilon", IMAGE, lambda: predictors.digits(LABELS, guidance=2.0)),
    "another mixture": Animal("held back", "epsilon", (64, 5), lambda: _mixture(_means(17, 3, 5), 0.1)),
    "another mixture, floor 0.3": Animal("held back", "sample", (64, 5), lambda: with_floor(_mixture(_means(17, 3, 5), 0.1), 0.3)),
    "network, guidance 5": Animal("held back", "epsilon", IMAGE, lambda: predictors.digits(LABELS, guidance=5.0)),
    "scenes, guidance 3": Animal("held back", "epsilon", (2, *LATENTS), lambda: predictors.scenes(PROMPTS, 3.0)),
    "x_0-network": Animal("held back", "sample", IMAGE, lambda: variants.load("x_0-network", LABELS)),
}

Key = tuple[str, str, str, int, str]  # problem, schedule, spacing, NFE, method


def steps_of(method: str, nfe: int) -> int:
    """The steps that a method makes of so many evaluations in sampling: a corrector row needs one of its own."""
    return nfe - 1 if method.startswith("corrected") else nfe


def study(
    out: Path, problems: Sequence[str], nfe: Sequence[int], methods: Sequence[str], schedules: Sequence[str] = tuple(SCHEDULES)
) -> dict[Key, tuple[float, float]]:
    """All errors, read from `out/zoo_errors.csv` where they are there, and added to it as they are found."""
    path = out / "zoo_errors.csv"
    found = read(path)
    if not path.exists():
        with open(path, "w", newline="") as file:
            csv.writer(file).writerow(HEADER)
    for problem in problems:
        animal = ZOO[problem]
        for schedule in schedules:
            jobs = [
                (problem, schedule, spacing, n, method)
                for spacing in SPACINGS
                for n in nfe
                for method in methods
                if (problem, schedule, spacing, n, method) not in found
            ]
            if not jobs:
                continue
            predictor = animal.make()
            sizes = {(spacing, steps_of(method, n)) for _, _, spacing, n, method in jobs}
            grids = {(spacing, steps): make_grid(schedule, steps, spacing) for spacing, steps in sizes}
            noise = torch.randn(animal.shape, generator=generator(301), dtype=torch.float64)
            exact = trajectory(predictor, noise, np.concatenate([grid.sigma_bar for grid in grids.values()]))
            for job in jobs:
                found[job] = one(predictor, exact, grids[job[2], steps_of(job[4], job[3])], job[4])
                with open(path, "a", newline="") as file:
                    csv.writer(file).writerow([job[0], animal.part, *job[1:], *(f"{value:.6g}" for value in found[job])])
    return found


def one(predictor: Predictor, exact: dict[float, torch.Tensor], grid: vsvf.Grid, method: str) -> tuple[float, float]:
    """Sampling and inversion error of one method; the latter nan where it has no explicit inverse."""
    both = formula_of(method).plan(grid).backward_explicit
    errors = march_errors(predictor, exact, grid, method, directions=("sampling", "inversion") if both else ("sampling",))
    return errors.rms


def read(path: Path) -> dict[Key, tuple[float, float]]:
    """The rows of an earlier run."""
    if not path.exists():
        return {}
    with open(path, newline="") as file:
        return {
            (row["problem"], row["schedule"], row["spacing"], int(row["NFE"]), row["method"]): (
                float(row["sampling error"]),
                float(row["inversion error"]),
            )
            for row in csv.DictReader(file)
        }


def summary(found: dict[Key, tuple[float, float]], part: str) -> list[list[Any]]:
    """Per spacing, NFE and method over one part: geometric mean, worst and number within the bar of the sampling error over the
    best published one's on the same nodes (bar 1), over O-BELM's (1.2), of the inversion error over O-BELM's (1/5), and of the
    sampling error over the best published one's on leading timesteps (1/2)."""

    def best(problem: str, schedule: str, spacing: str, n: int) -> float | None:
        known = [found[key][0] for key in ((problem, schedule, spacing, n, m) for m in PUBLISHED) if key in found]
        return min(known) if len(known) == len(PUBLISHED) else None

    rows = []
    for spacing in SPACINGS:
        for n in sorted({key[3] for key in found}):
            for method in dict.fromkeys(key[4] for key in found):
                ratios = []
                for (problem, schedule, *_), (sampling, inversion) in (
                    (key, value) for key, value in found.items() if key[2:] == (spacing, n, method) and ZOO[key[0]].part == part
                ):
                    published, leading = (best(problem, schedule, nodes, n) for nodes in (spacing, SPACINGS[0]))
                    base = found.get((problem, schedule, spacing, n, BASE))
                    if base is not None and published is not None and leading is not None:
                        ratios.append([sampling / published, sampling / base[0], inversion / base[1], sampling / leading])
                if ratios:
                    values = np.array(ratios)
                    mean = np.exp(np.mean(np.log(np.maximum(values, 1e-300)), axis=0))
                    within = (values <= BARS).sum(axis=0)
                    triples = zip(mean.tolist(), values.max(axis=0).tolist(), within.tolist())
                    cells = [cell for triple in triples for cell in triple]
                    rows.append([spacing, n, method, len(values), *cells])
    return rows


def main(
    out: Path, problems: Sequence[str] = tuple(ZOO), nfe: Sequence[int] = (10, 20, 50), methods: Sequence[str] = METHODS
) -> None:
    """Write zoo_errors.csv, zoo_choosing.csv and zoo_confirmation.csv into `out`."""
    found = study(out, problems, nfe, methods)
    groups = ("over best published", "over O-BELM", "inversion over O-BELM", "over best published on leading")
    header = ["grid", "NFE", "method", "cases"]
    header += [f"{group} | {cell}" for group, bar in zip(groups, BARS) for cell in ("mean", "worst", f"at most {bar:g}")]
    for name, part in (("choosing", "choosing"), ("confirmation", "held back")):
        caption = (
            "Errors over the best of DPM-Solver++(2M), DEIS(3), UniPC(2, 3) at equal NFE, and over O-BELM's; geometric means, "
            f"{part} part of the zoo."
        )
        save_table(out, f"zoo_{name}", caption, header, summary(found, part))
    save_table(
        out,
        "zoo_recommended",
        "What `formulas.recommended` says of these grids.",
        ["schedule", "grid", "N", "kind", "formula"],
        [
            [schedule, spacing, n, kind, recommended(make_grid(schedule, n, spacing), kind).name]
            for schedule in SCHEDULES
            for spacing in SPACINGS
            for n in nfe
            for kind in ("epsilon", "sample")
        ],
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Errors of formulas on a zoo of predictors.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--problems", nargs="+", default=list(ZOO), choices=list(ZOO))
    parser.add_argument("--nfe", nargs="+", type=int, default=[10, 20, 50])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.methods:
        if not name.startswith("k="):
            formulas.by_name(name)
    main(arguments.out, arguments.problems, arguments.nfe, arguments.methods)
