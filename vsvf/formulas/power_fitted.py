"""Power-fitted root-placed BELM formulas: the spurious modes are placed for z = x_bar / sigma_bar^p."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vsvf.formula import LinearMultistep
from vsvf.formulas import powers
from vsvf.formulas.checks import fraction, text
from vsvf.formulas.root_placed import roots_at

Array = np.ndarray


def power_fitted_belm(p: float, theta: float | Sequence[float], gamma: float, beta: float) -> LinearMultistep:
    """The bidirectionally explicit formula PF(p, theta, gamma, beta), its modes placed on increments of z = x_bar / sigma_bar^p.

    The slope of z is dz/d sigma_bar = (eps_bar - p x_bar / sigma_bar) / sigma_bar^p. On a window s_0 < … < s_k (s_0 new) let

        w_j = ln(s_j / s_{j-1})^gamma (s_j s_{j-1})^{(beta - p)/2}

    be the weight of the interval below s_j, and prod_r (y - zeta_r) = y^{k-1} - sum_{j=2..k} B_j y^{k-j} for the roots
    zeta = e^{± i pi theta}. With A_j = B_j w_1 / w_j the row reads

        z_0 = sum_{j=1..k} alpha_j z_j + sum_{j=1..k-1} E_j (dz / d ln sigma_bar)_j,
        alpha_1 = 1 + A_2,   alpha_j = A_{j+1} - A_j,   alpha_k = -A_k,

    and the E_j make it exact for x_bar = 1, sigma_bar, sigma_bar^{3/2}, sigma_bar^2, … (k-1 of them; x_bar = sigma_bar^p is
    exact in any case). For k = 3, with R_1 = s_0^{-p} - sum alpha_j s_j^{-p}, G = (s_0^{1-p} - sum alpha_j s_j^{1-p}) / (1-p)
    and D_j = s_j^{1-p} E_j,

        D_1 = (-R_1 / p - G / s_2) / (1/s_1 - 1/s_2),   D_2 = G - D_1,
        a_j = s_0^p (alpha_j s_j^{-p} - p D_j / s_j),   c_j = s_0^p D_j.

    An x_0 that is a line in sigma_bar^p is reproduced, as is an eps that is one in sigma_bar^{p-1}: p = 0 is the logarithm of
    DPM-Solver++, p = 1 the same for eps. Zero-stable in both directions for z with its slope frozen (docs/stability.md), not for
    x_bar with eps frozen. Order k-1 on every grid, k on smooth grids for even k. Needs sigma_bar_0 > 0.

    Args:
        p: from 0 to 1.
        theta: the angle of the pair of roots in units of pi, 0 < theta < 1; for other k than 3 all angles, 1 for the root -1.
        gamma, beta: finite real numbers.

    Raises:
        ValueError: an argument out of range, or, on use, a grid that ends at sigma_bar = 0.
    """
    p = fraction("p", p)
    angles = (float(theta),) if isinstance(theta, (int, float)) else tuple(float(angle) for angle in theta)
    if not angles or not all(0.0 < angle <= 1.0 for angle in angles) or len(set(angles)) < len(angles):
        raise ValueError(f"theta must be one or more different angles in (0, 1], in units of pi, got {theta!r}")
    for name, value in (("gamma", gamma), ("beta", beta)):
        if not np.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
    roots = roots_at(angles)
    k = len(roots) + 1
    if k < 3:
        raise ValueError(f"theta={theta!r} gives 1 root, and power-fitted formulas need at least 2: take an angle below 1")
    recursion = -np.real(np.poly(roots))[1:]  # B_2 … B_k
    listed = text(angles[0]) if len(angles) == 1 else f"({','.join(text(angle) for angle in angles)})"
    name = f"power_fitted_belm({text(p)},{listed},{text(gamma)},{text(beta)})"

    def function(nodes: Array, alpha: Array) -> tuple[Array, Array]:
        if np.any(nodes[..., 0] <= 0.0):
            raise ValueError(
                f"{name} divides by a power of sigma_bar and needs sigma_bar > 0 at the data end, this grid ends at 0: make it "
                "with final='smallest'"
            )
        lower, upper = nodes[..., :-1], nodes[..., 1:]
        log_weight = gamma * np.log(np.log1p((upper - lower) / lower)) + 0.5 * (beta - p) * (np.log(lower) + np.log(upper))
        increment = recursion * np.exp(log_weight[..., :1] - log_weight[..., 1:])  # A_2 … A_k
        states = np.zeros((*nodes.shape[:-1], k))
        states[..., 0] = 1.0
        states[..., :-1] += increment
        states[..., 1:] -= increment
        a, slopes = powers.row(nodes[..., 0], nodes[..., 1:], states, p, powers.exponents(k - 1))
        c = np.zeros(nodes.shape)
        c[..., 1:k] = slopes
        return a, c

    return LinearMultistep(name, k, k - k % 2, function, "power-fitted root placement, docs/stability.md")
