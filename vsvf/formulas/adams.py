"""Adams methods: x_bar_{i-1} = x_bar_i + the integral of an interpolant of the slopes over the step."""

from __future__ import annotations

import math

import numpy as np

from vsvf.formula import LinearMultistep
from vsvf.formulas import lagrange
from vsvf.formulas.checks import whole_number

Array = np.ndarray


def _adams(c: Array, first: int, steps: int) -> tuple[Array, Array]:
    """a = (1, 0, …, 0), and slope weights placed from column `first` on."""
    a = np.zeros((*c.shape[:-1], steps))
    a[..., 0] = 1.0
    weights = np.zeros((*c.shape[:-1], steps + 1))
    weights[..., first:] = c
    return a, weights


def ddim() -> LinearMultistep:
    """DDIM: explicit Euler in sigma_bar, x_bar_{i-1} = x_bar_i - h_i eps_bar_i. Order 1.

    Source: Song, Meng & Ermon, ICLR 2021.
    """

    def function(nodes: Array, alpha: Array) -> tuple[Array, Array]:
        return _adams(nodes[..., :1] - nodes[..., 1:2], 1, 1)

    return LinearMultistep("ddim", 1, 1, function, "Song, Meng & Ermon 2021")


def adams_bashforth(k: int) -> LinearMultistep:
    """Adams-Bashforth with variable steps (k-diffusion's LMS): the polynomial through the slopes at s_1 … s_k,
    integrated from s_1 to s_0. Order k. Source: Hairer, Nørsett & Wanner I, III.5.
    """
    k = whole_number("k", k, 1)

    def function(nodes: Array, alpha: Array) -> tuple[Array, Array]:
        return _adams(lagrange.integral(nodes[..., 1:], nodes[..., 1], nodes[..., 0]), 1, k)

    return LinearMultistep(f"adams_bashforth({k})", k, k, function, "Bashforth & Adams 1883", adams_bashforth)


def adams_moulton(k: int) -> LinearMultistep:
    """Adams-Moulton with variable steps: as Adams-Bashforth, with the unknown slope at s_0 as well. Implicit, order k+1.

    Source: Hairer, Nørsett & Wanner I, III.5.
    """
    k = whole_number("k", k, 1)

    def function(nodes: Array, alpha: Array) -> tuple[Array, Array]:
        return _adams(lagrange.integral(nodes, nodes[..., 1], nodes[..., 0]), 0, k)

    return LinearMultistep(f"adams_moulton({k})", k, k + 1, function, "Moulton 1926", adams_moulton)


def deis(k: int) -> LinearMultistep:
    """DEIS (tAB, log-rho): as Adams-Bashforth, but the slopes are interpolated in u = log sigma_bar. Order k.

        c_j = int_{s_1}^{s_0} l_j(log s) ds.

    With u = log(s/s_1) <= 0, int u^n ds = s_1 (-1)^{n+1} n! P(n+1, log(s_1/s_0)), P the regularised incomplete gamma
    function: accurate for small steps, and finite down to s_0 = 0. Source: Zhang & Chen, ICLR 2023.
    """
    from scipy.special import gammainc  # here, since it takes long to import

    k = whole_number("k", k, 1, 6)

    def function(nodes: Array, alpha: Array) -> tuple[Array, Array]:
        with np.errstate(divide="ignore"):
            v = -np.log(nodes[..., 0] / nodes[..., 1])
        moments = np.stack([nodes[..., 1] * (-1.0) ** (n + 1) * math.factorial(n) * gammainc(n + 1, v) for n in range(k)], axis=-1)
        u = np.log(nodes[..., 1:] / nodes[..., 1:2])  # 0 = u_1 < u_2 < …
        powers = np.ones((*u.shape[:-1], 1, k))  # coefficients of l_j in u, lowest first
        coefficients = np.repeat(powers * (np.arange(k) == 0), k, axis=-2)
        for j in range(k):
            for m in range(k):
                if m != j:
                    gap = u[..., j] - u[..., m]
                    shifted = np.zeros_like(coefficients[..., j, :])
                    shifted[..., 1:] = coefficients[..., j, :-1]
                    coefficients[..., j, :] = (shifted - u[..., m, None] * coefficients[..., j, :]) / gap[..., None]
        return _adams(np.einsum("...jn,...n->...j", coefficients, moments), 1, k)

    return LinearMultistep(f"deis({k})", k, k, function, "Zhang & Chen 2023", deis)
