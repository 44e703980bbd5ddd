"""Reconstruction: pictures to noise and back, and how close they come again (Tables 2 and 3 of the BELM paper).

With codec E, D, pictures u, latents x = E(u), inversion I (from x and a starter) and sampling G:

    from all k states      x' = G(I(x))                  the latent of a k-step method is k states
    from x_N alone         x'' = G(x_N of I(x))          the starter makes the other states again
    floor                  D(E(u)) against u             what the autoencoder loses without any diffusion

"ddim_inversion" is equation (8) of the paper (`integrate` with Euler's method upwards), the DDIM of its tables; it has one state,
and both ways back are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from vsvf.apps.budget import Codec
from vsvf.apps.metrics import Closeness, closeness, mse
from vsvf.apps.roundtrip import from_image
from vsvf.errors import NonFiniteError
from vsvf.grid import Grid
from vsvf.predictors.base import Predictor
from vsvf.solve import sample

ALL_STATES, NOISE_ALONE = "all k states", "x_N alone"
MODES = (ALL_STATES, NOISE_ALONE)


@dataclass(frozen=True)
class Way:
    """One way back: the latents and pictures (B, …) it ends with, how close they are, and its evaluations up and down."""

    latents: torch.Tensor
    pictures: torch.Tensor
    latent_mse: list[float]
    closeness: Closeness
    nfe_up: int
    nfe_down: int


@dataclass(frozen=True)
class Reconstruction:
    """What `reconstruct` found: a `Way` for each of `MODES`, and the floor (`Closeness` of D(E(u)))."""

    ways: dict[str, Way]
    floor: Closeness


def reconstruct(
    predictor: Predictor,
    pictures: torch.Tensor,
    grid: Grid,
    method: str,
    *,
    codec: Codec,
    starter: str = "ddim",
    arithmetic: str = "float64",
) -> Reconstruction:
    """Take pictures to noise and back, both ways.

    Args:
        predictor: the network, usually at guidance 1.
        pictures: u, (B, C, H, W) in [-1, 1].
        grid: the nodes.
        method: a formula's name, or "ddim_inversion".
        codec: pictures to x_0 and back.
        starter, arithmetic: as in `invert`.

    Returns:
        A `Reconstruction`; where a march overflows, its errors are infinite and its pictures NaN.
    """
    u = pictures.detach().double()
    x = codec.encode(u).double()
    floor = closeness(codec.decode(x), u)
    ways: dict[str, Way] = {}
    for mode, (latents, up, down) in _marches(predictor, x, grid, method, starter, arithmetic).items():
        back = codec.decode(latents).double() if bool(torch.isfinite(latents).all()) else torch.full_like(u, torch.nan)
        ways[mode] = Way(latents, back, mse(latents, x), closeness(back, u), up, down)
    return Reconstruction(ways, floor)


def _marches(
    predictor: Predictor, x: torch.Tensor, grid: Grid, method: str, starter: str, arithmetic: str
) -> dict[str, tuple[torch.Tensor, int, int]]:
    """The latents at the end of each way, and the evaluations up and down."""
    lost = torch.full_like(x, torch.nan)
    options: dict[str, Any] = {"starter": starter, "arithmetic": arithmetic, "warn": False}
    ways = dict.fromkeys(MODES, (lost, 0, 0))
    turn: torch.Tensor | None = None
    try:
        trip = from_image(predictor, x, grid, method, **options)
        ways[ALL_STATES] = trip.end.double(), *trip.nfe
        if trip.turned is None:  # one state: the two ways are one
            return dict.fromkeys(MODES, ways[ALL_STATES])
        turn = trip.turn
    except NonFiniteError:
        pass
    try:
        if turn is None:
            trip = from_image(predictor, x, grid, method, noise_alone=True, **options)
            ways[NOISE_ALONE] = trip.end.double(), *trip.nfe
        else:
            end = sample(predictor, turn.clone(), grid, method, **options)
            ways[NOISE_ALONE] = end.x.double(), trip.nfe[0], end.nfe
    except NonFiniteError:
        pass
    return ways
