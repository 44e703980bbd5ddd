"""The judge: a network that reads what a picture shows, trained on rendered scenes and on nothing else.

It looks twice. The whole picture tells background, texture, how many digits there are and the frame each was written in; each
frame, cut out and brought to 28 x 28 pixels, tells the digit, its colour and its style.
"""

from __future__ import annotations

from importlib import resources
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from vsvf.scenes.glyphs import CLASSES, EDGE
from vsvf.scenes.scene import COLOURS, SIZE, STYLES, TEXTURES

ASSET = "scenes_judge.safetensors"


class Overview(NamedTuple):
    """What the whole picture tells.

    Attributes:
        background: logits (B, 6).
        texture: logits (B, 4).
        number: logits (B, 2) of one digit and two.
        frames: (B, 2, 3): x, y and edge of the left (or only) and the right digit's frame, in pictures' edges.
    """

    background: Tensor
    texture: Tensor
    number: Tensor
    frames: Tensor


class _Convolutions(nn.Sequential):
    """3 x 3 convolutions, each with batch normalisation and GELU; strides as given."""

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        for (inputs, outputs), stride in zip(pairwise(widths), strides, strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.GELU()]
        super().__init__(*layers)


class Judge(nn.Module):
    """Two small convolutional networks, 64 x 64 pictures in [-1, 1] to attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.overview_sizes = (len(COLOURS), len(TEXTURES), 2, 6)
        self.digit_sizes = (CLASSES, len(COLOURS), len(STYLES))
        self.whole = _Convolutions((12, 24, 32, 32, 48), (1, 2, 1, 2))
        self.whole_out = nn.Sequential(nn.Linear(48 * 64, 96), nn.GELU(), nn.Linear(96, sum(self.overview_sizes)))
        self.part = _Convolutions((3, 24, 24, 48, 48, 64), (1, 2, 1, 2, 1))
        self.part_out = nn.Sequential(nn.Dropout(0.2), nn.Linear(64 * 49, sum(self.digit_sizes)))

    def overview(self, pictures: Tensor) -> Overview:
        """Pictures (B, 3, 64, 64) to what they tell as a whole."""
        out = self.whole_out(self.whole(F.pixel_unshuffle(pictures, 2)).flatten(1)).split(self.overview_sizes, dim=1)
        frames = 0.5 + 0.25 * out[3].unflatten(1, (2, 3))
        return Overview(out[0], out[1], out[2], frames)

    def digit(self, pictures: Tensor, frames: Tensor) -> tuple[Tensor, ...]:
        """Pictures and one frame (B, 3) each to logits of digit (B, 10), colour (B, 6) and style (B, 2)."""
        return self.part_out(self.part(cut(pictures, frames)).flatten(1)).split(self.digit_sizes, dim=1)

    @torch.no_grad()
    def read(self, pictures: Tensor) -> list[dict[str, Any]]:
        """The attributes of each picture (B, 3, 64, 64), in the form of `Scene.attributes`.

        Raises:
            ValueError: another shape.
        """
        if pictures.ndim != 4 or pictures.shape[1:] != (3, SIZE, SIZE):
            raise ValueError(f"the judge reads pictures (B, 3, {SIZE}, {SIZE}), got shape {tuple(pictures.shape)}")
        pictures = pictures.to(next(self.parameters()))
        seen = self.overview(pictures)
        digits = [[logits.argmax(1).tolist() for logits in self.digit(pictures, seen.frames[:, i])] for i in range(2)]
        counts, colours = (seen.number.argmax(1) + 1).tolist(), tuple(COLOURS)
        rows = zip(counts, seen.background.argmax(1).tolist(), seen.texture.argmax(1).tolist(), strict=True)
        return [
            {
                "digits": tuple((values[n], colours[inks[n]], STYLES[styles[n]]) for values, inks, styles in digits[:count]),
                "background": colours[background],
                "texture": TEXTURES[texture],
            }
            for n, (count, background, texture) in enumerate(rows)
        ]


def cut(pictures: Tensor, frames: Tensor) -> Tensor:
    """The frames (B, 3), x, y and edge in pictures' edges, cut out of the pictures and brought to 28 x 28 pixels.

    The frame of a digit is 28 pixels wide with 4 pixels of margin; 2 of them are left out.
    """
    x, y, edge = (2 * frames - torch.tensor([1.0, 1.0, 0.0], dtype=frames.dtype, device=frames.device)).unbind(1)
    zoom, none = edge / 2 * 24 / 28, torch.zeros_like(x)
    matrix = torch.stack([zoom, none, x, none, zoom, y], dim=1).view(-1, 2, 3)
    points = F.affine_grid(matrix, [len(pictures), 3, EDGE, EDGE], align_corners=False)
    return F.grid_sample(pictures, points, padding_mode="border", align_corners=False)


def agreement(read: dict[str, Any], wanted: dict[str, Any]) -> dict[str, bool]:
    """Which attributes were read as wanted: count, every digit's value, colour and style, background, texture."""
    count = len(read["digits"]) == len(wanted["digits"])
    pairs = list(zip(read["digits"], wanted["digits"], strict=False))
    return {
        "count": count,
        **{name: count and all(a[k] == b[k] for a, b in pairs) for k, name in enumerate(("value", "colour", "style"))},
        "background": read["background"] == wanted["background"],
        "texture": read["texture"] == wanted["texture"],
    }


def load_judge() -> Judge:
    """The trained judge (float32, CPU, eval mode, no gradients to its weights)."""
    with torch.device("meta"):  # no weights drawn only to be replaced: the caller's random numbers stay as they are
        network = Judge()
    network.load_state_dict(load((resources.files("vsvf") / "assets" / ASSET).read_bytes()), assign=True)
    return network.eval().requires_grad_(False)
