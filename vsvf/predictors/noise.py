"""Noise to start from, of the variance that the grid's last node has."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vsvf.grid import Grid
from vsvf.predictors.base import Predictor
from vsvf.schedule import Schedule


def noise(
    shape: Sequence[int] | torch.Tensor,
    schedule: Schedule | Predictor,
    grid: Grid | float,
    *,
    generator: torch.Generator,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> torch.Tensor:
    """x_N to sample from: Gaussian of variance alpha^2 + sigma^2 at the grid's last node, as for data of variance 1.

        x_N = alpha_N sqrt(1 + sigma_bar_N^2) z,   z standard normal.

    That is 1 for a variance-preserving schedule, where `torch.randn` is right, a standard deviation of 80 for EDM, and
    sqrt((1 - t)^2 + t^2) for rectified flow. z is drawn in float64 on the generator's device: a seed gives the same noise in
    every dtype and on every device.

    Args:
        shape: (B, …), or a tensor whose shape, dtype and device are taken.
        schedule: gives alpha; a predictor stands for its own.
        grid: the grid, or sigma_bar_N.
        generator: the source of randomness.
        dtype, device: of the result; default those of the tensor, else float32 on the generator's device.

    Raises:
        TypeError, ValueError: an argument that does not fit, named.
    """
    if not isinstance(schedule, (Schedule, Predictor)):
        raise TypeError(f"schedule must be a vsvf.Schedule or a Predictor, got {type(schedule).__name__}")
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator, as in torch.Generator().manual_seed(0), got {type(generator).__name__}"
        )
    if not isinstance(grid, (Grid, int, float)) or isinstance(grid, bool):
        raise TypeError(f"grid must be a vsvf.Grid or its largest sigma_bar, got {type(grid).__name__}")
    level = float(grid.sigma_bar[-1]) if isinstance(grid, Grid) else float(grid)
    if not 0.0 <= level < float("inf"):
        raise ValueError(f"grid must be a vsvf.Grid or a finite sigma_bar from 0 on, got {grid}")
    if isinstance(shape, torch.Tensor):
        size, dtype, device = tuple(shape.shape), dtype or shape.dtype, device or shape.device
    else:
        size = tuple(shape)
    alpha = float((schedule.alpha if isinstance(schedule, Predictor) else schedule.alpha_at)(level))
    drawn = torch.float32 if generator.device.type == "mps" else torch.float64  # which has no float64
    z = torch.randn(size, generator=generator, dtype=drawn, device=generator.device)
    return (alpha * (1.0 + level * level) ** 0.5 * z).to(device=device or generator.device, dtype=dtype or torch.float32)
