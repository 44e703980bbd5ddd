"""Whole pipelines from a local folder: nothing fetched, nothing unpickled, nothing said."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vsvf.integrations.diffusers.config import diffusers
from vsvf.integrations.diffusers.times import embed_times_precisely

INDEX = "model_index.json"


def load_pipeline(folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu") -> Any:
    """The pipeline in a folder that `pipeline.save_pretrained(folder)` wrote, its networks in evaluation mode.

    Args:
        folder: holds model_index.json and a folder per part, weights as safetensors. A safety checker is left out.
        dtype: of the networks' weights; default float32. In float64 the embedding of time is float64 too.
        device: where the networks are put.

    Raises:
        FileNotFoundError: no such folder, no model_index.json, or a part that is missing.
        ValueError: an index that names no diffusers pipeline, or parts that cannot be loaded.
    """
    path = Path(folder)
    with quiet():
        name, spared = _pipeline_class(path)
    try:
        with quiet(), torch.random.fork_rng(devices=[]):  # parts draw weights that are then read: the caller's numbers stay
            pipeline = getattr(diffusers, name).from_pretrained(
                str(path),
                local_files_only=True,
                use_safetensors=True,
                low_cpu_mem_usage=False,
                torch_dtype=torch.float32 if dtype is None else dtype,
                **spared,
            )
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"the {name} in {path} cannot be loaded: {reason}") from error
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.to(device).eval().requires_grad_(False)
            embed_times_precisely(part)
    return pipeline


def _pipeline_class(path: Path) -> tuple[str, dict[str, Any]]:
    """The class that the index names, and what it is to be made without: a safety checker judges pictures, not marches."""
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    if not (path / INDEX).is_file():
        hint = "; it is one model's folder, use load_model" if (path / "config.json").is_file() else ""
        raise FileNotFoundError(f"{path} is not a pipeline's folder: it has no {INDEX}{hint}")
    try:
        index = json.loads((path / INDEX).read_text(encoding="utf-8"))
        name = str(index.get("_class_name"))
    except (ValueError, AttributeError):
        raise ValueError(f"{path / INDEX} is not a pipeline's index") from None
    found = getattr(diffusers, name, None)
    if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
        raise ValueError(f"{path / INDEX} names the class {name!r}, which is not a diffusers pipeline")
    spared = {"safety_checker": None, "requires_safety_checker": False} if "safety_checker" in index else {}
    wanted = [key for key in index if key not in spared and key != "feature_extractor"]
    parts = [key for key in wanted if isinstance(index[key], list) and index[key][0] is not None]
    missing = [part for part in parts if not (path / part).is_dir()]
    if missing:
        raise FileNotFoundError(f"{path} is incomplete: the folder {missing[0]} of its {INDEX} is missing")
    return name, spared


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the libraries' remarks on optional packages, safety checkers and loading off the screen; errors are raised as ever."""
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers.utils.logging, transformers_logging)  # imported first: they set their loggers up on import
    levels = [library.get_verbosity() for library in libraries]
    bars = [library.is_progress_bar_enabled() for library in libraries]
    try:
        for library in libraries:
            library.set_verbosity(logging.CRITICAL)
            library.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for library, level, shown in zip(libraries, levels, bars, strict=True):
            library.set_verbosity(level)
            if shown:
                library.enable_progress_bar()
