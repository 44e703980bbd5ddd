"""Round trips: image → noise → image and noise → image → noise by any method, and what a trip changed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vsvf.fixed import Fixed
from vsvf.grid import Grid
from vsvf.predictors.base import Predictor
from vsvf.solve import integrate, invert, sample
from vsvf.state import State

DDIM_INVERSION = "ddim_inversion"


@dataclass(frozen=True)
class Trip:
    """Where a march turned round, and where it came back to.

    Attributes:
        turn, end: the images (or the noise) at these two places, in the predictor's scale.
        nfe: evaluations of the network there and back.
        turned, ended: the states; None for DDIM inversion, which keeps one image and no state.
    """

    turn: torch.Tensor
    end: torch.Tensor
    nfe: tuple[int, int]
    turned: State | None = None
    ended: State | None = None


def from_image(
    predictor: Predictor,
    x: torch.Tensor | State,
    grid: Grid,
    method: str,
    *,
    starter: str = "ddim",
    arithmetic: str | Fixed | None = None,
    noise_alone: bool = False,
    **options: Any,
) -> Trip:
    """Invert, and sample again from all k states of the inversion.

    Args:
        x: an image, or a `State` at any node, to which the march returns.
        method: a formula's name, or "ddim_inversion", equation (8) of the BELM paper: up with Euler steps whose slope is taken at
            the wrong end, down with DDIM.
        noise_alone: sample from the noise and a starter instead; not exact for k > 1.
        predictor, grid, starter, arithmetic: as in `invert`. options: further ones of `sample` and `invert` both.

    Raises:
        VsvfError: as `invert` and `sample`.
    """
    if method == DDIM_INVERSION:
        return _euler(predictor, x, grid.sigma_bar, arithmetic)
    end = x.record.node if isinstance(x, State) else 0
    noise = invert(predictor, x, grid, method, starter=starter, arithmetic=arithmetic, **options)
    source = noise.x.clone() if noise_alone else noise
    back = sample(predictor, source, grid, method, starter=starter, arithmetic=noise.record.arithmetic, stop=end, **options)
    return Trip(noise.x, back.x, (noise.nfe, back.nfe), noise, back)


def from_noise(
    predictor: Predictor,
    x: torch.Tensor | State,
    grid: Grid,
    method: str,
    *,
    starter: str = "ddim",
    arithmetic: str | Fixed | None = None,
    **options: Any,
) -> Trip:
    """Sample, and invert from all k states of the sample; arguments as in `from_image`."""
    if method == DDIM_INVERSION:
        return _euler(predictor, x, grid.sigma_bar[::-1], arithmetic)
    image = sample(predictor, x, grid, method, starter=starter, arithmetic=arithmetic, **options)
    back = invert(predictor, image, grid, method, **options)
    return Trip(image.x, back.x, (image.nfe, back.nfe), image, back)


def _euler(predictor: Predictor, x: torch.Tensor | State, way: np.ndarray, arithmetic: str | Fixed | None) -> Trip:
    """Along the nodes and back, each interval's slope taken where it begins."""
    if isinstance(x, State):
        raise ValueError(f"{DDIM_INVERSION} starts from an image or from noise, not from a state")
    name = "float64" if arithmetic == "fixed" or isinstance(arithmetic, Fixed) else arithmetic
    turn, there = integrate(predictor, x, way, "ddim", arithmetic=name)
    end, back = integrate(predictor, turn, way[::-1], "ddim", arithmetic=name)
    return Trip(turn, end, (there, back))


@dataclass(frozen=True)
class Difference:
    """How far an image is from another, pixels in [-1, 1].

    Attributes:
        mse: mean square. max: largest. psnr: 10 log10(range^2 / mse) in dB, infinite where nothing differs. psnr_range: 2.
        levels: how many of the `pixels` differ once rounded to 8 bits.
    """

    mse: float
    max: float
    psnr: float
    psnr_range: float
    levels: int
    pixels: int


def compare(found: torch.Tensor, original: torch.Tensor) -> Difference:
    """The difference of two images, or of two batches of them, in float64."""
    from vsvf.apps.images import to_levels

    difference = found.detach().cpu().double() - original.detach().cpu().double()
    mse = float(difference.square().mean())
    return Difference(
        mse=mse,
        max=float(difference.abs().max()),
        psnr=10.0 * math.log10(4.0 / mse) if mse > 0.0 else math.inf,
        psnr_range=2.0,
        levels=int((to_levels(found) != to_levels(original)).sum()),
        pixels=difference.numel(),
    )
