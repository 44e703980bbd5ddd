"""What do sampling, inversion and reconstruction look like?

Ten digits sampled by the embedded network with guidance 2. Then ten MNIST test images, the noise that each method finds for them,
the reconstruction that it samples back from this noise, and the difference times ten.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import vsvf
from analysis.common import generator, save_answer, save_figure, save_table, test_images
from vsvf import predictors
from vsvf.apps.roundtrip import DDIM_INVERSION, compare, from_image

STEPS = 50


def main(out: Path) -> None:
    """Write pictures_*.png and pictures_*.csv into `out`."""
    schedule = vsvf.Schedule.linear()
    grid = vsvf.Grid.from_schedule(schedule, STEPS, "trailing", "smallest")
    labels = torch.arange(10)
    noise = torch.randn(10, 1, 28, 28, generator=generator(4))
    guided = predictors.digits(labels, guidance=2.0)
    rows = [("noise", noise)]
    for name in ("ddim", "belm(2)", "stable_belm(4)"):
        rows.append((f"{name}\nN = {STEPS}", vsvf.sample(guided, noise, grid, name, arithmetic="float32").x))
    try:
        blown = vsvf.sample(guided, noise, vsvf.Grid.from_schedule(schedule, 10, "trailing", "smallest"), "belm(3)", warn=False).x
    except vsvf.NonFiniteError:
        blown = torch.full_like(noise, float("nan"))
    rows.append(("belm(3)\nN = 10", blown))
    _sheet(out, "pictures_samples", f"Ten digits sampled with {STEPS} steps at guidance 2; three-step BELM has exploded.", rows)

    images, test_labels = test_images()
    chosen = torch.arange(5, 100, 10)
    image, plain = images[chosen], predictors.digits(test_labels[chosen])
    errors, lost = [], {}
    for name, title in (("ddim", "DDIM inversion"), ("belm(2)", "O-BELM"), ("stable_belm(4)", "stable 4-step BELM")):
        trip = from_image(plain, image, grid, DDIM_INVERSION if name == "ddim" else name, arithmetic="float32")
        found, back = trip.turn, trip.end
        _sheet(
            out,
            f"pictures_{name.split('(')[0]}_reconstruction",
            f"{title}: test image, inverted noise, reconstruction, difference × 10.",
            [("image", image), ("noise found", found / 2), ("reconstruction", back), ("difference × 10", 10 * (back - image))],
        )
        lost[title] = (found, back)
        difference = compare(back, image)
        errors.append([title, difference.mse, difference.max, float(found.std())])
    _sheet(
        out,
        "pictures_overview",
        f"MNIST test images, inverted and reconstructed with {STEPS} steps; differences ten times enlarged.",
        [
            ("image", image),
            ("noise found\nby O-BELM", lost["O-BELM"][0] / 2),
            ("reconstructed\nby O-BELM", lost["O-BELM"][1]),
            ("difference × 10\nO-BELM", 10 * (lost["O-BELM"][1] - image)),
            ("difference × 10\nDDIM inversion", 10 * (lost["DDIM inversion"][1] - image)),
        ],
    )
    save_table(
        out, "pictures_errors", f"Reconstruction of ten test images, N = {STEPS}, float32, guidance 1, pixels in [-1, 1].",
        ["method", "MSE", "largest difference", "standard deviation of the noise found, 1 for Gaussian noise"], errors,
    )  # fmt: skip
    worst = {row[0]: row[2] for row in errors}
    save_answer(
        out, "pictures",
        f"O-BELM's reconstruction differs from the image by {worst['O-BELM']:.1e} at most (pixels in [-1, 1], float32), DDIM "
        f"inversion's by {worst['DDIM inversion']:.2g}: one retraces its steps, the other does not.",
    )  # fmt: skip


def _sheet(out: Path, name: str, caption: str, rows: list[tuple[str, torch.Tensor]]) -> None:
    count = rows[0][1].shape[0]
    figure, axes = plt.subplots(len(rows), count, figsize=(0.9 * count + 1.2, 0.95 * len(rows)))
    for line, (title, tensor) in zip(axes, rows):
        for axis, picture in zip(line, tensor):
            axis.imshow(picture[0].float(), cmap="gray", vmin=-1, vmax=1)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    figure.subplots_adjust(wspace=0.05, hspace=0.05)
    save_figure(out, name, caption, figure)
