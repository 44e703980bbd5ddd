"""Why can the formula of the highest order on paper not be used?

The uniform-grid characteristic polynomial of three-step LTE-minimising BELM has a root of modulus 9.899, so that any
perturbation, be it rounding or the starter's error, grows by about that factor per step. The table gives the sampling error on
the ideal denoiser of the shipped digits (sigma_bar from a DDPM-linear schedule) against a fine reference, beside methods that
are stable.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import vsvf
from analysis import progress, style
from analysis.common import generator, save_answer, save_figure, save_number, save_table, test_images
from vsvf import formulas, predictors

METHODS = ("ddim", "belm(2)", "stable_belm(3)", "stable_belm(4)", "belm(3)", "belm(4)")
STEPS = (10, 20, 50, 100, 200)


def main(out: Path) -> None:
    """Write blowup_*.csv and blowup_plot.svg into `out`."""
    images, _ = test_images()
    schedule = vsvf.Schedule.linear()
    predictor = predictors.ideal_denoiser(images.double(), std=0.1, schedule=schedule)
    noise = torch.randn(4, 1, 28, 28, generator=generator(3), dtype=torch.float64)
    fine = vsvf.Grid.from_schedule(schedule, 900, "trailing", "smallest")
    reference = vsvf.integrate(predictor, noise, fine.sigma_bar[::-1], "rk4:2")[0]
    errors: dict[str, list[float]] = {}
    for name in progress.steps(METHODS, "ideal denoiser"):
        formula = formulas.by_name(name)
        errors[name] = []
        for steps in STEPS:
            grid = vsvf.Grid.from_schedule(schedule, steps, "trailing", "smallest")
            try:
                difference = vsvf.sample(predictor, noise, grid, formula, starter="rk4:8", warn=False).x - reference
                errors[name].append(float(difference.abs().max()))
            except vsvf.NonFiniteError:
                errors[name].append(float("inf"))
    rows = []
    for name in METHODS:
        roots = np.roots(np.concatenate([[1.0], -formulas.by_name(name).plan(_uniform()).a[0]]))
        rows.append([name, formulas.by_name(name).order, float(np.abs(roots).max()), *errors[name]])
    save_table(
        out, "blowup_errors", "Largest pixel error of sampling, and the largest characteristic root on a uniform grid.",
        ["method", "order of its truncation error", "largest root", *[f"largest pixel error | N={n}" for n in STEPS]], rows,
    )  # fmt: skip
    figure, axis = plt.subplots(figsize=(6.4, 4.6), constrained_layout=True)
    for n, name in enumerate(METHODS):
        axis.loglog(STEPS, errors[name], label=name, **style.line(n))
    axis.set(ylabel="largest pixel error (digits live in [-1, 1])")
    style.steps_axis(axis, STEPS)
    axis.grid(alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3.2)
    save_figure(out, "blowup_plot", "Refining the grid helps the stable methods and destroys the others.", figure)
    root = {row[0]: row[2] for row in rows}["belm(3)"]
    at = STEPS.index(50)
    save_answer(
        out, "blowup",
        f"It is not zero-stable: three-step BELM's largest root on a uniform grid is {root:.3f}, so that a perturbation grows by "
        f"that factor per step. At 50 steps its error is {errors['belm(3)'][at]:.1e}; O-BELM's is {errors['belm(2)'][at]:.2g}.",
    )  # fmt: skip
    meaning = (
        "is the factor per step by which three-step LTE-minimising BELM amplifies any perturbation. Its order is the highest that "
        "three steps allow, and it does not converge."
    )
    save_number(out, "blowup_root", f"{root:.2f}", meaning, "blowup_errors")


def _uniform() -> vsvf.Grid:
    return vsvf.Grid.from_sigma_bar(np.arange(1.0, 12.0))
