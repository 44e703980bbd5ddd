"""Backward differentiation formulas."""

from __future__ import annotations

import numpy as np

from vsvf.formula import LinearMultistep
from vsvf.formulas import lagrange
from vsvf.formulas.checks import whole_number

Array = np.ndarray


def bdf(k: int) -> LinearMultistep:
    """BDF-k with variable steps: the polynomial through the states at s_0 … s_k has slope eps_bar_0 at s_0.

        sum_{j=0..k} l_j'(s_0) x_bar_{i-1+j} = eps_bar_{i-1}

    Implicit, order k, zero-stable for k <= 6 (on uniform grids). Backward explicit: solved for its oldest state it needs
    no slope there, though that inverse is unstable. Source: Hairer, Nørsett & Wanner I, III.5.
    """
    k = whole_number("k", k, 1)

    def function(nodes: Array, alpha: Array) -> tuple[Array, Array]:
        weights = lagrange.derivative_at_node(nodes)
        newest = weights[..., :1]
        c = np.zeros_like(weights)
        c[..., :1] = 1.0 / newest
        return -weights[..., 1:] / newest, c

    return LinearMultistep(f"bdf({k})", k, k, function, "Curtiss & Hirschfelder 1952", bdf)
