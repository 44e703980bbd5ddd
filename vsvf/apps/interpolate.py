"""Pictures between two pictures: spherical interpolation of the latents of an exactly invertible method.

The latent of a k-step method is k states. With the angle theta between the two noises x_N and the share t,

    w_1 = sin((1 - t) theta) / sin(theta),   w_2 = sin(t theta) / sin(theta)          (Shoemake 1985)

and *the same* w_1, w_2 are used for all k states, so that any linear relation between the k states of a latent holds for those
in between too (a starter's step is one up to its slope); an angle of each state's own would break it, and the method would
answer with its spurious modes. At t = 0 and t = 1 the weights are 1 and 0: there the pictures return exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from vsvf.apps.metrics import mse
from vsvf.grid import Grid
from vsvf.predictors.base import Predictor
from vsvf.solve import invert, sample
from vsvf.state import State


def slerp_weights(first: torch.Tensor, second: torch.Tensor, shares: Sequence[float]) -> np.ndarray:
    """w_1 and w_2, (len(shares), 2), for two vectors of any shape; linear where they are parallel.

    Raises:
        ValueError: a vector of zeros, or opposite vectors, between which no arc is the shortest.
    """
    u, v = first.detach().double().flatten(), second.detach().double().flatten()
    if not float(u.norm()) or not float(v.norm()):
        raise ValueError("slerp needs two vectors that are not zero")
    u, v = u / u.norm(), v / v.norm()
    theta = 2.0 * float(torch.atan2((u - v).norm(), (u + v).norm()))  # accurate for small angles, unlike arccos
    t = np.asarray(shares, dtype=np.float64)
    if np.pi - theta < 1e-6:
        raise ValueError("slerp is not defined between opposite vectors")
    if theta < 1e-6:
        return np.stack([1.0 - t, t], axis=1)
    return np.stack([np.sin((1.0 - t) * theta), np.sin(t * theta)], axis=1) / np.sin(theta)


def latent_of_noise(predictor: Predictor, noise: torch.Tensor, grid: Grid, formula: str, starter: str = "ddim") -> State:
    """The latent, k states (k, 1, …), that sampling from x_N = `noise` (1, …) begins with."""
    return sample(predictor, noise, grid, formula, starter=starter, stop=grid.steps, warn=False)


def latent_of_picture(predictor: Predictor, x: torch.Tensor, grid: Grid, formula: str, starter: str = "ddim") -> State:
    """The latent of x_0 (1, …), by inversion."""
    return invert(predictor, x, grid, formula, starter=starter, warn=False)


def between(first: State, second: State, shares: Sequence[float]) -> State:
    """The latents at `shares` of the way from one to the other: a state of k values (k, len(shares), …).

    Raises:
        ValueError: latents of different formulas, grids, places or number formats, or in fixed point.
    """
    a, b = first.record, second.record
    if (a.fingerprint, a.window, a.arithmetic) != (b.fingerprint, b.window, b.arithmetic) or a.arithmetic == "fixed":
        raise ValueError(
            f"latents can be mixed if they belong to one formula and grid and are floating numbers, got {first} and {second}"
        )
    noise = a.image
    weights = torch.from_numpy(slerp_weights(first.values[noise], second.values[noise], shares)).to(first.values)
    column = weights.reshape(1, -1, 2, *[1] * (first.values.ndim - 2))
    return replace(first, values=column[:, :, 0] * first.values + column[:, :, 1] * second.values)


def blended(first: Predictor, second: Predictor, shares: Sequence[float]) -> Predictor:
    """(1 - t) of one predictor's output and t of the other's, sample by sample: one condition turns into another.

    Raises:
        ValueError: predictors that read their networks differently.
    """
    if (first.kind, first.dtype, first.integer_time) != (second.kind, second.dtype, second.integer_time):
        raise ValueError("predictors can be blended if they read their networks alike (kind, dtype, integer times)")
    share = torch.tensor(list(shares), dtype=torch.float64)

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        part = share.to(x).reshape(-1, *[1] * (x.ndim - 1))
        return (1.0 - part) * first.network(x, t) + part * second.network(x, t)

    return Predictor(network, first.schedule, first.kind, dtype=first.dtype, integer_time=first.integer_time)


@dataclass(frozen=True)
class Smoothness:
    """How evenly a strip of pictures moves; root mean squares over pixels in [-1, 1].

    Attributes:
        moves: between neighbours. unevenness: the largest over their mean; 1 is perfectly even.
        detour: their sum over the distance from the first to the last; a crossfade has 1, and shows two pictures at once.
    """

    moves: list[float]
    unevenness: float
    detour: float


def smoothness(pictures: torch.Tensor) -> Smoothness:
    """Of pictures (n, C, H, W), n >= 2.

    Raises:
        ValueError: fewer than two pictures.
    """
    if len(pictures) < 2:
        raise ValueError("smoothness needs at least 2 pictures")
    moves = [value**0.5 for value in mse(pictures[1:], pictures[:-1])]
    whole = mse(pictures[-1:], pictures[:1])[0] ** 0.5
    mean = sum(moves) / len(moves)
    return Smoothness(moves, max(moves) / mean if mean else 1.0, sum(moves) / whole if whole else float("inf"))
