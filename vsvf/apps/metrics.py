"""Measures of how far a picture is from another, per image of a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

RANGE = 2.0  # of values in [-1, 1]


@dataclass(frozen=True)
class Closeness:
    """How close pictures (B, C, H, W) come to others; (B,) floats each.

    Attributes:
        mse: mean square of the difference, values as they are.
        psnr: 10 log10(4 / mse) in dB, of the values clipped to [-1, 1] as a file holds them; infinite where they are equal.
        ssim: structural similarity of the clipped pictures (Wang et al. 2004: Gaussian window of deviation 1.5, 11 pixels wide,
            edges mirrored).
    """

    mse: list[float]
    psnr: list[float]
    ssim: list[float]


def mse(found: torch.Tensor, original: torch.Tensor) -> list[float]:
    """Mean square of the difference per sample of (B, …), in float64; infinite where it overflows or is not a number."""
    values = (found.detach().double() - original.detach().double()).square().flatten(1).mean(1).tolist()
    return [value if math.isfinite(value) else math.inf for value in values]


def closeness(found: torch.Tensor, original: torch.Tensor) -> Closeness:
    """`Closeness` of pictures (B, C, H, W) with values in [-1, 1], at least 11 pixels wide and high.

    SSIM is torchmetrics'.

    Raises:
        ValueError: pictures of different shapes, or too small for SSIM's window of 11 pixels.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if found.shape != original.shape or found.ndim != 4 or min(found.shape[2:]) < 11:
        raise ValueError(
            f"pictures must have one shape (B, C, H, W) of at least 11 pixels each way, got {tuple(found.shape)} and "
            f"{tuple(original.shape)}"
        )
    a, b = (torch.nan_to_num(x.detach().double()).clamp(-1.0, 1.0) for x in (found, original))
    clipped = mse(a, b)
    similarity = structural_similarity_index_measure(a, b, sigma=1.5, kernel_size=11, data_range=RANGE, reduction="none")
    assert isinstance(similarity, torch.Tensor)
    return Closeness(
        mse(found, original),
        [10.0 * math.log10(RANGE**2 / error) if error > 0.0 else math.inf for error in clipped],
        similarity.reshape(-1).tolist(),
    )
