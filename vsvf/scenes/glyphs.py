"""Handwritten digits to compose scenes of: 28 x 28 grey levels of MNIST, numbered within each class."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib import resources

import numpy as np
import torch
from torch import Tensor

EDGE = 28
CLASSES = 10
ASSET = "scenes_digits.png"


@dataclass(frozen=True, eq=False)
class Glyphs:
    """Digits of each class, in order.

    Attributes:
        classes: ten uint8 tensors (n_c, 28, 28), class c at position c; ink is 255.
    """

    classes: tuple[Tensor, ...]

    @classmethod
    def of(cls, images: Tensor, labels: Tensor) -> Glyphs:
        """From images (n, 28, 28) uint8 and their labels (n,), 0 … 9.

        Raises:
            ValueError: other shapes or dtypes, or a class without an image.
        """
        if images.dtype != torch.uint8 or images.shape[1:] != (EDGE, EDGE) or labels.shape != images.shape[:1]:
            raise ValueError(f"need uint8 images (n, 28, 28) and labels (n,), got {tuple(images.shape)} and {tuple(labels.shape)}")
        classes = tuple(images[labels == value] for value in range(CLASSES))
        empty = [value for value, some in enumerate(classes) if len(some) == 0]
        if empty:
            raise ValueError(f"images has no example of the digits {empty}")
        return cls(classes)

    def count(self, value: int) -> int:
        """How many examples of the digit `value` there are."""
        return len(self.classes[value])

    def get(self, value: int, number: int) -> Tensor:
        """Example `number` of the digit `value`: (28, 28) uint8.

        Raises:
            ValueError: no such example.
        """
        if not 0 <= number < self.count(value):
            raise ValueError(f"glyph must lie in 0 … {self.count(value) - 1} for the digit {value}, got {number}")
        return self.classes[value][number]


def load_glyphs() -> Glyphs:
    """The 1000 digits of MNIST's test split that come with the package, 100 of each class.

    They are stored as one picture, a row of 100 digits per class.
    """
    from PIL import Image

    with Image.open(io.BytesIO((resources.files("vsvf") / "assets" / ASSET).read_bytes())) as picture:
        pixels = torch.from_numpy(np.array(picture))
    rows = pixels.unflatten(1, (-1, EDGE)).unflatten(0, (CLASSES, EDGE)).transpose(1, 2)  # class, column, 28, 28
    return Glyphs(tuple(row.contiguous() for row in rows))
