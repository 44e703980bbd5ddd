"""A zoo of predictors to choose formulas on: what is good on one network need not be on another.

The problems are those of `analysis.problems`. Formulas are chosen on one part; the other is held back and only confirms.
Both schedules, leading timesteps, uniform log-SNR and Karras nodes, equal numbers of evaluations (a corrector row's is one of
them: its grid has a step less), exact starters (UniPC starts itself, as published) or practical ones (DPM-Solver++ and DEIS then
start with their lower orders); sampling error rms of x at the smallest sigma_bar, inversion error rms of x_bar_N over
sigma_bar_N, against RK4.
Standard errors are a jackknife over ten blocks of the images. `warned` is whether the march told of spurious modes.

    python -m analysis.zoo --out OUT --problems "digits, exact" mixture --nfe 10 20 50 --images 60

goes on from the rows that OUT/zoo_errors.csv has already.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vsvf
from analysis.common import generator, save_table
from analysis.pareto import RUNGE_KUTTA, SCHEDULES, formula_of, make_grid, march_errors, trajectory
from analysis.problems import ZOO
from vsvf import formulas
from vsvf.apps.frechet import jackknife
from vsvf.formulas.choosing import recommended
from vsvf.predictors import Predictor

PUBLISHED, BASE = ("dpm_solver_pp(2)", "deis(3)", "unipc(2)", "unipc(3)"), "belm(2)"
METHODS = (
    *PUBLISHED,
    BASE,
    "stable_belm(3)",
    "stable_belm(4)",
    "coarse_belm",
    "corrected(coarse_belm, 0.7, 4)",
    "corrected(power_fitted_belm(0.95, 0.877, 0.94, 0.52), 0.6, 2)",
    "power_fitted_belm(0.7, 7/8, 2, 0.75)",
    "power_fitted_belm(0.7, (0.29, 0.86), 1.43, 1.06)",
    "power_fitted_belm(0.9, (0.42, 0.79), 0.65, 1.09)",
    "pec_belm(0.82, 0.56, (0.32, 1), 0.38, 0.87)",
    "pec_belm",
)
COSTS = {"edict": 2, "mccallum_foster": 2, **RUNGE_KUTTA}  # evaluations of a step
SPACINGS = ("leading", "log_snr", "karras")
STARTERS = ("exact", "ddim", "heun", "rk4")
BARS = (1.0, 1.2, 0.2, 0.5)  # of the four ratios of `summary`
BLOCKS = 10
COLUMNS = ("problem", "schedule", "spacing", "NFE", "method", "starter")
HEADER = (*COLUMNS, "part", "images", "warned", "sampling error", "inversion error", "sampling squares", "inversion squares")
Array = np.ndarray


@dataclass(frozen=True)
class Found:
    """What one method did.

    Attributes:
        sampling, inversion: mean squares of the errors over each block of images; inf where a march overflowed, nan where there is
            no explicit inverse.
        warned: whether sampling warned of spurious modes. images: how many.
    """

    sampling: Array
    inversion: Array
    warned: bool
    images: int

    @property
    def rms(self) -> tuple[float, float]:
        return float(np.sqrt(self.sampling.mean())), float(np.sqrt(self.inversion.mean()))


Key = tuple[str, str, str, int, str, str]  # problem, schedule, spacing, NFE, method, starter
Results = Mapping[Key, Found]


def steps_of(method: str, nfe: int) -> int:
    """The steps that a method makes of so many evaluations in sampling: a corrector row at node 0 needs one of its own."""
    cost = next((cost for name, cost in COSTS.items() if method.startswith(name)), 1)
    return nfe // cost - method.startswith(("corrected", "pec_belm"))


def study(
    out: Path,
    problems: Sequence[str],
    nfe: Sequence[int],
    methods: Sequence[str],
    schedules: Sequence[str] = tuple(SCHEDULES),
    spacings: Sequence[str] = SPACINGS,
    starters: Sequence[str] = ("exact",),
    images: int = 60,
) -> dict[Key, Found]:
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
                (problem, schedule, spacing, n, method, starter)
                for spacing in spacings
                for n in nfe
                for method in methods
                for starter in starters
                if fits(method, steps_of(method, n)) and (problem, schedule, spacing, n, method, starter) not in found
            ]
            if not jobs:
                continue
            predictor = animal.make(images)
            sizes = {(spacing, steps_of(method, n)) for _, _, spacing, n, method, _ in jobs}
            grids = {(spacing, steps): make_grid(schedule, steps, spacing) for spacing, steps in sizes}
            noise = torch.randn((images, *animal.shape), generator=generator(301), dtype=torch.float64)
            exact = trajectory(predictor, noise, np.concatenate([ends(grid) for grid in grids.values()]))
            for job in jobs:
                result = one(predictor, exact, grids[job[2], steps_of(job[4], job[3])], job[4], job[5])
                found[job] = result
                squares = (" ".join(f"{value:.6g}" for value in blocks) for blocks in (result.sampling, result.inversion))
                with open(path, "a", newline="") as file:
                    errors = (f"{value:.6g}" for value in result.rms)
                    csv.writer(file).writerow([*job, animal.part, images, int(result.warned), *errors, *squares])
    return found


def fits(method: str, steps: int) -> bool:
    """Whether the method can take so many steps."""
    if method in RUNGE_KUTTA:
        return steps > 0
    try:
        return formula_of(method).plan(make_grid("DDPM", steps)).rows > 0
    except ValueError:
        return False


def ends(grid: vsvf.Grid) -> Array:
    """The nodes where a march may begin: the first windows of both directions."""
    return np.concatenate([grid.sigma_bar[:6], grid.sigma_bar[-6:]])


def one(predictor: Predictor, exact: dict[float, torch.Tensor], grid: vsvf.Grid, method: str, starter: str = "exact") -> Found:
    """Errors of one method, and whether it warned; UniPC, DPM-Solver++ and DEIS start themselves where starters are practical."""
    both = method == "ddim" or method in RUNGE_KUTTA or formula_of(method).plan(grid).backward_explicit
    directions = ("sampling", "inversion") if both else ("sampling",)
    chosen = "lower_order" if starter != "exact" and not both and not method.startswith("unipc") else starter
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", vsvf.SpuriousModeWarning)
        errors = march_errors(predictor, exact, grid, method, chosen, directions, warn=True)
    warned = any(issubclass(warning.category, vsvf.SpuriousModeWarning) for warning in said)
    blocks = [
        np.array([part.mean() for part in np.array_split(e, min(BLOCKS, len(e)))]) for e in (errors.sampling, errors.inversion)
    ]
    return Found(blocks[0], blocks[1], warned, len(errors.sampling))


def read(path: Path) -> dict[Key, Found]:
    """The rows of an earlier run."""
    if not path.exists():
        return {}
    found = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            key = (row["problem"], row["schedule"], row["spacing"], int(row["NFE"]), row["method"], row["starter"])
            squares = [np.array([float(v) for v in row[f"{way} squares"].split()]) for way in ("sampling", "inversion")]
            found[key] = Found(squares[0], squares[1], row["warned"] == "1", int(row["images"]))
    return found


# ---- tables ------------------------------------------------------------------------------------------------


def compared(found: Results, key: Key) -> Array | None:
    """(blocks + 1, 4) rms ratios of one case: over the best published sampler's, over O-BELM's, of the inversion error over
    O-BELM's, and of the sampling error over the best published one's on leading timesteps; first of all images, then without each
    block. None where something to compare with is missing."""
    problem, schedule, spacing, n, _, starter = key
    nodes = [[found.get((problem, schedule, s, n, m, starter)) for m in PUBLISHED] for s in (spacing, SPACINGS[0])]
    base = found.get((problem, schedule, spacing, n, BASE, starter))
    if base is None or any(other is None for others in nodes for other in others):
        return None

    def best(others: Sequence[Found | None]) -> Array:
        return np.min([without(other.sampling) for other in others if other is not None], axis=0)

    own = without(found[key].sampling)
    inversion = without(found[key].inversion) / without(base.inversion)
    return np.stack([own / best(nodes[0]), own / without(base.sampling), inversion, own / best(nodes[1])], axis=1)


def without(squares: Array) -> Array:
    """rms of all blocks, then of all but each."""
    count = len(squares)
    if count == 1:
        return np.sqrt(squares)
    others = squares.sum() - squares if np.isfinite(squares).all() else np.full(count, squares.sum())
    return np.sqrt(np.concatenate([[squares.mean()], np.maximum(others, 0.0) / (count - 1)]))


def summary(found: Results, part: str | None, starter: str = "exact") -> list[list[Any]]:
    """Per spacing, NFE and method over one part, or over both, for each of the four ratios of `compared`: geometric mean, its
    standard error in per cent, the worst case, and the number of cases within the bar (1, 1.2, 1/5, 1/2)."""
    rows = []
    for spacing in SPACINGS:
        for n in sorted({key[3] for key in found}):
            for method in dict.fromkeys(key[4] for key in found):
                keys = [key for key in found if key[2:] == (spacing, n, method, starter) and part in (None, ZOO[key[0]].part)]
                ratios = [ratio for ratio in (compared(found, key) for key in keys) if ratio is not None]
                if ratios:
                    rows.append([spacing, n, method, len(ratios), *_cells(ratios)])
    return rows


def _cells(ratios: Sequence[Array]) -> list[Any]:
    whole = np.array([ratio[0] for ratio in ratios])  # (cases, 4)
    logs = np.log(np.maximum(whole, 1e-300)).mean(axis=0)
    fewest = min(len(ratio) for ratio in ratios) - 1
    left = [np.mean([np.log(np.maximum(ratio[1 + j], 1e-300)) for ratio in ratios], axis=0) for j in range(fewest)]
    within = (whole <= BARS).sum(axis=0)
    cells: list[Any] = []
    for column in range(len(BARS)):
        error = jackknife(np.array([values[column] for values in left])) if fewest > 1 else float("nan")
        cells += [float(np.exp(logs[column])), 100.0 * error, float(whole[:, column].max()), int(within[column])]
    return cells


def advised(key: Key) -> bool:
    """Whether a case is of O-BELM, of stable_belm(3) or of a formula that is recommended on its nodes."""
    method = key[4]
    if method in (BASE, "stable_belm(3)") or method in RUNGE_KUTTA:
        return method not in RUNGE_KUTTA
    grid = make_grid(key[1], steps_of(method, key[3]), key[2])
    return formula_of(method).name in {recommended(grid, direction=way).name for way in ("sampling", "inversion", "both")}


def warnings_table(found: Results) -> list[list[Any]]:
    """Per method and NFE: marches, warned, more than three times O-BELM's error and more than 0.02, of these warned; at most
    1.5 times O-BELM's error, of these warned. At the end the same of all cases that are `advised`."""
    rows = []
    for method in (*dict.fromkeys(key[4] for key in found), "advised"):
        for n in sorted({key[3] for key in found}):
            cells = [0] * 6
            for key, result in found.items():
                base = found.get((*key[:4], BASE, key[5]))
                if key[3] != n or base is None or not (advised(key) if method == "advised" else key[4] == method):
                    continue
                error, ratio = result.rms[0], result.rms[0] / base.rms[0]
                bad, good = not ratio <= 3.0 and not error <= 0.02, ratio <= 1.5
                cells = [
                    c + int(v)
                    for c, v in zip(cells, (True, result.warned, bad, bad and result.warned, good, good and result.warned))
                ]
            if cells[0]:
                rows.append([method, n, *cells])
    return rows


def main(
    out: Path,
    problems: Sequence[str] = tuple(ZOO),
    nfe: Sequence[int] = (5, 10, 20, 50, 100),
    methods: Sequence[str] = METHODS,
    schedules: Sequence[str] = tuple(SCHEDULES),
    spacings: Sequence[str] = SPACINGS,
    starters: Sequence[str] = ("exact",),
    images: int = 60,
) -> None:
    """Write zoo_errors, zoo_choosing, zoo_confirmation, zoo_cases, zoo_warnings and zoo_recommended.csv into `out`."""
    found = study(out, problems, nfe, methods, schedules, spacings, starters, images)
    groups = ("over best published", "over O-BELM", "inversion over O-BELM", "over best published on leading")
    titles = [f"{group} | {cell}" for group, bar in zip(groups, BARS) for cell in ("mean", "± %", "worst", f"at most {bar:g}")]
    for name, part in (("choosing", "choosing"), ("confirmation", "held back")):
        for starter in starters:
            caption = (
                "Errors over the best of DPM-Solver++(2M), DEIS(3), UniPC(2, 3) at equal NFE, and over O-BELM's; geometric means "
                f"with their standard errors, {part} part of the zoo, starter {starter}."
            )
            rows = summary(found, part, starter)
            ending = "" if starter == "exact" else f"_{starter}"
            save_table(out, f"zoo_{name}{ending}", caption, ["grid", "NFE", "method", "cases", *titles], rows)
    cases = []
    for key in found:
        ratios = compared(found, key)
        if ratios is not None and key[4] not in PUBLISHED:
            errors = [jackknife(column) if len(column) > 1 else float("nan") for column in np.log(np.maximum(ratios[1:], 1e-300)).T]
            cases.append(
                [*key, found[key].images, *found[key].rms, *(c for pair in zip(ratios[0], errors) for c in map(float, pair))]
            )
    titles = [f"{group} | {cell}" for group in groups for cell in ("ratio", "±, log")]
    save_table(
        out, "zoo_cases", "Every case: errors, and ratios with the standard errors of their logarithms.",
        [*COLUMNS, "images", "error | sampling", "error | inversion", *titles], cases,
    )  # fmt: skip
    save_table(
        out, "zoo_warnings", "Marches that warned of spurious modes; advised: O-BELM, stable_belm(3) and the recommended.",
        ["method", "NFE", "marches | all", "marches | warned", "3 times O-BELM's error | all", "3 times O-BELM's error | warned",
         "at most 1.5 times | all", "at most 1.5 times | warned"],
        warnings_table(found),
    )  # fmt: skip
    save_table(
        out,
        "zoo_recommended",
        "What `formulas.recommended` says of these grids.",
        ["schedule", "grid", "N", "kind", "formula"],
        [
            [schedule, spacing, n, kind, recommended(make_grid(schedule, n, spacing), kind).name]
            for schedule in SCHEDULES
            for spacing in spacings
            for n in nfe
            for kind in ("epsilon", "sample", "v")
        ],
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Errors of formulas on a zoo of predictors.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--problems", nargs="+", default=list(ZOO), choices=list(ZOO))
    parser.add_argument("--nfe", nargs="+", type=int, default=[5, 10, 20, 50, 100])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--schedules", nargs="+", default=list(SCHEDULES), choices=list(SCHEDULES))
    parser.add_argument("--spacings", nargs="+", default=list(SPACINGS), choices=SPACINGS)
    parser.add_argument("--starters", nargs="+", default=["exact"], choices=STARTERS)
    parser.add_argument("--images", type=int, default=60, help="per problem and schedule")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.methods:
        if name not in RUNGE_KUTTA and not name.startswith("k="):
            formulas.by_name(name)
    main(
        arguments.out,
        arguments.problems,
        arguments.nfe,
        arguments.methods,
        arguments.schedules,
        arguments.spacings,
        arguments.starters,
        arguments.images,
    )
