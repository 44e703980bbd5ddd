"""What does a round trip return?

noise → image → noise starts from Gaussian noise, samples, and inverts from the k states that sampling returned. image → noise →
image starts from test images, inverts (DDIM starter), and samples from the k states that inversion returned. The numbers are the
largest difference over all pixels of 2 images, in the arithmetic named; the network computes in float32 throughout
(so that in float64 a difference of 1e-16 can flip the rounding of its input, and then 1e-7 comes back). An exactly
invertible method is limited by rounding times its amplification alone; "DDIM inversion" is equation (8), another relation than
the one DDIM samples with, and is wrong by its truncation error in any arithmetic.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import vsvf
from analysis import progress, style
from analysis.common import generator, save_answer, save_figure, save_number, save_table, test_images
from vsvf import predictors
from vsvf.apps.roundtrip import DDIM_INVERSION, from_image, from_noise
from vsvf.predictors import Predictor

METHODS = (
    "DDIM inversion", "bdia(1)", "bdia(0.5)", "edict(0.93)", "mccallum_foster(0.999)", "belm(2)", "belm(3)",
    "stable_belm(3)", "stable_belm(4)",
)  # fmt: skip
STEPS = (10, 20, 50, 100)
DTYPES = ("float64", "float32", "float16")


def round_trip(predictor: Predictor, x: torch.Tensor, grid: vsvf.Grid, method: str, dtype: str, noise_first: bool) -> float:
    """Largest pixel difference after a round trip; infinite where the march overflows."""
    x = x.to(getattr(torch, dtype))
    trip = from_noise if noise_first else from_image
    name = DDIM_INVERSION if method == "DDIM inversion" else method
    try:
        returned = trip(predictor, x, grid, name, arithmetic=dtype, warn=False).end
    except vsvf.NonFiniteError:
        return float("inf")
    return float((returned.double() - x.double()).abs().max())


def main(out: Path) -> None:
    """Write roundtrip_errors.csv and roundtrip_plot.svg into `out`."""
    images, labels = test_images()
    chosen = torch.tensor([25, 81])
    predictor = predictors.digits(labels[chosen])
    noise = torch.randn(2, 1, 28, 28, generator=generator(2))
    schedule = vsvf.Schedule.linear()
    results: dict[tuple[bool, str, str, int], float] = {}
    jobs = [(way, m, d, n) for way in (True, False) for m in METHODS for d in DTYPES for n in STEPS]
    for way, method, dtype, steps in progress.steps(jobs, "round trips"):
        grid = vsvf.Grid.from_schedule(schedule, steps, "trailing", "smallest")
        start = noise if way else images[chosen]
        results[way, method, dtype, steps] = round_trip(predictor, start, grid, method, dtype, way)
    names = {True: "noise → image → noise", False: "image → noise → image"}
    save_table(
        out, "roundtrip_errors", "Largest difference after a round trip, digits network, DDPM-linear schedule, trailing timesteps.",
        ["round trip", "method", "arithmetic", *[f"N={n}" for n in STEPS]],
        [[names[way], m, d, *[results[way, m, d, n] for n in STEPS]] for way in names for m in METHODS for d in DTYPES],
    )  # fmt: skip
    figure, axes = plt.subplots(2, 3, figsize=(11, 7.4), sharex=True, sharey=True, constrained_layout=True)
    for row, way in zip(axes, names):
        for axis, dtype in zip(row, DTYPES):
            for n, method in enumerate(METHODS):
                errors = [min(results[way, method, dtype, s], 1e20) for s in STEPS]
                axis.loglog(STEPS, errors, label=method, **style.line(n))
            axis.set(title=f"{names[way]}, {dtype}", ylim=(1e-16, 1e21))
            style.steps_axis(axis, STEPS)
            axis.grid(alpha=0.3)
        row[0].set_ylabel("largest difference")
    for axis in axes[0]:
        axis.set_xlabel("")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, handlelength=3.2)
    save_figure(out, "roundtrip_plot", "The same as curves; values above 1e20 (overflow) are drawn at 1e20.", figure)
    ddim, exact = (results[False, method, "float64", 50] for method in ("DDIM inversion", "belm(2)"))
    single = {dtype: results[False, "belm(2)", dtype, 50] for dtype in ("float32", "float16")}
    save_answer(
        out, "roundtrip",
        f"From an image to its noise and back in 50 steps, DDIM inversion is off by {ddim:.2g} in any arithmetic; O-BELM by "
        f"{exact:.0e} in float64, {single['float32']:.0e} in float32 and {single['float16']:.1g} in float16: rounding, amplified.",
    )  # fmt: skip
    scale = "on pixels in [-1, 1], image to noise and back in 50 steps"
    save_number(out, "roundtrip_ddim", f"{ddim:.2g}", f"is lost by DDIM inversion in any arithmetic, {scale}.", "roundtrip_errors")
    save_number(out, "roundtrip_exact", f"{exact:.0e}", f"is lost by O-BELM in float64, {scale}.", "roundtrip_errors")
