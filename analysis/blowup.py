"""Why three-step LTE-minimising BELM cannot be used: it has the highest order on paper and is not zero-stable.

Its uniform-grid characteristic polynomial has a root of modulus 9.899, so that any perturbation, be it rounding or the starter's
error, grows by about that factor per step. The table gives the sampling error on the ideal denoiser of the shipped digits
(sigma_bar from a DDPM-linear schedule) against a fine reference, beside methods that are stable.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import vsvf
from analysis.common import generator, save_figure, save_table, test_images
from vsvf import formulas, predictors

METHODS = ("ddim", "belm(2)", "stable_belm(3)", "stable_belm(4)", "belm(3)", "belm(4)")
STEPS = (10, 20, 50, 100, 200)


def main(out: Path) -> None:
    """Write blowup_*.csv and blowup_*.png into `out`."""
    images, _ = test_images()
    schedule = vsvf.Schedule.linear()
    predictor = predictors.ideal_denoiser(images.double(), std=0.1, schedule=schedule)
    noise = torch.randn(4, 1, 28, 28, generator=generator(3), dtype=torch.float64)
    fine = vsvf.Grid.from_schedule(schedule, 900, "trailing", "smallest")
    reference = vsvf.integrate(predictor, noise, fine.sigma_bar[::-1], "rk4:2")[0]
    errors: dict[str, list[float]] = {}
    for name in METHODS:
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
        ["method", "order of its truncation error", "largest root", *[f"N={n}" for n in STEPS]], rows,
    )  # fmt: skip
    figure, axis = plt.subplots(figsize=(7, 5))
    for name in METHODS:
        axis.loglog(STEPS, errors[name], "o-", label=name)
    axis.set(xlabel="number of steps N", ylabel="largest pixel error (digits live in [-1, 1])")
    axis.set_xticks(STEPS, [str(n) for n in STEPS])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend()
    save_figure(out, "blowup_plot", "Refining the grid helps the stable methods and destroys the others.", figure)


def _uniform() -> vsvf.Grid:
    return vsvf.Grid.from_sigma_bar(np.arange(1.0, 12.0))
