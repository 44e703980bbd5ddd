"""Models by name: the embedded ones, and those of local folders."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import torch

from vsvf.apps.folder_models import folder_model
from vsvf.apps.models import Model, digits
from vsvf.apps.scenes_model import scenes_model

MODELS: dict[str, Callable[..., Model]] = {"digits": digits, "scenes": scenes_model}


def embedded() -> list[str]:
    """The models whose weights are in the package."""
    assets = resources.files("vsvf") / "assets"
    places = {"digits": "digits.safetensors", "scenes": "scenes"}
    return [name for name, place in places.items() if (assets / place).is_file() or (assets / place).is_dir()]


def model_by_name(name: str, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> Model:
    """An embedded model by its name, or one from a local folder of diffusers (`folder_model`).

    Raises:
        ValueError: neither the name of a model nor a folder. FileNotFoundError: a folder that lacks a file.
    """
    if name in MODELS:
        return MODELS[name](dtype, device)
    if not Path(name).is_dir():
        raise ValueError(f"model={name!r} is not known; choose one of {', '.join(MODELS)}, or a folder that diffusers wrote")
    return folder_model(name, dtype, device)
