"""Are the digits that are sampled the digits that were asked for?

How many digits an MNIST classifier recognises, as many of each class, guidance 2; DDIM with 50 steps, O-BELM with 20. The
classifier ships with the package (it took no part in training the generator) and is right on the shipped test images as often as
the last column says. `python -m analysis.quality` takes 500 digits.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

import vsvf
from analysis import progress
from analysis.common import generator, save_answer, save_number, save_table, test_images
from vsvf import predictors
from vsvf.apps.classifier import load_digits_classifier

RUNS = (("ddim", 50), ("belm(2)", 20))
EACH, MORE = 10, 50  # of each class


def main(out: Path, each: int = EACH) -> None:
    """Write quality_recognised.csv into `out`."""
    classifier = load_digits_classifier()
    images, labels = test_images()
    with torch.no_grad():
        on_test = float((classifier(images).argmax(1) == labels).float().mean())
    asked = torch.arange(10).repeat_interleave(each)
    noise = torch.randn(len(asked), 1, 28, 28, generator=generator(5))
    rows = []
    for name, steps in RUNS:
        grid = vsvf.Grid.from_schedule(vsvf.Schedule.linear(), steps, "trailing", "zero")
        right = 0
        for part in progress.steps(torch.arange(len(asked)).split(50), name):
            predictor = predictors.digits(asked[part], guidance=2.0)
            with torch.no_grad():
                found = classifier(vsvf.sample(predictor, noise[part], grid, name).x).argmax(1)
            right += int((found == asked[part]).sum())
        rows.append([name, steps, len(asked), right, f"{100 * right / len(asked):.1f} %", f"{100 * on_test:.0f} %"])
    save_table(
        out, "quality_recognised", "Digits recognised as the class asked for.",
        ["sampler", "steps", "sampled", "recognised", "share", "classifier on the 100 shipped test images"], rows,
    )  # fmt: skip
    recognised = " and ".join(f"{row[3]} of {row[2]} sampled with {row[0]} in {row[1]} steps" for row in rows)
    save_answer(out, "quality", f"An independent classifier recognises {recognised} as the class asked for.")
    meaning = f"digits sampled with {rows[0][1]} DDIM steps at guidance 2 are recognised as the class asked for."
    save_number(out, "quality_share", f"{rows[0][3]} of {rows[0][2]}", meaning, "quality_recognised")


def command(arguments: Sequence[str] | None = None) -> None:
    """The study on its own, by default with 50 digits of each class."""
    parser = argparse.ArgumentParser(prog="python -m analysis.quality", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--each", type=int, default=MORE, help="digits of each class")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    main(args.out, args.each)


if __name__ == "__main__":
    command()
