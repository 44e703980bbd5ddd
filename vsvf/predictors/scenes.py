"""The embedded text-to-image model: a miniature Stable Diffusion of handwritten digits on coloured backgrounds.

Its parts are diffusers' and transformers' own (extra: vsvf[diffusers]); the world it draws is `vsvf.scenes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import torch

from vsvf.predictors.base import Predictor
from vsvf.scenes.captions import split

ASSET = "scenes"
LATENTS = (4, 16, 16)  # of one picture (3, 64, 64)


def scenes(
    prompt: str | Sequence[str],
    guidance: float | torch.Tensor = 3.0,
    *,
    negative: str | Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Predictor:
    """The embedded text-to-image network: latents x of shape (B, 4, 16, 16), scaled-linear schedule, eps.

    Args:
        prompt: what to draw, as in "a red three on a blue background": one for all samples or B; "" for no condition. The
            words are those of `vsvf.scenes.WORDS`.
        guidance: classifier-free guidance scale w in eps_null + w (eps_prompt - eps_null); a float or (B,).
        negative: what eps_null is conditioned on instead of the empty prompt, one or B.
        dtype: the network's own dtype, whatever the solver's.
        device: where the network is put.

    Raises:
        ValueError: no prompt, a word outside the vocabulary (named, with the words there are), or a prompt that is too long.
        TypeError: prompts that are not text (labels are `predictors.digits`' way).
        ImportError: diffusers is not installed.
    """
    prompts = _texts("prompt", prompt)
    negatives = [""] if negative is None else _texts("negative", negative)
    if len({len(prompts), len(negatives)} - {1}) > 1:
        raise ValueError(f"negative must be one text or as many as prompts: {len(negatives)} for {len(prompts)}")
    pipeline = load_scenes(dtype=dtype, device=device)
    for text in (*prompts, *negatives):
        count, limit = len(pipeline.tokenizer(text).input_ids), pipeline.tokenizer.model_max_length
        if count > limit:
            raise ValueError(f"a prompt may have {limit - 2} words, commas counted, got {count - 2}: {text!r}")
    from vsvf.integrations.diffusers import from_pipeline

    rows = len(negatives) if len(prompts) == 1 else len(prompts)
    prompts, negatives = ([*texts] * rows if len(texts) == 1 else texts for texts in (prompts, negatives))
    return from_pipeline(pipeline, prompts, negatives, guidance)


def load_scenes(*, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> Any:
    """The embedded `StableDiffusionPipeline` (evaluation mode, no gradients to its weights).

    Raises:
        ImportError: diffusers is not installed.
    """
    try:
        from vsvf.integrations.diffusers.pipelines import load_pipeline
    except ImportError as error:
        raise ImportError("the scenes model is made of diffusers' parts: pip install 'vsvf[diffusers]'") from error
    with resources.as_file(resources.files("vsvf") / "assets" / ASSET) as folder:
        return load_pipeline(folder, dtype=dtype, device=device)


def _texts(name: str, given: str | Sequence[str]) -> list[str]:
    texts = [given] if isinstance(given, str) else list(given)
    if not texts:
        raise ValueError(f"{name} must be a text or a list of texts, got an empty list")
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a text or a list of texts, got {type(text).__name__} {text!r}")
        split(text)
    return texts
