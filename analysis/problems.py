"""The problems of the zoo: predictors of every kind, each with the part that it plays in choosing formulas.

Exact denoisers of digits and of mixtures, the same with finite resolution (eps is then singular down to the smallest sigma_bar,
as it is of networks that predict x_0), a guided mixture, the embedded network with two guidances, the small networks of
`analysis.variants`, the miniature Stable Diffusion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import vsvf
from analysis import variants
from analysis.common import generator, test_images
from vsvf import predictors
from vsvf.predictors import ClosedForm, Predictor, gaussian_mixture, ideal_denoiser
from vsvf.predictors.scenes import LATENTS


@dataclass(frozen=True)
class Animal:
    """A problem of the zoo.

    Attributes:
        part: "choosing" or "held back". kind: what its predictor is like, "epsilon", "sample" or "v". shape: of one sample.
        make: builds the predictor for so many samples.
    """

    part: str
    kind: str
    shape: tuple[int, ...]
    make: Callable[[int], Predictor]


def with_floor(base: ClosedForm, floor: float) -> ClosedForm:
    """A denoiser D of finite resolution: D(x_bar, sqrt(sigma_bar^2 + f^2)), so that eps_bar = (x_bar - D)/sigma_bar."""

    def function(x_bar: torch.Tensor, sigma_bar: Any) -> torch.Tensor:
        blurred = (sigma_bar**2 + floor**2) ** 0.5
        denoised = x_bar - blurred * base.function(x_bar, blurred)
        return (x_bar - denoised) / sigma_bar

    return ClosedForm(function, base.schedule)


def guided(condition: ClosedForm, null: ClosedForm, scale: float) -> ClosedForm:
    """Classifier-free guidance of two exact predictors."""

    def function(x_bar: torch.Tensor, sigma_bar: Any) -> torch.Tensor:
        base = null.function(x_bar, sigma_bar)
        return base + scale * (condition.function(x_bar, sigma_bar) - base)

    return ClosedForm(function, condition.schedule)


def _exact_digits(std: float) -> ClosedForm:
    return ideal_denoiser(test_images()[0].double(), std, vsvf.Schedule.linear())


def _means(seed: int, count: int, dimension: int) -> torch.Tensor:
    return 0.7 * torch.randn(count, dimension, generator=generator(seed), dtype=torch.float64)


def _mixture(means: torch.Tensor, std: float) -> ClosedForm:
    return gaussian_mixture(means, std, schedule=vsvf.Schedule.linear())


def _labels(count: int) -> torch.Tensor:
    """All digits in turn, beginning so that few samples are of different ones."""
    return (3 * torch.arange(1, count + 1)) % 10


def _prompts(count: int) -> list[str]:
    known = ["a red three on a blue background", "a green seven to the left of a white two on plain yellow"]
    return [known[n % len(known)] for n in range(count)]


IMAGE = (1, 28, 28)
ZOO: dict[str, Animal] = {
    "digits, exact": Animal("choosing", "epsilon", IMAGE, lambda n: _exact_digits(0.05)),
    "digits, floor 0.2": Animal("choosing", "sample", IMAGE, lambda n: with_floor(_exact_digits(0.05), 0.2)),
    "digits, blurred, floor 0.1": Animal("choosing", "sample", IMAGE, lambda n: with_floor(_exact_digits(0.2), 0.1)),
    "mixture": Animal("choosing", "epsilon", (12,), lambda n: _mixture(_means(5, 8, 12), 0.25)),
    "guided mixture": Animal(
        "choosing", "epsilon", (12,), lambda n: guided(_mixture(_means(5, 8, 12)[:2], 0.25), _mixture(_means(5, 8, 12), 0.25), 3.0)
    ),
    "network, guidance 2": Animal("choosing", "epsilon", IMAGE, lambda n: predictors.digits(_labels(n), guidance=2.0)),
    "another mixture": Animal("held back", "epsilon", (5,), lambda n: _mixture(_means(17, 3, 5), 0.1)),
    "another mixture, floor 0.3": Animal("held back", "sample", (5,), lambda n: with_floor(_mixture(_means(17, 3, 5), 0.1), 0.3)),
    "network, guidance 5": Animal("held back", "epsilon", IMAGE, lambda n: predictors.digits(_labels(n), guidance=5.0)),
    "scenes, guidance 3": Animal("held back", "epsilon", LATENTS, lambda n: predictors.scenes(_prompts(n), 3.0)),
    "x_0-network": Animal("held back", "sample", IMAGE, lambda n: variants.load("x_0-network", _labels(n))),
    "v-network": Animal("held back", "v", IMAGE, lambda n: variants.load("v-network", _labels(n))),
}
