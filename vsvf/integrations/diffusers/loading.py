"""Models from a local folder: safetensors only, nothing fetched, nothing unpickled, nothing left at random."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from vsvf.integrations.diffusers.config import diffusers
from vsvf.integrations.diffusers.times import embed_times_precisely

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
KEYS = ("missing_keys", "unexpected_keys", "mismatched_keys")


def load_model(
    folder: str | os.PathLike[str],
    subfolder: str | None = None,
    *,
    dtype: torch.dtype | None = None,
    variant: str | None = None,
) -> Any:
    """A diffusers model (UNet, transformer, autoencoder) from a local folder, in evaluation mode.

    Args:
        folder: holds config.json and diffusion_pytorch_model.safetensors (or its shards with their index), as
            `model.save_pretrained(folder)` writes them.
        subfolder: of a pipeline's folder, for instance "unet".
        dtype: of the weights; default as stored. In float64 the embedding of time is float64 too (`times.PreciseTimesteps`).
        variant: as in diffusion_pytorch_model.<variant>.safetensors, for instance "fp16".

    Raises:
        FileNotFoundError: no folder, no config.json, no safetensors weights, or a shard that is missing.
        ValueError: a config that names no diffusers model, an index that is damaged or names other files than safetensors files of
            its own folder, or weights that do not fit the model.
    """
    path = Path(folder) if subfolder is None else Path(folder) / subfolder
    name = _model_class(path)
    _check_weights(path, variant)
    try:
        model, found = getattr(diffusers, name).from_pretrained(
            str(path),
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            torch_dtype=dtype,
            variant=variant,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"the weights in {path} cannot be loaded into the {name} of its config.json: {error}") from error
    complaints = {key.removesuffix("_keys"): sorted(map(str, found.get(key, ()))) for key in KEYS}
    wrong = [f"{len(names)} {what} ({names[0]}, …)" for what, names in complaints.items() if names]
    if wrong:
        raise ValueError(f"the weights in {path} do not fit the {name} of its config.json: {'; '.join(wrong)}")
    embed_times_precisely(model)
    return model.eval()


def _model_class(path: Path) -> str:
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    if not (path / "config.json").is_file():
        hint = ""
        if (path / "model_index.json").is_file():
            hint = "; it is a pipeline's folder, name the part as in load_model(folder, subfolder='unet')"
        raise FileNotFoundError(f"{path} has no config.json{hint}")
    try:
        name = str(json.loads((path / "config.json").read_text(encoding="utf-8")).get("_class_name"))
    except (ValueError, AttributeError):
        raise ValueError(f"{path / 'config.json'} is not a model's config") from None
    found = getattr(diffusers, name, None)
    if not (isinstance(found, type) and issubclass(found, diffusers.ModelMixin)):
        raise ValueError(f"{path / 'config.json'} names the class {name!r}, which is not a diffusers model")
    return name


def _check_weights(path: Path, variant: str | None) -> None:
    stem = "diffusion_pytorch_model" + ("" if variant is None else f".{variant}")
    index = path / f"diffusion_pytorch_model.safetensors.index{'' if variant is None else '.' + variant}.json"
    if index.is_file():
        shards = _shards(index)
        missing = [name for name in shards if not (path / name).is_file()]
        if missing:
            counts = f"{len(missing)} of {len(shards)} shards"
            raise FileNotFoundError(f"{path} is incomplete: {counts} are missing, the first is {missing[0]}")
        return
    if (path / f"{stem}.safetensors").is_file():
        return
    pickled = sorted(p.name for p in path.iterdir() if p.suffix in PICKLED)
    hint = ""
    if pickled:
        hint = (
            f" (there is {pickled[0]}, a pickle, which can run code when it is read: convert it where you trust it, with "
            "model.save_pretrained(folder, safe_serialization=True))"
        )
    raise FileNotFoundError(f"{path} has no {stem}.safetensors{hint}")


def _shards(index: Path) -> list[str]:
    """The files that an index names, sorted: diffusers would unpickle one that does not end in .safetensors."""
    try:
        weights = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(weights.values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{index} is not an index of shards: it lacks a weight_map from parameters to files") from None
    if not shards:
        raise ValueError(f"{index} names no shards")
    for name in shards:
        if not isinstance(name, str) or Path(name).suffix != ".safetensors" or Path(name).name != name:
            raise ValueError(f"{index} names the shard {name!r}; only .safetensors files of its own folder are read")
    return shards
