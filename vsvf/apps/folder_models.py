"""Models from folders of diffusers: an unconditional UNet (CIFAR-10, CelebA-HQ), or a Stable Diffusion pipeline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vsvf.apps.budget import Codec
from vsvf.apps.models import Model, Shape, pixels
from vsvf.predictors import Predictor
from vsvf.schedule import Schedule


def folder_model(path: str | Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> Model:
    """A model from a local folder that diffusers wrote; nothing is fetched, weights are safetensors.

    A pipeline's folder with a text encoder is a Stable Diffusion: prompts, latents, its autoencoder as codec. A pipeline's folder
    without one (unet/, scheduler/), or a UNet's own folder with a scheduler_config.json in it, is an unconditional model of
    pictures.

    Raises:
        FileNotFoundError, ValueError: a folder of another kind, or one that lacks a file. ImportError: diffusers is not installed.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    if (root / "text_encoder").is_dir():
        return _latent(root, dtype, device)
    return _unconditional(root, dtype, device)


def fingerprint(root: Path, dtype: torch.dtype) -> str:
    """16 hexadecimal digits of a SHA-256 of every .safetensors and .json file of a folder, and the dtype."""
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*")):
        if file.suffix in (".safetensors", ".json") and file.is_file():
            digest.update(str(file.relative_to(root)).encode())
            with open(file, "rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return f"{digest.hexdigest()[:16]}-{str(dtype).removeprefix('torch.')}"


def _unconditional(root: Path, dtype: torch.dtype, device: str | torch.device) -> Model:
    from vsvf.integrations.diffusers import load_model, unet

    network = load_model(root, "unet" if (root / "unet").is_dir() else None, dtype=dtype).to(device)
    candidates = [root / "scheduler" / "scheduler_config.json", root / "scheduler_config.json"]
    config = next((file for file in candidates if file.is_file()), None)
    if config is None:
        raise FileNotFoundError(f"{root} has no scheduler_config.json, which says how the network was trained")
    predictor = unet(network, json.loads(config.read_text(encoding="utf-8")))
    side = int(network.config["sample_size"])
    shape: Shape = (int(network.config["in_channels"]), side, side)

    def predict(conditions: Sequence[Any] | None, guidance: float) -> Predictor:
        if conditions is not None or guidance != 1.0:
            raise ValueError(f"{root.name} is unconditional: it takes no condition and no guidance")
        return predictor

    return Model(
        str(root), fingerprint(root, dtype), shape, shape, predictor.schedule, "none", predict, pixels(), None, lambda n: None
    )


def _latent(root: Path, dtype: torch.dtype, device: str | torch.device) -> Model:
    from vsvf.integrations.diffusers import Autoencoder, from_pipeline
    from vsvf.integrations.diffusers.config import read
    from vsvf.integrations.diffusers.pipelines import load_pipeline

    pipe = load_pipeline(root, dtype=dtype, device=device)
    if getattr(pipe, "vae", None) is None or getattr(pipe, "unet", None) is None:
        raise ValueError(f"the {type(pipe).__name__} in {root} is no Stable Diffusion: it has no UNet and autoencoder")
    autoencoder = Autoencoder(pipe.vae)
    side, factor = int(pipe.unet.config["sample_size"]), 2 ** (len(pipe.vae.config["block_out_channels"]) - 1)

    def predict(conditions: Sequence[Any] | None, guidance: float) -> Predictor:
        prompts = [""] if conditions is None else [str(text) for text in conditions]
        return from_pipeline(pipe, prompts, None, 1.0 if conditions is None else guidance)

    schedule: Schedule = read(pipe.scheduler)[0]
    return Model(
        str(root),
        fingerprint(root, dtype),
        (autoencoder.channels, side * factor, side * factor),
        (int(pipe.unet.config["in_channels"]), side, side),
        schedule,
        "prompt",
        predict,
        Codec("autoencoder", autoencoder.encode, autoencoder.decode),
        None,
        lambda n: None,
        pipeline=pipe,
    )
