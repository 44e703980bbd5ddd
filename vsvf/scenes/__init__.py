"""A world whose pictures are known exactly: handwritten digits on coloured, textured backgrounds, with captions and masks."""

from __future__ import annotations

from vsvf.scenes.captions import WORDS, caption, parse
from vsvf.scenes.glyphs import Glyphs, load_glyphs
from vsvf.scenes.render import Rendered, render, render_batch
from vsvf.scenes.scene import COLOURS, STYLES, TEXTURES, Digit, Scene, random_scene

__all__ = [
    "COLOURS",
    "STYLES",
    "TEXTURES",
    "WORDS",
    "Digit",
    "Glyphs",
    "Rendered",
    "Scene",
    "caption",
    "load_glyphs",
    "parse",
    "random_scene",
    "render",
    "render_batch",
]
