"""BDIA: bi-directional integration approximation."""

from __future__ import annotations

import numpy as np

from vsvf.formula import LinearMultistep
from vsvf.formulas.checks import fraction, text

Array = np.ndarray


def bdia(gamma: float = 1.0) -> LinearMultistep:
    """BDIA as a 2-step row of (12):

        a_2 = gamma alpha_{i+1}/alpha_{i-1},   a_1 = 1 - a_2,   c_1 = -h_i - a_2 h_{i+1}.

    gamma in [0, 1]: 0 is DDIM (and not invertible, a_2 = 0); 1 keeps the whole previous increment. Order 1; with gamma = 1
    the second order condition (a_2 h_{i+1}^2 = h_i^2) holds to first order in h on smooth grids, which gives order 2 there.
    Source: Zhang, Lewis & Kleijn 2023.
    """
    gamma = fraction("gamma", gamma)

    def function(nodes: Array, alpha: Array) -> tuple[Array, Array]:
        a2 = gamma * alpha[..., 2] / alpha[..., 0]
        h0, h1 = nodes[..., 1] - nodes[..., 0], nodes[..., 2] - nodes[..., 1]
        zero = np.zeros_like(a2)
        return np.stack([1.0 - a2, a2], axis=-1), np.stack([zero, -h0 - a2 * h1, zero], axis=-1)

    return LinearMultistep(f"bdia({text(gamma)})", 2, 2 if gamma == 1.0 else 1, function, "Zhang, Lewis & Kleijn 2023")
