"""Models that the applications run on: a network, its pictures, its conditions, its autoencoder, behind one small interface."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from vsvf.apps.budget import Codec
from vsvf.apps.features import Features
from vsvf.apps.frechet import Moments
from vsvf.predictors import Predictor, noise
from vsvf.schedule import Schedule

Shape = tuple[int, int, int]


def pixels() -> Codec:
    """The codec of a model whose x_0 are the pictures themselves."""
    return Codec("pixels", lambda u: u, lambda x: x)


@dataclass(frozen=True)
class Model:
    """A diffusion model as the applications see it.

    Attributes:
        name: as given on the command line.
        fingerprint: of its weights: a run that is resumed must find the same.
        pictures, latents: (C, H, W) of a picture and of its x_0.
        schedule: of its training.
        condition: what its conditions are: "label" (int), "prompt" (str) or "none".
        predict: (conditions, one per sample, or None; guidance) to a `Predictor`.
        codec: pictures in [-1, 1] to x_0 and back.
        own: its own test pictures (n, C, H, W) and their conditions; None where it has none.
        usual: n conditions to sample with where the user gives none.
        features: the name of the features that its samples are judged by. reference: moments over what it was trained to draw,
            in a file, of these features alone, or made of any; None where there is none.
        pipeline: of diffusers, whose parts it is made of; None for others.
    """

    name: str
    fingerprint: str
    pictures: Shape
    latents: Shape
    schedule: Schedule
    condition: str
    predict: Callable[[Sequence[Any] | None, float], Predictor]
    codec: Codec
    own: Callable[[], tuple[torch.Tensor, list[Any]]] | None
    usual: Callable[[int], list[Any] | None]
    features: str = ""
    reference: Path | Callable[[Features], Moments] | None = None
    pipeline: Any = None

    @property
    def mode(self) -> str:
        """ "L" or "RGB", as `load_image` takes it."""
        return "L" if self.pictures[0] == 1 else "RGB"

    @property
    def has_autoencoder(self) -> bool:
        """Whether its x_0 are latents."""
        return self.codec.name != "pixels"


def digits(dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> Model:
    """The embedded network of handwritten digits: pictures (1, 28, 28), conditions 0 … 9, no autoencoder."""
    from vsvf.predictors.digits_network import NULL_LABEL, load_digits_network
    from vsvf.predictors.guidance import Guided

    network = load_digits_network().to(device=device, dtype=dtype)
    null = torch.tensor([NULL_LABEL])
    schedule = Schedule.linear()

    def predict(conditions: Sequence[Any] | None, guidance: float) -> Predictor:
        labels = null if conditions is None else torch.tensor([int(label) for label in conditions])
        if conditions is not None and not bool(((labels >= 0) & (labels <= 9)).all()):
            raise ValueError(f"labels must be digits from 0 to 9, got {list(conditions)}")
        return Predictor(Guided(network, labels, null, 1.0 if conditions is None else guidance), schedule, dtype=dtype)

    def own() -> tuple[torch.Tensor, list[Any]]:
        from safetensors.torch import load

        data = load((resources.files("vsvf") / "assets" / "digits_test.safetensors").read_bytes())
        return data["images"].double()[:, None] / 127.5 - 1.0, data["labels"].tolist()

    shape = (1, 28, 28)
    weights = (resources.files("vsvf") / "assets" / "digits.safetensors").read_bytes()
    print_of = f"{hashlib.sha256(weights).hexdigest()[:16]}-{str(dtype).removeprefix('torch.')}"
    return Model(
        "digits",
        print_of,
        shape,
        shape,
        schedule,
        "label",
        predict,
        pixels(),
        own,
        lambda n: [i % 10 for i in range(n)],
        "digits",
        Path(str(resources.files("vsvf") / "assets" / "digits_reference_test.safetensors")),
    )


def noise_of_seeds(model: Model, seeds: Sequence[int], sigma_bar: float, device: str | torch.device = "cpu") -> torch.Tensor:
    """x_N, (len(seeds), C, h, w) float64, of variance alpha^2 + sigma^2: each sample's from a CPU generator with its own seed, so
    that it is the same in every batch, process and on every device."""
    size = (1, *model.latents)
    drawn = [
        noise(size, model.schedule, sigma_bar, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds
    ]
    return torch.cat(drawn).to(device)
