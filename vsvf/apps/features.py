"""Features of pictures: what a Fréchet distance is taken of."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch

Array = np.ndarray


@dataclass(frozen=True)
class Features:
    """A map from pictures to vectors.

    Attributes:
        name: in words, with a digest of its weights.
        network: pictures (B, C, H, W) in [-1, 1] to (B, d).
        inception: whether the distance may be called FID.
    """

    name: str
    network: Callable[[torch.Tensor], torch.Tensor]
    inception: bool = False

    @property
    def title(self) -> str:
        """What the distance is called."""
        return "FID" if self.inception else f"Fréchet distance ({self.name.partition(' ')[0]} features)"

    @torch.no_grad()
    def of(self, batches: Iterable[torch.Tensor]) -> Array:
        """Vectors (n, d), float64, of batches of pictures.

        Raises:
            ValueError: a network that does not return (B, d) finite numbers.
        """
        found = []
        for batch in batches:
            vectors = self.network(batch)
            if vectors.ndim != 2 or len(vectors) != len(batch) or not bool(torch.isfinite(vectors).all()):
                raise ValueError(
                    f"{self.name} must return (B, d) finite numbers, got {tuple(vectors.shape)} for {len(batch)} pictures"
                )
            found.append(vectors.double().cpu().numpy())
        return np.concatenate(found)


def digits_features(device: str | torch.device = "cpu") -> Features:
    """The digits classifier's last maps averaged over the picture: 64 numbers."""
    from vsvf.apps.classifier import load_digits_classifier

    network = load_digits_classifier().to(device)
    weights = (resources.files("vsvf") / "assets" / "classifier.safetensors").read_bytes()
    name = f"digits-classifier {hashlib.sha256(weights).hexdigest()[:16]}"
    return Features(name, lambda x: network.maps(x.to(device, torch.float32)).mean(dim=(2, 3)))


def scenes_features(device: str | torch.device = "cpu") -> Features:
    """The scenes judge's last maps of the whole picture, averaged: 48 numbers."""
    from vsvf.scenes.judge import ASSET, load_judge

    judge = load_judge().to(device)
    weights = (resources.files("vsvf") / "assets" / ASSET).read_bytes()
    name = f"scenes-judge {hashlib.sha256(weights).hexdigest()[:16]}"

    def extract(x: torch.Tensor) -> torch.Tensor:
        return judge.whole(torch.nn.functional.pixel_unshuffle(x.to(device, torch.float32), 2)).mean(dim=(2, 3))

    return Features(name, extract)


def inception_features(weights: str | os.PathLike[str], device: str | torch.device = "cpu") -> Features:
    """The 2048 features of FID's Inception network, from a local file of its weights (weights-inception-2015-12-05-6726825d.pth).

    Raises:
        FileNotFoundError: no such file. ValueError: a file that holds more than tensors, or not this network's.
        ImportError: torch-fidelity, or torchvision that it needs, cannot be imported.
    """
    source = Path(weights)
    if not source.is_file():
        raise FileNotFoundError(f"no such file: {source}")
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:
        raise ImportError(f"Inception features need torch-fidelity and torchvision (pip install vsvf[fid]): {error}") from None
    try:
        torch.load(source, map_location="meta", weights_only=True)  # torch-fidelity would run what a pickle says
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(source)).to(
            device
        )
    except (pickle.UnpicklingError, EOFError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{source} holds no weights of FID's Inception network: {str(error).splitlines()[0]}") from error
    name = f"Inception {hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"

    def extract(x: torch.Tensor) -> torch.Tensor:
        from vsvf.apps.images import to_levels

        levels = torch.from_numpy(to_levels(x)).to(device)
        return network(levels.expand(-1, 3, -1, -1) if levels.shape[1] == 1 else levels)[0]

    return Features(name, extract, inception=True)


def features_by_name(name: str, device: str | torch.device = "cpu") -> Features:
    """ "digits", "scenes", or "inception:FILE" with a local file of weights.

    Raises:
        ValueError: an unknown name.
    """
    if name in ("digits", "scenes"):
        return digits_features(device) if name == "digits" else scenes_features(device)
    kind, _, path = name.partition(":")
    if kind == "inception" and path:
        return inception_features(path, device)
    raise ValueError(f"features={name!r} is not known; choose digits, scenes, or inception:FILE with a local file of its weights")
