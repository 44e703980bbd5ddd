"""Whether somebody says so, before a run or during it, where a formula samples badly.

Every march of an exactly invertible formula that `analysis.zoo` or `analysis.front` left in OUT/zoo_errors.csv (exact starters)
is held against O-BELM's on the same problem, nodes and number of evaluations. Bad is an error of more than three times O-BELM's
and more than 0.02 a pixel, harmless one of at most 1.5 times. Before the run `vsvf.examine` looks along the trajectories of two of
the samples; during it the march itself may have warned.

    python -m analysis.examined --out OUT

goes on from the rows that OUT/examined_cases.csv has already.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

import vsvf
from analysis.common import generator, save_table
from analysis.pareto import RUNGE_KUTTA, formula_of, make_grid
from analysis.problems import ZOO
from analysis.zoo import BASE, Key, Results, read, steps_of
from vsvf.predictors import Predictor

BAD, HARMLESS, VISIBLE = 3.0, 1.5, 0.02
SAMPLES = 2
KEY = ("problem", "schedule", "spacing", "NFE", "method")
HEADER = (*KEY, "error over O-BELM's", "error", "warned", "suspect", "estimated", "growth")
CELLS = ("marches", "warned", "suspect", "either")


def cases(found: Results) -> Iterator[tuple[Key, float]]:
    """The marches to be judged and their errors over O-BELM's: of formulas with an explicit inverse, other than O-BELM."""
    for key, result in found.items():
        problem, schedule, spacing, n, method, starter = key
        base = found.get((problem, schedule, spacing, n, BASE, starter))
        if starter != "exact" or base is None or method in (BASE, "ddim", *RUNGE_KUTTA):
            continue
        if formula_of(method).plan(make_grid(schedule, steps_of(method, n), spacing)).backward_explicit:
            yield key, result.rms[0] / base.rms[0]


@cache
def problem_of(name: str) -> tuple[Predictor, torch.Tensor]:
    """The problem, and the first of the noises that its errors were measured on."""
    animal = ZOO[name]
    return animal.make(SAMPLES), torch.randn((SAMPLES, *animal.shape), generator=generator(301), dtype=torch.float64)


def study(out: Path) -> list[dict[str, str]]:
    """A row for each march, added to `out/examined_cases.csv` as it is found."""
    path = out / "examined_cases.csv"
    rows = []
    if path.exists():
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        path.write_text(",".join(HEADER) + "\n")
    known = {tuple(row[name] for name in KEY) for row in rows}
    found = read(out / "zoo_errors.csv")
    for key, ratio in cases(found):
        place = tuple(map(str, key[:5]))
        if place in known:
            continue
        problem, schedule, spacing, n, method, _ = key
        predictor, noise = problem_of(problem)
        told = vsvf.examine(predictor, noise, make_grid(schedule, steps_of(method, n), spacing), formula_of(method)).sampling
        values = (*place, ratio, found[key].rms[0], int(found[key].warned), int(told.suspect), told.ratio, float(told.growth.max()))
        with open(path, "a", newline="") as file:
            csv.writer(file).writerow(values)
        rows.append(dict(zip(HEADER, map(str, values))))
    return rows


def table(rows: list[dict[str, str]]) -> list[list[str | int]]:
    """Per number of evaluations: bad and harmless marches, how many of them were warned of, were suspect beforehand, or either."""
    lines: list[list[str | int]] = []
    for n in sorted({int(row["NFE"]) for row in rows}):
        cells = {"bad": [0] * len(CELLS), "harmless": [0] * len(CELLS)}
        for row in rows:
            ratio, error = float(row["error over O-BELM's"]), float(row["error"])
            # an error that is not a number is a bad one
            kind = "bad" if not ratio <= BAD and not error <= VISIBLE else "harmless" if ratio <= HARMLESS else None
            if int(row["NFE"]) == n and kind is not None:
                warned, suspect = int(row["warned"]), int(row["suspect"])
                cells[kind] = [a + b for a, b in zip(cells[kind], (1, warned, suspect, warned | suspect))]
        lines.append([n, *cells["bad"], *cells["harmless"]])
    return lines


def main(out: Path) -> None:
    """Write examined_cases.csv and examined.csv into `out`."""
    titles = [f"{kind} | {cell}" for kind in ("more than 3 times O-BELM's error", "at most 1.5 times") for cell in CELLS]
    caption = "Marches warned of while they ran, and formulas that `vsvf.examine` called suspect before."
    save_table(out, "examined", caption, ["NFE", *titles], table(study(out)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Who says so where a formula samples badly.")
    parser.add_argument("--out", type=Path, required=True, help="a folder with zoo_errors.csv")
    main(parser.parse_args().out)
