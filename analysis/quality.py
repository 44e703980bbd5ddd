"""Are the digits that are sampled the digits that were asked for?

How many of 500 digits an MNIST classifier recognises, 50 of each class, guidance 2; DDIM with 50 steps, O-BELM with 20. The
classifier ships with the package (it took no part in training the generator) and is right on the shipped test images as often as
the last column says.
"""

from __future__ import annotations

from pathlib import Path

import torch

import vsvf
from analysis import progress
from analysis.common import generator, save_answer, save_number, save_table, test_images
from vsvf import predictors
from vsvf.apps.classifier import load_digits_classifier

RUNS = (("ddim", 50), ("belm(2)", 20))


def main(out: Path) -> None:
    """Write quality_recognised.csv into `out`."""
    classifier = load_digits_classifier()
    images, labels = test_images()
    with torch.no_grad():
        on_test = float((classifier(images).argmax(1) == labels).float().mean())
    asked = torch.arange(10).repeat_interleave(50)
    noise = torch.randn(500, 1, 28, 28, generator=generator(5))
    rows = []
    for name, steps in RUNS:
        grid = vsvf.Grid.from_schedule(vsvf.Schedule.linear(), steps, "trailing", "zero")
        right = 0
        for part in progress.steps(torch.arange(500).split(50), name):
            predictor = predictors.digits(asked[part], guidance=2.0)
            with torch.no_grad():
                found = classifier(vsvf.sample(predictor, noise[part], grid, name).x).argmax(1)
            right += int((found == asked[part]).sum())
        rows.append([name, steps, 500, right, f"{right / 5:.1f} %", f"{100 * on_test:.0f} %"])
    save_table(
        out, "quality_recognised", "Digits recognised as the class asked for.",
        ["sampler", "steps", "sampled", "recognised", "share", "classifier on the 100 shipped test images"], rows,
    )  # fmt: skip
    recognised = " and ".join(f"{row[3]} of {row[2]} sampled with {row[0]} in {row[1]} steps" for row in rows)
    save_answer(out, "quality", f"An independent classifier recognises {recognised} as the class asked for.")
    meaning = f"digits sampled with {rows[0][1]} DDIM steps at guidance 2 are recognised as the class asked for."
    save_number(out, "quality_share", f"{rows[0][3]} of {rows[0][2]}", meaning, "quality_recognised")
