"""What does a round trip return?

image → noise → image starts from test images, inverts (DDIM starter), and samples from the k states that inversion returned. The
numbers are the largest difference over all pixels of 2 images, in the arithmetic named; the network computes in float32 throughout
(so that in float64 a difference of 1e-16 can flip the rounding of its input, and then 1e-7 comes back). An exactly
invertible method is limited by rounding times its amplification alone; "DDIM inversion" is equation (8), another relation than
the one DDIM samples with, and is wrong by its truncation error in any arithmetic.

The way noise → image → noise is in the study of exactness; `python -m analysis.roundtrip` runs it for these methods too, and more
steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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
WAYS = {"image": "image → noise → image", "noise": "noise → image → noise"}
STEPS, MORE_STEPS = (10, 20, 50), (10, 20, 50, 100)
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


def main(out: Path, ways: Sequence[str] = ("image",), steps: Sequence[int] = STEPS) -> None:
    """Write roundtrip_errors.csv and roundtrip_plot.svg into `out`."""
    images, labels = test_images()
    chosen = torch.tensor([25, 81])
    predictor = predictors.digits(labels[chosen])
    starts = {"image": images[chosen], "noise": torch.randn(2, 1, 28, 28, generator=generator(2))}
    schedule = vsvf.Schedule.linear()
    results: dict[tuple[str, str, str, int], float] = {}
    jobs = [(way, m, d, n) for way in ways for m in METHODS for d in DTYPES for n in steps]
    for way, method, dtype, count in progress.steps(jobs, "round trips"):
        grid = vsvf.Grid.from_schedule(schedule, count, "trailing", "smallest")
        results[way, method, dtype, count] = round_trip(predictor, starts[way], grid, method, dtype, way == "noise")
    save_table(
        out, "roundtrip_errors", "Largest difference after a round trip, digits network, DDPM-linear schedule, trailing timesteps.",
        ["round trip", "method", "arithmetic", *[f"N={n}" for n in steps]],
        [[WAYS[way], m, d, *[results[way, m, d, n] for n in steps]] for way in ways for m in METHODS for d in DTYPES],
    )  # fmt: skip
    figure, axes = plt.subplots(
        len(ways), 3, figsize=(11, 4.0 * len(ways)), sharex=True, sharey=True, constrained_layout=True, squeeze=False
    )
    for row, way in zip(axes, ways):
        for axis, dtype in zip(row, DTYPES):
            for n, method in enumerate(METHODS):
                errors = [min(results[way, method, dtype, count], 1e20) for count in steps]
                axis.loglog(steps, errors, label=method, **style.line(n))
            axis.set(title=f"{WAYS[way]}, {dtype}", ylim=(1e-16, 1e21))
            style.steps_axis(axis, steps)
            axis.grid(alpha=0.3)
        row[0].set_ylabel("largest difference")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, handlelength=3.2)
    save_figure(out, "roundtrip_plot", "The same as curves; values above 1e20 (overflow) are drawn at 1e20.", figure)
    if "image" in ways and 50 in steps:
        conclude(out, results)


def conclude(out: Path, results: dict[tuple[str, str, str, int], float]) -> None:
    """From an image and back in 50 steps: DDIM inversion against O-BELM."""
    ddim, exact = (results["image", method, "float64", 50] for method in ("DDIM inversion", "belm(2)"))
    single = {dtype: results["image", "belm(2)", dtype, 50] for dtype in ("float32", "float16")}
    save_answer(
        out, "roundtrip",
        f"From an image to its noise and back in 50 steps, DDIM inversion is off by {ddim:.2g} in any arithmetic; O-BELM by "
        f"{exact:.0e} in float64, {single['float32']:.0e} in float32 and {single['float16']:.1g} in float16: rounding, amplified.",
    )  # fmt: skip
    scale = "on pixels in [-1, 1], image to noise and back in 50 steps"
    save_number(out, "roundtrip_ddim", f"{ddim:.2g}", f"is lost by DDIM inversion in any arithmetic, {scale}.", "roundtrip_errors")
    save_number(out, "roundtrip_exact", f"{exact:.0e}", f"is lost by O-BELM in float64, {scale}.", "roundtrip_errors")


def command(arguments: Sequence[str] | None = None) -> None:
    """The study on its own, by default both ways and with 100 steps too."""
    parser = argparse.ArgumentParser(prog="python -m analysis.roundtrip", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS), help="where trips start")
    parser.add_argument("--steps", type=int, nargs="+", default=MORE_STEPS)
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    main(args.out, args.ways, args.steps)


if __name__ == "__main__":
    command()
