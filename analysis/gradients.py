"""What does retracing the states cost a gradient in accuracy, in which arithmetic?

A sampling from noise on leading timesteps of the DDPM schedule that end at its smallest sigma_bar, and the gradient of the image's
sum of squares by the noise. "reversible" finds the states again by the inverse rows, "stored" keeps them; both in the same
arithmetic, so that what lies between the two gradients is what the retracing loses. The drift is how far the retraced noise lies
from the noise that the march began with. Both are largest differences, relative to the largest entry. Predictors: the exact
denoiser of the shipped test images (each blurred by 0.05), which computes in float64, and the digits network without guidance, in
float32. In fixed point the states that come back have the bits of those that went, and nothing is lost.

    python -m analysis.gradients --noises 8      # geometric means over noises with the exact denoiser, N = 50 and 100
"""

from __future__ import annotations

import argparse
import math
import warnings
from pathlib import Path

import torch

import vsvf
from analysis import progress, style
from analysis.common import generator, save_answer, save_figure, save_table, test_images
from vsvf import Fixed, predictors
from vsvf.predictors import Predictor
from vsvf.predictors.base import ClosedForm

METHODS = ("belm(2)", "bdia(1)", "edict(0.93)", "stable_belm(2)", "stable_belm(3)")
ARITHMETICS = ("float16", "float32", "float64", "fixed")
STEPS = (10, 20, 50, 100, 200)  # with the exact denoiser
NETWORK_STEPS = (10, 20)
FLOOR = 1e-17
WIDE = Fixed(data_range=2000.0)  # EDICT's samples grow to 1000 with 10 steps


def exact_denoiser() -> Predictor:
    """Of the test images, in float64 whatever the states are in."""
    exact = predictors.ideal_denoiser(test_images()[0].double(), std=0.05)
    return ClosedForm(lambda x, sigma_bar: exact.function(x.double(), sigma_bar), vsvf.Schedule.linear())


def lost(predictor: Predictor, method: str, arithmetic: str, steps: int, x: torch.Tensor) -> tuple[float, float]:
    """The drift of the retraced noise and the error of the gradient, relative; inf where a march overflowed."""
    grid = vsvf.Grid.from_schedule(predictor.schedule, steps, "leading", "smallest")
    number: str | Fixed = (WIDE if method.startswith("edict") else Fixed()) if arithmetic == "fixed" else arithmetic
    found = {}
    try:
        for way in ("reversible", "stored"):
            leaf = x.clone().requires_grad_()
            state = vsvf.sample(predictor, leaf, grid, method, arithmetic=number, gradient=way, warn=False)
            found[way] = torch.autograd.grad(state.x.double().square().sum(), leaf)[0].double()
        began = vsvf.sample(predictor, x, grid, method, arithmetic=number, stop=steps, warn=False)
        ended = vsvf.sample(predictor, began, grid, method, warn=False)
        back = vsvf.invert(predictor, ended, grid, method, warn=False)
    except vsvf.NonFiniteError:
        return float("inf"), float("inf")
    return _relative(back.reals, began.reals), _relative(found["reversible"], found["stored"])


def _relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    error = float((found - wanted).double().abs().max() / wanted.double().abs().max())
    return error if error == error else float("inf")


def _short(value: float) -> str:
    """Two digits; a plain 0 where nothing differs."""
    return "0" if value == 0.0 else f"{value:.1e}"


def main(out: Path) -> None:
    """Write gradients_*.csv and gradients_*.svg into `out`."""
    x = torch.randn(1, 1, 28, 28, generator=generator(3), dtype=torch.float64)
    denoiser = exact_denoiser()
    pairs = [(m, a) for m in METHODS for a in ARITHMETICS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", vsvf.RetraceWarning)
        found = {(*pair, n): lost(denoiser, *pair, n, x) for pair in progress.steps(pairs, "gradients") for n in STEPS}
        network = predictors.digits(3)
        seen = {
            (*pair, n): lost(network, *pair, n, x) for pair in progress.steps(pairs, "gradients, network") for n in NETWORK_STEPS
        }
    for name, results, steps, which in (
        ("gradients_lost", found, STEPS, "exact denoiser"),
        ("gradients_network", seen, NETWORK_STEPS, "digits network"),
    ):
        save_table(
            out, name, f"Drift of the retraced noise / error of the gradient, both relative, {which}.",
            ["method", "arithmetic", *[f"N={n}" for n in steps]],
            [[m, a, *[" / ".join(_short(value) for value in results[m, a, n]) for n in steps]] for m, a in pairs],
        )  # fmt: skip
    errors = {job: pair[1] for job, pair in found.items()}
    figure = style.error_panels(errors, METHODS, ARITHMETICS, STEPS, (FLOOR, 1e3), "error of the gradient")
    save_figure(out, "gradients_lost_plot", "Error of the gradient with the exact denoiser; equal bits are drawn at 1e-17.", figure)
    conclude(out, found)


def conclude(out: Path, found: dict[tuple[str, str, int], tuple[float, float]]) -> None:
    """A two-sided formula against O-BELM, and fixed point."""
    most = max(STEPS)
    exact = sum(error == 0.0 for (_, arithmetic, _), (_, error) in found.items() if arithmetic == "fixed")
    of = sum(arithmetic == "fixed" for _, arithmetic, _ in found)
    short, stable = found["belm(2)", "float32", most][1], found["stable_belm(3)", "float32", most][1]
    half, half_stable = found["belm(2)", "float16", most][1], found["stable_belm(3)", "float16", most][1]
    save_answer(
        out, "gradients",
        f"At N = {most} the retraced gradient of O-BELM is off by {short:.1e} in float32 and {half:.1e} in float16, that of "
        f"stable_belm(3) by {stable:.1e} and {half_stable:.1e}. In fixed point {exact} of {of} have the bits of the stored march.",
    )  # fmt: skip


def over_noises(count: int) -> str:
    """The same losses for several noises, the exact denoiser: a table of geometric means, and the worst gradient."""
    denoiser, lines = exact_denoiser(), ["| N | arithmetic | method | drift | gradient | worst |", "|---|---|---|---|---|---|"]
    for steps in (50, 100):
        for arithmetic in ("float16", "float32"):
            for method in ("belm(2)", "stable_belm(2)", "stable_belm(3)"):
                noises = [torch.randn(1, 1, 28, 28, generator=generator(3 + n), dtype=torch.float64) for n in range(count)]
                drifts, errors = zip(*(lost(denoiser, method, arithmetic, steps, x) for x in noises))
                means = [math.exp(sum(map(math.log, values)) / count) for values in (drifts, errors)]
                lines.append(f"| {steps} | {arithmetic} | {method} | {means[0]:.1e} | {means[1]:.1e} | {max(errors):.1e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m analysis.gradients", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--noises", type=int, default=8, metavar="N")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", vsvf.RetraceWarning)
    print(over_noises(parser.parse_args().noises))
