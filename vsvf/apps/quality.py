"""Tables of sample quality, laid out as the paper's Tables 4 and 5, and whether its order of methods holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vsvf.apps.frechet import jackknife
from vsvf.apps.published import FID, O_BELM, REPORT, STEPS, column
from vsvf.grid import Grid
from vsvf.predictors import ClosedForm
from vsvf.schedule import Schedule
from vsvf.solve import sample


@dataclass(frozen=True)
class Quality:
    """A method at a number of steps: its distance from the reference (infinite where its march overflowed), standard error over
    blocks of seeds, distances without each block, distance of its own halves, evaluations, number of pictures."""

    method: str
    steps: int
    value: float
    error: float
    without: list[float]
    halves: float
    nfe: int
    n: int


def evaluations(schedule: Schedule, grid: Grid, formula: str, starter: str) -> int:
    """How often `sample` evaluates the network."""
    flat = ClosedForm(lambda x, s: torch.zeros_like(x), schedule)
    return sample(flat, torch.zeros(1, 1, dtype=torch.float64), grid, formula, starter=starter, warn=False).nfe


def table(found: Sequence[Quality], title: str, beside: str) -> str:
    """Markdown: distances with standard errors and evaluations, then the published table of `beside`."""
    methods, steps = list(dict.fromkeys(q.method for q in found)), sorted({q.steps for q in found})
    at = {(q.method, q.steps): q for q in found}
    lines = [f"**{title}**, n = {found[0].n}: value ± standard error over blocks of seeds (evaluations)", ""]
    lines += [f"| steps | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    for n in steps:
        row = [_cell(at[m, n]) if (m, n) in at else "" for m in methods]
        lines.append(f"| {n} | {' | '.join(row)} |")
    published: Mapping[str, tuple[float, ...]] = FID[beside]
    lines += ["", f"**FID on {beside} as published** (other pictures, features and n: only the order can be compared)", ""]
    lines += [f"| steps | {' | '.join(published)} |", "|---" * (len(published) + 1) + "|"]
    lines += [f"| {n} | {' | '.join(f'{values[i]:.2f}' for values in published.values())} |" for i, n in enumerate(STEPS)]
    return "\n".join([*lines, ""])


def _cell(quality: Quality) -> str:
    if math.isinf(quality.value):
        return f"inf ({quality.nfe})"
    return f"{quality.value:.4g} ± {quality.error:.1g} ({quality.nfe})"


def apart(first: Quality, second: Quality) -> tuple[float, float]:
    """first - second and its standard error; the seeds are the same, so the blocks are paired."""
    if math.isinf(first.value) or math.isinf(second.value):
        return (math.nan if first.value == second.value else first.value - second.value), 0.0
    return first.value - second.value, jackknife(np.array(first.without) - np.array(second.without))


def order(found: Sequence[Quality], beside: str = "CIFAR-10") -> list[str]:
    """For each number of steps, the methods from best to worst, and every pair that the paper ranks: the same way round here, the
    other way round, or within two standard errors."""
    sentences: list[str] = []
    published = FID[beside]
    for n in sorted({q.steps for q in found}):
        here = sorted((q for q in found if q.steps == n), key=lambda q: q.value)
        sentences.append(f"{n} steps, best to worst: {', '.join(q.method for q in here)}")
        if n not in STEPS:
            continue
        ranked = {name: q for q in here if (name := column(q.method)) is not None and name in published}
        names = sorted((name for name in ranked if name != REPORT), key=lambda name: published[name][STEPS.index(n)])
        for i, better in enumerate(names):
            for worse in names[i + 1 :]:
                difference, error = apart(ranked[worse], ranked[better])
                text = f"{n} steps: {better} below {worse} in the paper ({beside})"
                if math.isnan(difference) or abs(difference) <= 2.0 * error:
                    sentences.append(f"undecided: {text}; here {difference:+.3g} ± {error:.1g}")
                else:
                    verdict = "agrees" if difference > 0.0 else "DOES NOT AGREE"
                    sentences.append(f"{verdict}: {text}; here {difference:+.3g} ± {error:.1g}")
        _exact_ones(sentences, ranked, n)
    return sentences


def _exact_ones(sentences: list[str], ranked: Mapping[str, Quality], steps: int) -> None:
    """Whether O-BELM is the best of the exactly invertible ones and EDICT the worst."""
    exact = {name: q for name, q in ranked.items() if name in (O_BELM, "EDICT", "BDIA")}
    if len(exact) < 3:
        return
    best, worst = min(exact, key=lambda name: exact[name].value), max(exact, key=lambda name: exact[name].value)
    verdict = "agrees" if (best, worst) == (O_BELM, "EDICT") else "DOES NOT AGREE"
    sentences.append(f"{verdict}: {steps} steps: of the exact ones O-BELM is best and EDICT worst; here {best} and {worst}")
