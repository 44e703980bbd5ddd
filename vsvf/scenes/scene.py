"""A scene as data: one or two handwritten digits, each with colour, style, size and place, on a background.

Changing one attribute and leaving all else alone is `Scene.change`; the picture is in `vsvf.scenes.render`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from vsvf.scenes.glyphs import Glyphs

SIZE = 64  # pixels along the edge of a picture
PERIOD = 16  # pixels after which every texture repeats, along rows and columns
PHASES = (0, 8)  # where a random scene's texture begins: its edges then lie between the autoencoder's 4 x 4 blocks
STYLES = ("filled", "outlined")
TEXTURES = ("plain", "stripes", "checks", "dots")
# The colour itself, and the shade that a texture on it is drawn in, as levels of red, green and blue.
COLOURS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "red": ((225, 45, 45), (165, 20, 25)),
    "green": ((40, 175, 70), (20, 120, 45)),
    "blue": ((50, 80, 230), (25, 45, 165)),
    "yellow": ((250, 215, 50), (205, 165, 20)),
    "white": ((250, 250, 250), (195, 195, 200)),
    "black": ((15, 15, 20), (75, 75, 85)),
}
RIM = (128, 128, 128)  # the line round an outlined digit: grey, a colour that nothing else has

SINGLE_SIZE, PAIR_SIZE = (40.0, 54.0), (35.0, 40.0)  # edge of the 28 x 28 frame, in pixels
OUTLINED_SHARE = 0.3


def _known(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


@dataclass(frozen=True)
class Digit:
    """One object of a scene.

    Attributes:
        value: which digit, 0 … 9.
        colour: a name in `COLOURS`.
        style: "filled", or "outlined" for a grey line round it.
        glyph: which handwritten example of its class.
        size: edge of the 28 x 28 frame it was written in, in pixels of the picture.
        x, y: centre of that frame, pixels from the left and the upper edge.
    """

    value: int
    colour: str
    style: str = "filled"
    glyph: int = 0
    size: float = 44.0
    x: float = SIZE / 2
    y: float = SIZE / 2

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or self.value not in range(10):
            raise ValueError(f"value must be a digit from 0 to 9, got {self.value!r}")
        _known("colour", self.colour, tuple(COLOURS))
        _known("style", self.style, STYLES)
        if not 4.0 <= self.size <= 2.0 * SIZE:
            raise ValueError(f"size must lie between 4 and {2 * SIZE} pixels, got {self.size}")


@dataclass(frozen=True)
class Scene:
    """One or two digits on a background.

    Attributes:
        digits: the objects from left to right; a later one lies on top.
        background: a name in `COLOURS`, no digit's colour.
        texture: a name in `TEXTURES`, drawn in the background colour's own shade.
        phase: (right, down), where the texture begins, pixels in 0 … PERIOD - 1.
    """

    digits: tuple[Digit, ...]
    background: str
    texture: str = "plain"
    phase: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if len(self.digits) not in (1, 2):
            raise ValueError(f"digits must be one or two, got {len(self.digits)}")
        _known("background", self.background, tuple(COLOURS))
        _known("texture", self.texture, TEXTURES)
        if any(digit.colour == self.background for digit in self.digits):
            raise ValueError(f"a {self.background} digit cannot be seen on a {self.background} background")
        if len(self.digits) == 2 and self.digits[0].x >= self.digits[1].x:
            raise ValueError("two digits go from left to right: x must grow")

    def change(self, which: int = 0, **attributes: Any) -> Scene:
        """The same scene with some attributes replaced, everything else identical.

        Args:
            which: the digit meant by `value`, `colour`, `style`, `glyph`, `size`, `x`, `y`: 0 the left (or only) one, 1 the right.
            **attributes: these, and `background`, `texture`, `phase`, by name.

        Raises:
            ValueError: no such attribute or digit, or a scene that cannot be.
        """
        if not 0 <= which < len(self.digits):
            raise ValueError(f"which must lie in 0 … {len(self.digits) - 1}, got {which}")
        outer = {name: attributes.pop(name) for name in ("background", "texture", "phase") if name in attributes}
        try:
            digit = replace(self.digits[which], **attributes)
        except TypeError:
            unknown = sorted(set(attributes) - set(Digit.__dataclass_fields__))
            raise ValueError(f"no attribute is named {', '.join(unknown)}") from None
        digits = tuple(digit if i == which else other for i, other in enumerate(self.digits))
        return replace(self, digits=digits, **outer)

    @property
    def attributes(self) -> dict[str, Any]:
        """What a caption says and a judge reads: everything but glyph, size, place and phase."""
        named = [(d.value, d.colour, d.style) for d in self.digits]
        return {"digits": tuple(named), "background": self.background, "texture": self.texture}


def random_scene(
    glyphs: Glyphs,
    generator: torch.Generator,
    *,
    count: int | None = None,
) -> Scene:
    """A scene with every attribute drawn evenly, except that 30 % of the digits are outlined.

    Args:
        glyphs: the handwritten digits to choose from.
        generator: of the random numbers, on the CPU.
        count: 1 or 2 digits; None for either, evenly.
    """
    if count not in (None, 1, 2):
        raise ValueError(f"count must be 1, 2 or None, got {count!r}")
    u = iter(torch.rand(24, generator=generator, dtype=torch.float64).tolist())

    def pick(number: int) -> int:
        return min(int(next(u) * number), number - 1)

    def between(low: float, high: float) -> float:
        return low + (high - low) * next(u)

    names = tuple(COLOURS)
    number = 1 + pick(2) if count is None else count
    background = names[pick(len(names))]
    texture = TEXTURES[pick(len(TEXTURES))]
    phase = (PHASES[pick(len(PHASES))], PHASES[pick(len(PHASES))])
    others = [name for name in names if name != background]
    digits = []
    for i in range(number):
        value = pick(10)
        size = between(*(SINGLE_SIZE if number == 1 else PAIR_SIZE))
        room = 0.7 * (SIZE / 2 - 0.36 * size)  # the ink fills 20 of the frame's 28 pixels: it stays inside the picture
        if number == 1:
            x, y = SIZE / 2 + between(-room, room), SIZE / 2 + between(-room, room)
        else:
            x, y = (17.5 if i == 0 else 46.5) + between(-2.5, 2.5), SIZE / 2 + between(-room, room)
        style = STYLES[int(next(u) < OUTLINED_SHARE)]
        digits.append(
            Digit(value, others[pick(len(others))], style, pick(glyphs.count(value)), round(size, 2), round(x, 2), round(y, 2))
        )
    return Scene(tuple(digits), background, texture, phase)
