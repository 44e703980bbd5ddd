"""Samplers at equal numbers of evaluations: how many digits are recognised, and how far their features lie from real ones.

    python -m analysis.samplers --out OUT --nfe 5 10 20 --count 400

The embedded digits network without guidance, with the starters that samplers are used with: the share that an MNIST classifier
recognises as the class asked for, and the Fréchet distance of its features from MNIST's test split (of equal numbers of pictures
only), with standard errors over ten blocks of seeds. On leading timesteps and on log-SNR nodes, both ending at the smallest
sigma_bar.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vsvf
from analysis.common import generator, save_table
from analysis.pareto import make_grid
from analysis.zoo import PUBLISHED, fits, steps_of
from vsvf import formulas, predictors
from vsvf.apps.classifier import load_digits_classifier
from vsvf.apps.features import digits_features
from vsvf.apps.frechet import Moments, distance, jackknife

BLOCKS = 10
CAPTION = "Digits without guidance: recognised share, and Fréchet distance from MNIST's test split."
HEADER = (
    "nodes",
    "NFE",
    "sampler",
    "evaluations",
    "digits",
    "recognised | %",
    "recognised | ±",
    "distance | value",
    "distance | ±",
)


def samplers(spacing: str, nfe: int) -> list[tuple[str, str]]:
    """Names and starters: the published ones, O-BELM, and what is recommended on such nodes, both ways and for sampling."""
    grid = make_grid("DDPM", nfe, spacing)
    own = [formulas.recommended(grid, direction=direction).name for direction in ("both", "sampling")]
    published = [("ddim", "ddim"), *((name, "ddim" if name.startswith("unipc") else "lower_order") for name in PUBLISHED)]
    return [*published, *((name, "ddim") for name in ("belm(2)", *own))]


def main(out: Path, nfe: Sequence[int], count: int, spacings: Sequence[str] = ("leading", "log_snr")) -> None:
    """Write samplers_quality.csv into `out`, anew after every sampler."""
    classifier, features = load_digits_classifier(), digits_features()
    with resources.as_file(resources.files("vsvf") / "assets" / "digits_reference_test.safetensors") as path:
        reference = Moments.load(path)
    asked, noise = torch.arange(count) % 10, torch.randn(count, 1, 28, 28, generator=generator(7))
    rows: list[list[Any]] = []
    for spacing in spacings:
        for n in nfe:
            for name, starter in samplers(spacing, n):
                grid = make_grid("DDPM", steps_of(name, n), spacing)
                if not fits(name, grid.steps):
                    continue
                right, vectors, spent = [], [], 0
                for part in torch.arange(count).split(50):
                    predictor = predictors.digits(asked[part], guidance=1.0)
                    state = vsvf.sample(predictor, noise[part], grid, name, starter=starter, warn=False)
                    with torch.no_grad():
                        right.append((classifier(state.x).argmax(1) == asked[part]).double().numpy())
                    vectors.append(features.of([state.x]))
                    spent = state.nfe
                known = np.concatenate(right)
                blocks = np.array_split(known, BLOCKS)
                without = np.array([(known.sum() - block.sum()) / (count - len(block)) for block in blocks])
                found = distance(np.concatenate(vectors), reference, BLOCKS)
                share = [100.0 * float(known.mean()), 100.0 * jackknife(without)]
                rows.append([spacing, n, name, spent, count, *share, found.value, found.error])
                save_table(out, "samplers_quality", CAPTION, HEADER, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Quality of samplers at equal numbers of evaluations.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nfe", nargs="+", type=int, default=[5, 10, 20])
    parser.add_argument("--count", type=int, default=400, help="digits per sampler")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    main(arguments.out, arguments.nfe, arguments.count)
