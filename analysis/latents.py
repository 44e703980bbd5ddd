"""The noise alone: on how many test digits a sampling's one noise is found, how closely, and at what cost.

    python -m analysis.latents [--formula NAME …] [--steps 20 50] [--guidance 1 3] [--count 20] --out OUT

Digits of MNIST's test split, the digits network in float32 with the digit's label, states in float64, log-SNR nodes that end at
the schedule's smallest sigma_bar, starter ddim. `single_latent` looks for the x_N whose sample is the digit to 1e-5 (the largest
difference, images in [-1, 1]). Beside it `vsvf.invert`, which finds the noise of DDIM row by row, of DPM-Solver++ by sweeps, both
by an accelerated fixed-point iteration at its usual tolerance; on the first digits only. A digit that is not found at strong
guidance is looked for again by continuation, from its latent at weaker guidance. OUT/latents.jsonl has a line for each group of
digits, and a later run goes on from it; the table is printed.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import vsvf
from analysis.common import test_images
from vsvf import predictors
from vsvf.apps.latent import single_latent
from vsvf.apps.latent_equations import Path

METHODS = ("ddim", "dpm_solver_pp(2)", "belm(2)")
TOLERANCE = 1e-5
GROUP = 5  # digits that are solved together
STEP = 0.5  # of the guidance scale, in a continuation
HEADER = (
    "| formula | N | guidance | within 1e-5 | by continuation | largest error | first error, median | Newton iterations "
    "| evaluations | fixed point |"
)


def measure(formula: str, steps: int, guidance: float, first: int, count: int) -> dict[str, Any]:
    """Digits `first` … `first + count` - 1: errors before and after, iterations, evaluations per digit, how many continued."""
    predictor, image, grid = _case(steps, guidance, first, count)
    found = single_latent(predictor, image, grid, formula, tolerance=TOLERANCE)
    errors, iterations, nfe = found.error.tolist(), found.iterations, float(found.nfe)
    missed = [n for n, error in enumerate(errors) if error > TOLERANCE] if guidance > 1.0 else []
    for n in missed:
        predictor, image, grid = _case(steps, guidance, first + n, 1)
        by = [_case(steps, w, first + n, 1)[0] for w in np.arange(1.0, guidance, STEP)]
        continued = single_latent(predictor, image, grid, formula, by=by, tolerance=TOLERANCE)
        errors[n] = min(errors[n], float(continued.error))
        iterations, nfe = max(iterations, continued.iterations), nfe + continued.nfe / count
    return {
        "error": errors,
        "first_error": found.first_error.tolist(),
        "iterations": iterations,
        "nfe": nfe,
        "continued": len(missed),
    }


def beside(formula: str, steps: int, guidance: float, first: int, count: int) -> dict[str, Any]:
    """The same by `vsvf.invert`'s iteration: errors and evaluations per digit; an infinite error where it did not converge."""
    predictor, image, grid = _case(steps, guidance, first, count)
    try:
        state = vsvf.invert(predictor, image, grid, formula, warn=False)
    except vsvf.ConvergenceError:
        return {"error": [float("inf")] * count, "nfe": 0}
    again = vsvf.sample(predictor, state.x, grid, formula, warn=False).x
    return {"error": (again - image).abs().flatten(1).amax(1).tolist(), "nfe": state.nfe}


def _case(steps: int, guidance: float, first: int, count: int) -> tuple[predictors.Predictor, torch.Tensor, vsvf.Grid]:
    images, labels = test_images()
    predictor = predictors.digits(labels[first : first + count], guidance=guidance)
    grid = vsvf.Grid.from_schedule(predictor.schedule, steps, "log_snr", "smallest")
    return predictor, images[first : first + count].double(), grid


def row(formula: str, steps: int, guidance: float, groups: Sequence[dict[str, Any]], iterated: dict[str, Any] | None) -> str:
    """A line of the table."""
    errors = [error for group in groups for error in group["error"]]
    begun = sorted(error for group in groups for error in group["first_error"])
    within = sum(error <= TOLERANCE for error in errors)
    continued = sum(group["continued"] for group in groups)
    newton = "–".join(str(n) for n in sorted({min(g["iterations"] for g in groups), max(g["iterations"] for g in groups)}))
    nfe = sum(group["nfe"] * len(group["error"]) for group in groups) / len(errors)
    line = f"| {formula} | {steps} | {guidance:g} | {within} of {len(errors)} | {continued or ''} "
    line += f"| {max(errors):.1e} | {begun[len(begun) // 2]:.1e} "
    line += f"| {newton} | {nfe:,.0f} "
    if iterated is None:
        return line + "| |"
    if not iterated["nfe"]:
        return line + "| does not converge |"
    return line + f"| {iterated['nfe']:,}, to {max(iterated['error']):.1e} |"


def amplifications(names: Sequence[str], numbers: Sequence[int]) -> str:
    """A line for each formula and N: by how much an error of a row of the path is amplified (`Path.amplification`)."""
    lines = ["| formula | N | amplification |", "|---|---|---|"]
    for name in names:
        for steps in numbers:
            path = Path(*_case(steps, 1.0, 0, 1), vsvf.formulas.by_name(name), "ddim")
            lines.append(f"| {name} | {steps} | {path.amplification:.2g} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> str:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(prog="python -m analysis.latents", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--formula", nargs="+", default=list(METHODS), metavar="NAME")
    parser.add_argument("--steps", nargs="+", type=int, default=[20, 50], metavar="N")
    parser.add_argument("--guidance", nargs="+", type=float, default=[1.0, 3.0], metavar="W")
    parser.add_argument("--count", type=int, default=20, metavar="N", help="digits")
    parser.add_argument("--amplification", action="store_true", help="only print how the formulas amplify; nothing is evaluated")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args(argv)
    if args.amplification:
        text = amplifications(args.formula, args.steps)
        print(text)
        return text
    if args.out is None:
        parser.error("--out is needed")
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "latents.jsonl"
    known = {}
    if kept.exists():
        known = {tuple(line.pop("case")): line for line in map(json.loads, kept.read_text().splitlines())}

    def once(what: Any, *case: Any) -> dict[str, Any]:
        key = (what.__name__, *case)
        if key not in known:
            known[key] = what(*case)
            with kept.open("a") as file:
                file.write(json.dumps({"case": key, **known[key]}) + "\n")
        return known[key]

    torch.set_num_threads(1)
    lines = [HEADER, "|---" * HEADER.count(" | ") + "|---|"]
    for formula in args.formula:
        for steps in args.steps:
            for guidance in args.guidance:
                sizes = [(first, min(GROUP, args.count - first)) for first in range(0, args.count, GROUP)]
                groups = [once(measure, formula, steps, guidance, *size) for size in sizes]
                implicit = not vsvf.formulas.by_name(formula).plan(_case(steps, guidance, 0, 1)[2]).bidirectionally_explicit
                iterated = once(beside, formula, steps, guidance, *sizes[0]) if implicit else None
                lines.append(row(formula, steps, guidance, groups, iterated))
                print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    (args.out / "latents.md").write_text(text)
    return text


if __name__ == "__main__":
    main()
