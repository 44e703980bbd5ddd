"""The embedded text-to-image model as the applications see it: prompts, latents, rendered scenes, the scenes judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

import torch

from vsvf.apps.features import Features
from vsvf.apps.folder_models import folder_model
from vsvf.apps.frechet import Moments
from vsvf.apps.models import Model
from vsvf.predictors import Predictor
from vsvf.scenes import Scene, caption, load_glyphs, random_scene, render_batch
from vsvf.scenes.captions import split

OWN = 100  # pictures of its own: scenes 0 … 99
REFERENCE = range(10_000, 12_000)  # scenes that samples are compared with
USUAL = 20_000  # prompts of samples: captions of scenes from here on


def scenes_model(dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> Model:
    """Prompts to pictures (3, 64, 64) by way of latents (4, 16, 16).

    Scene n is drawn from a generator with seed n, rendered from digits of MNIST's test split.

    Raises:
        ValueError: a prompt with a word outside the vocabulary.
    """
    with resources.as_file(resources.files("vsvf") / "assets" / "scenes") as folder:
        model = folder_model(folder, dtype, device)
    plain = model.predict

    def predict(conditions: Sequence[Any] | None, guidance: float) -> Predictor:
        for text in conditions or ():
            split(text)
        return plain(conditions, guidance)

    def own() -> tuple[torch.Tensor, list[Any]]:
        scenes = drawn(range(OWN))
        return render_batch(scenes, load_glyphs())[0].double(), [caption(scene) for scene in scenes]

    return replace(
        model,
        name="scenes",
        predict=predict,
        own=own,
        usual=lambda n: [caption(scene) for scene in drawn(range(USUAL, USUAL + n))],
        features="scenes",
        reference=reference,
    )


def drawn(seeds: Sequence[int]) -> list[Scene]:
    """The scenes of these seeds."""
    glyphs = load_glyphs()
    return [random_scene(glyphs, torch.Generator().manual_seed(seed)) for seed in seeds]


def reference(features: Features) -> Moments:
    """Moments of 2000 rendered scenes."""
    glyphs, size = load_glyphs(), 100
    parts = (render_batch(drawn(REFERENCE[first : first + size]), glyphs)[0] for first in range(0, len(REFERENCE), size))
    return Moments.of(features.of(parts), features.name)
