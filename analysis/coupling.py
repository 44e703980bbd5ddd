"""McCallum and Foster's coupling of a Runge-Kutta method with itself, to be compared with.

With Psi(x, s, t) what the method adds to x on its way from s to t, and two states y and z that begin alike,

    y' = l y + (1 - l) z + Psi(z, s, t),    z' = z - Psi(y', t, s),

which is solved for z and then for y by the same increments: exactly invertible whatever the method, at twice its evaluations. With
Euler's method in sigma_bar it is `vsvf.formulas.mccallum_foster`; with others, in the exponential time of diffusion's equation
that sigma_bar is, the solvers that Blasingame and Liu (2025) call Rex. Their stages are no states that a row could be solved
for, so they are no plan of the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

import vsvf
from vsvf.predictors import Predictor

COUPLING = 0.999
Pair = tuple[torch.Tensor, torch.Tensor]


def increment(predictor: Predictor, x: torch.Tensor, s: float, t: float, method: str) -> torch.Tensor:
    """Psi(x, s, t) of x_bar."""
    scales = predictor.alpha(torch.tensor([s, t]).double().numpy())
    return vsvf.integrate(predictor, float(scales[0]) * x, [s, t], method)[0] / float(scales[1]) - x


def coupled(predictor: Predictor, pair: Pair, nodes: Sequence[float], method: str, coupling: float = COUPLING) -> Pair:
    """y and z of x_bar at the last of the nodes, from those at the first."""
    y, z = pair
    for s, t in pairwise(nodes):
        y = coupling * y + (1.0 - coupling) * z + increment(predictor, z, s, t, method)
        z = z - increment(predictor, y, t, s, method)
    return y, z


def uncoupled(predictor: Predictor, pair: Pair, nodes: Sequence[float], method: str, coupling: float = COUPLING) -> Pair:
    """y and z at the first of the nodes, from those at the last: the inverse of `coupled`."""
    y, z = pair
    for t, s in pairwise(reversed(nodes)):
        z = z + increment(predictor, y, t, s, method)
        y = (y - (1.0 - coupling) * z - increment(predictor, z, s, t, method)) / coupling
    return y, z
