"""From a scene to its picture, and to the pixels that each of its digits covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vsvf.scenes.captions import caption
from vsvf.scenes.glyphs import Glyphs
from vsvf.scenes.scene import COLOURS, PERIOD, RIM, SIZE, TEXTURES, Scene

RIM_PIXELS = 2
DOT_RADIUS = 4.5


@dataclass(frozen=True, eq=False)
class Rendered:
    """A picture and what is known about it.

    Attributes:
        picture: (3, 64, 64) float32 in [-1, 1].
        caption: the plainest phrase for it.
        attributes: as `Scene.attributes`.
        masks: (number of digits, 64, 64) bool, the pixels of each digit that can be seen, its rim included; disjoint.
    """

    picture: Tensor
    caption: str
    attributes: dict[str, Any]
    masks: Tensor


def render(scene: Scene, glyphs: Glyphs) -> Rendered:
    """The picture of one scene; equal scenes give equal bits."""
    pictures, masks = render_batch([scene], glyphs)
    return Rendered(pictures[0], caption(scene), scene.attributes, masks[0, : len(scene.digits)])


def render_batch(scenes: Sequence[Scene], glyphs: Glyphs) -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, 64, 64) float32 in [-1, 1] and masks (B, 2, 64, 64) bool of several scenes.

    The mask of a digit that is not there is False everywhere.
    """
    shade = _textures(scenes)[:, None]
    colours = torch.stack([_levels(COLOURS[scene.background]) for scene in scenes])[..., None, None]  # B, 2, 3, 1, 1
    pictures = colours[:, 0] + shade * (colours[:, 1] - colours[:, 0])
    masks = torch.zeros(len(scenes), 2, SIZE, SIZE, dtype=torch.bool)
    for i in range(2):
        rows = [n for n, scene in enumerate(scenes) if len(scene.digits) > i]
        if rows:
            body, rim = _coverage([scenes[n] for n in rows], i, glyphs)
            ink = torch.stack([_levels(COLOURS[scenes[n].digits[i].colour])[0] for n in rows])[..., None, None]
            rimmed = torch.lerp(pictures[rows], _levels((RIM,))[0][:, None, None], rim[:, None])
            pictures[rows] = torch.lerp(rimmed, ink, body[:, None])
            seen = torch.maximum(body, rim) > 0.5
            masks[rows, i] = seen
            if i == 1:
                masks[rows, 0] &= ~seen
    return pictures, masks


def _levels(colours: Sequence[tuple[int, int, int]]) -> Tensor:
    """(n, 3) float32 in [-1, 1]."""
    return torch.tensor(colours, dtype=torch.float32) / 127.5 - 1


def _textures(scenes: Sequence[Scene]) -> Tensor:
    """(B, 64, 64): 1 where the background has its shade, 0 where it has its colour, edges of the dots between."""
    phase = torch.tensor([scene.phase for scene in scenes])
    right, down = ((torch.arange(SIZE) - phase[:, k : k + 1]) % PERIOD for k in (0, 1))
    x, y = right[:, None, :], down[:, :, None]
    half, centre = PERIOD // 2, (PERIOD - 1) / 2
    drawn = {
        "plain": torch.zeros(len(scenes), SIZE, SIZE),
        "stripes": ((x + y) % PERIOD < half).float(),
        "checks": ((x < half) ^ (y < half)).float(),
        "dots": (DOT_RADIUS + 0.5 - ((x - centre) ** 2 + (y - centre) ** 2).sqrt()).clamp(0, 1),
    }
    kind = torch.tensor([TEXTURES.index(scene.texture) for scene in scenes])
    return torch.stack([drawn[name] for name in TEXTURES])[kind, torch.arange(len(scenes))]


def _coverage(scenes: Sequence[Scene], which: int, glyphs: Glyphs) -> tuple[Tensor, Tensor]:
    """How much of every pixel (B, 64, 64) the digit `which` covers, and its rim with it (zero for a filled one)."""
    digits = [scene.digits[which] for scene in scenes]
    written = torch.stack([glyphs.get(d.value, d.glyph) for d in digits]).float()[:, None] / 255
    place = torch.tensor([[d.x, d.y, d.size] for d in digits], dtype=torch.float32)
    pixel = torch.arange(SIZE) + 0.5
    across, along = (2 * (pixel - place[:, k : k + 1]) / place[:, 2:] for k in (0, 1))  # -1 … 1 over the frame
    points = torch.stack([across[:, None, :].expand(-1, SIZE, -1), along[:, :, None].expand(-1, -1, SIZE)], dim=-1)
    body = F.grid_sample(written, points, mode="bilinear", padding_mode="zeros", align_corners=False)
    body = ((body - 0.2) / 0.5).clamp(0, 1)  # pencil grey to ink: full inside the stroke, one soft pixel at its edge
    wide = F.max_pool2d(body, 2 * RIM_PIXELS + 1, stride=1, padding=RIM_PIXELS)
    outlined = torch.tensor([d.style == "outlined" for d in digits])[:, None, None]
    return body[:, 0], torch.where(outlined, wide[:, 0], 0.0)
