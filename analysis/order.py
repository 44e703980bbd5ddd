"""Order of convergence: how fast the error of each method falls when the steps are refined.

Toy problems with exact solutions on smooth variable grids, exact starting values, in both directions; then the diffusion ODE of
an ideal denoiser. A method of order p has slope -p. Inversion is shown for methods whose inverse is explicit; where the inverse
(or the method itself, 3-step LTE-minimising BELM) is not zero-stable, refining the grid makes the error grow without bound.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from tqdm import tqdm

import vsvf
from analysis.common import generator, save_figure, save_table, test_images
from vsvf import formulas, predictors
from vsvf.convergence.order import Order, fit_slope, order

STEPS = (24, 48, 96, 128, 192, 256, 384, 768)
IDEAL_STEPS = (24, 48, 96, 192, 384)
IDEAL_METHODS = (
    "ddim", "adams_bashforth(2)", "adams_bashforth(3)", "deis(2)", "deis(3)", "adams_moulton(1)", "bdf(2)", "dpm_solver_pp(2)",
    "dpm_solver_pp(3)", "belm(2)", "belm(3)", "bdia(1)", "edict(0.93)", "mccallum_foster(1)", "stable_belm(3)", "stable_belm(4)",
)  # fmt: skip


def main(out: Path) -> None:
    """Write order_*.csv and order_*.png into `out`."""
    measured = [order(formulas.by_name(name), STEPS) for name in tqdm(formulas.METHODS, desc="order", leave=False)]
    save_table(
        out,
        "order_toy",
        "Measured order on toy problems (median of the slopes; claimed and measured, both directions).",
        ["method", "claimed", "sampling", "inversion", *[f"sampling, {p}" for p in _problems(measured[0])]],
        [
            [m.formula, m.claimed, _slope(m.sampling), _slope(m.inversion)]
            + [_slope(m.fits["sampling", p].slope) for p in _problems(m)]
            for m in measured
        ],
    )
    _plot_toy(out, measured)
    _ideal_denoiser(out)


def _problems(result: Order) -> list[str]:
    return [problem for direction, problem in result.fits if direction == "sampling"]


def _slope(slope: float | None) -> str:
    if slope is None:
        return "implicit"
    return f"{slope:.2f}" if slope > 0.0 else "grows: not zero-stable"


def _plot_toy(out: Path, measured: list[Order]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(14, 8), sharey=True)
    colours = plt.get_cmap("tab20")
    for axis, direction in zip(axes, ("sampling", "inversion")):
        for n, result in enumerate(measured):
            fit = result.fits.get((direction, "rotation"))
            if fit is not None:
                usable = np.isfinite(fit.errors) & (fit.errors < 1e3)
                label = f"{result.formula}  {_slope(fit.slope)}"
                axis.loglog(fit.steps[usable], fit.errors[usable], "o-", ms=3, lw=1, color=colours(n % 20), label=label)
        axis.set(title=f"{direction}: x' = 6 (-x₂, x₁), slope beside the name", xlabel="number of steps N", ylim=(1e-14, 1e3))
        axis.set_xticks(STEPS, [str(n) for n in STEPS])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncol=3)
    axes[0].set_ylabel("largest relative error")
    save_figure(out, "order_toy_plot", "Error against the number of steps on one toy problem, both directions.", figure)


def _ideal_denoiser(out: Path) -> None:
    """The diffusion ODE of 100 digits blurred by N(0, 0.5²), sigma_bar from 0.2 to 20, against a fine reference."""
    images, _ = test_images()
    predictor = predictors.ideal_denoiser(images.double(), std=0.5)
    schedule = vsvf.Schedule.edm(0.2, 20.0)
    noise = 20.0 * torch.randn(4, 1, 28, 28, generator=generator(1), dtype=torch.float64)
    fine = vsvf.Grid.from_schedule(schedule, 1500, "karras", "smallest")
    reference = vsvf.integrate(predictor, noise, fine.sigma_bar[::-1], "rk4")[0]
    rows, curves = [], {}
    for name in tqdm(IDEAL_METHODS, desc="ideal denoiser", leave=False):
        formula, errors = formulas.by_name(name), []
        for steps in IDEAL_STEPS:
            grid = vsvf.Grid.from_schedule(schedule, steps, "karras", "smallest")
            try:
                x = vsvf.sample(predictor, noise, grid, formula, starter="rk4:4", tolerance=1e-13, max_iterations=200, warn=False).x
                errors.append(float((x - reference).abs().max()))
            except vsvf.VsvfError:
                errors.append(float("inf"))
        slope, _ = fit_slope(IDEAL_STEPS, errors)
        curves[name] = errors
        rows.append([name, formula.order, _slope(slope), *errors])
    save_table(
        out, "order_ideal", "Sampling error on the ideal denoiser of 100 digits (largest pixel error; Karras nodes, RK4 starter).",
        ["method", "claimed", "slope", *[f"N={n}" for n in IDEAL_STEPS]], rows,
    )  # fmt: skip
    figure, axis = plt.subplots(figsize=(7.5, 6))
    for n, (name, errors) in enumerate(curves.items()):
        shown = np.where(np.asarray(errors) < 1e3, errors, np.nan)
        axis.loglog(IDEAL_STEPS, shown, "o-", ms=3, lw=1, color=plt.get_cmap("tab20")(n % 20), label=f"{name}  {rows[n][2]}")
    axis.set(xlabel="number of steps N", ylabel="largest pixel error", title="Ideal denoiser of 100 digits, slope by the name")
    axis.set_xticks(IDEAL_STEPS, [str(n) for n in IDEAL_STEPS])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncol=3)
    save_figure(out, "order_ideal_plot", "Convergence on a diffusion ODE with known eps (3-step BELM leaves the figure).", figure)
