"""Edits whose true result is known: rendered scenes, each with the scene that its edit should give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from vsvf.scenes import COLOURS, STYLES, TEXTURES, Glyphs, Scene, caption, random_scene, render_batch

KINDS = ("digit", "colour", "background", "texture", "add", "delete", "style", "several")
FIRST = 30_000  # seed of the first case
STANDARD = 304  # 38 of each kind


@dataclass(frozen=True, eq=False)
class Case:
    """One picture and the edit that is asked for.

    Attributes:
        name, kind: for tables. picture: (C, H, W) in [-1, 1]. source, target: prompts.
        mask: (H, W) bool, True where the edit may change pixels.
        truth: (C, H, W) of the right result, and its attributes; None where it is not known.
        changed: which of the judge's attributes the edit changes. words: for a local blend, () where none are known.
    """

    name: str
    kind: str
    picture: torch.Tensor
    source: str
    target: str
    mask: torch.Tensor
    truth: torch.Tensor | None = None
    attributes: dict[str, Any] | None = None
    changed: tuple[str, ...] = ()
    words: tuple[str, ...] = ("auto",)


def scene_cases(numbers: Sequence[int], glyphs: Glyphs) -> list[Case]:
    """The cases of these numbers; case n is of kind n mod 8, and the same whatever other cases are asked for.

    The mask is where the rendered source and target differ, widened by one pixel.
    """
    pairs = [scene_pair(n, glyphs) for n in numbers]
    if not pairs:
        return []
    pictures = render_batch([pair[0] for pair in pairs], glyphs)[0]
    truths = render_batch([pair[1] for pair in pairs], glyphs)[0]
    apart = (pictures - truths).abs().amax(1, keepdim=True) > 1e-3
    masks = F.max_pool2d(apart.float(), 3, stride=1, padding=1)[:, 0] > 0.5
    return [
        Case(
            f"scene-{n:04d}",
            KINDS[n % len(KINDS)],
            pictures[i],
            caption(source),
            caption(target),
            masks[i],
            truths[i],
            target.attributes,
            changed_attributes(source.attributes, target.attributes),
        )
        for i, (n, (source, target)) in enumerate(zip(numbers, pairs))
    ]


def scene_pair(number: int, glyphs: Glyphs) -> tuple[Scene, Scene]:
    """The scene of a case and the scene that its edit should give."""
    generator = torch.Generator().manual_seed(FIRST + number)
    kind = KINDS[number % len(KINDS)]

    def draw(choices: Sequence[Any]) -> Any:
        return choices[int(torch.randint(len(choices), (1,), generator=generator))]

    if kind in ("add", "delete"):
        pair = random_scene(glyphs, generator, count=2)
        one = replace(pair, digits=(pair.digits[draw((0, 1))],))
        return (one, pair) if kind == "add" else (pair, one)
    scene = random_scene(glyphs, generator, count=1)
    digit = scene.digits[0]
    value = draw([v for v in range(10) if v != digit.value])
    new = {"value": value, "glyph": draw(range(glyphs.count(value)))}
    colour = draw([c for c in COLOURS if c not in (scene.background, digit.colour)])
    if kind == "digit":
        return scene, scene.change(**new)
    if kind == "colour":
        return scene, scene.change(colour=colour)
    if kind == "background":
        return scene, scene.change(background=draw([c for c in COLOURS if c not in (scene.background, digit.colour)]))
    if kind == "texture":
        return scene, scene.change(texture=draw([t for t in TEXTURES if t != scene.texture]))
    if kind == "style":
        return scene, scene.change(style=draw([s for s in STYLES if s != digit.style]))
    return scene, scene.change(**new, colour=colour, style=draw([s for s in STYLES if s != digit.style]))


def changed_attributes(source: dict[str, Any], target: dict[str, Any]) -> tuple[str, ...]:
    """Which of the attributes that the judge compares differ between two scenes."""
    from vsvf.scenes.judge import agreement

    if len(source["digits"]) != len(target["digits"]):
        return ("count",)
    return tuple(name for name, same in agreement(source, target).items() if not same)
