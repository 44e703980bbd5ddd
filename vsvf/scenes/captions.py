"""Captions: a small grammar from scenes to phrases, and back from phrases to attributes.

    caption    = objects ", " ground | objects " on " ground | ground' " with " objects
    objects    = thing | thing " and " thing | thing " to the left of " thing | thing " to the right of " thing
    thing      = ("a" | "an") [style] colour number
    ground     = ["a"] [texture'] colour ["background"] | colour texture | "a background of" colour texture

Two things joined by "and" go from left to right. Where no style is named a digit is filled, where no texture is named the
background is plain. The order of the words does not matter to `parse` but for what stands left and right.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from vsvf.scenes.scene import COLOURS, STYLES, TEXTURES, Scene

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ADJECTIVES = {"plain": "plain", "stripes": "striped", "checks": "checked", "dots": "dotted"}
LINKS = ("a", "an", "and", "background", "left", "of", "on", "right", "the", "to", "with")
WORDS = tuple(sorted({*NUMBERS, *COLOURS, *STYLES, *TEXTURES, *ADJECTIVES.values(), *LINKS})) + (",",)


def caption(scene: Scene, generator: torch.Generator | None = None) -> str:
    """A phrase for a scene: the plainest one, or one of many drawn with `generator`."""
    u = [0.0] * 6 if generator is None else torch.rand(6, generator=generator, dtype=torch.float64).tolist()
    things = [_thing(d.value, d.colour, d.style, u[i]) for i, d in enumerate(scene.digits)]
    if len(things) == 1:
        objects = things[0]
    else:
        left, right = things
        forms = (f"{left} and {right}", f"{left} to the left of {right}", f"{right} to the right of {left}")
        objects = forms[int(3 * u[2])]
    colour, texture = scene.background, scene.texture
    adjective = ADJECTIVES[texture]
    if texture == "plain":
        grounds = (f"a {colour} background", f"a plain {colour} background", f"plain {colour}", f"{colour}")
    else:
        grounds = (
            f"{colour} {texture}",
            f"a {adjective} {colour} background",
            f"a background of {colour} {texture}",
            f"a {colour} background with {texture}",
        )
    ground = grounds[int(4 * u[3])]
    if u[4] < 0.6:
        return f"{objects} on {ground}"
    if u[4] < 0.8:
        return f"{objects}, {ground}"
    ground = grounds[int(2 * u[3])] if "with" not in grounds[int(4 * u[3])] else grounds[0]
    return f"{ground} with {objects}"


def _thing(value: int, colour: str, style: str, u: float) -> str:
    if style == "filled" and u < 0.75:
        return f"a {colour} {NUMBERS[value]}"
    return f"{'an' if style == 'outlined' else 'a'} {style} {colour} {NUMBERS[value]}"


def parse(phrase: str) -> dict[str, Any]:
    """The attributes that a caption states, as `Scene.attributes` has them.

    Raises:
        ValueError: a word that is not in `WORDS`, no digit or more than two, a digit or a background without its colour.
    """
    words = split(phrase)
    numbers = [i for i, word in enumerate(words) if word in NUMBERS]
    if len(numbers) not in (1, 2):
        raise ValueError(f"a caption names one or two digits, got {len(numbers)} in {phrase!r}")
    named, used = [], set()
    for i in numbers:
        if i == 0 or words[i - 1] not in COLOURS:
            raise ValueError(f"{words[i]!r} has no colour in {phrase!r}")
        style = words[i - 2] if i > 1 and words[i - 2] in STYLES else "filled"
        named.append((NUMBERS.index(words[i]), words[i - 1], style))
        used.add(i - 1)
    if "right" in words:
        named.reverse()
    grounds = [word for i, word in enumerate(words) if word in COLOURS and i not in used]
    if len(grounds) != 1:
        raise ValueError(f"a caption names one background colour, got {len(grounds)} in {phrase!r}")
    textures = [name for name, adjective in ADJECTIVES.items() if name in words or adjective in words]
    if len(textures) > 1:
        raise ValueError(f"a caption names one texture, got {len(textures)} in {phrase!r}")
    return {"digits": tuple(named), "background": grounds[0], "texture": textures[0] if textures else "plain"}


def split(phrase: str) -> list[str]:
    """The words of a phrase, in lower case, commas among them.

    Raises:
        ValueError: a word that is not in `WORDS`.
    """
    words = re.findall(r"[^\s,]+|,", phrase.lower())
    for word in words:
        if word not in WORDS:
            raise ValueError(f"the word {word!r} is not in the vocabulary: {' '.join(WORDS)}")
    return words
