"""Lagrange interpolation on windows of nodes, vectorised: the one place where basis polynomials are evaluated."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def basis(nodes: Array, x: Array) -> Array:
    """Lagrange basis l_j(x) = prod_{m != j} (x - s_m)/(s_j - s_m).

    Args:
        nodes: (..., n) distinct interpolation nodes.
        x: (..., q) points.

    Returns:
        (..., q, n) values, float64.
    """
    count = nodes.shape[-1]
    values = np.ones((*x.shape, count))
    for j in range(count):
        for m in range(count):
            if m != j:
                values[..., j] *= (x - nodes[..., None, m]) / (nodes[..., None, j] - nodes[..., None, m])
    return values


def integral(nodes: Array, start: Array, stop: Array, origin: Array | float = 0.0, power: int = 0) -> Array:
    """int_start^stop l_j(s) (s + origin)^power ds for every j, by Gauss-Legendre quadrature of the exact degree.

    Args:
        nodes: (..., n); start, stop, origin: (...).
        power: of the density, a polynomial; 0 for none.

    Returns:
        (..., n) weights: sum_j w_j p(s_j) is the integral of p times the density for every polynomial p of degree below n.
    """
    count = nodes.shape[-1]
    points, weights = np.polynomial.legendre.leggauss((count + power + 1) // 2)
    half = (stop - start) / 2.0
    x = ((stop + start) / 2.0)[..., None] + half[..., None] * points
    density = weights * (x + np.asarray(origin)[..., None]) ** power
    return half[..., None] * np.einsum("...q,...qn->...n", density, basis(nodes, x))


def derivative_at_node(nodes: Array) -> Array:
    """l_j'(s_0) for every j, the weights of the interpolant's derivative at the first node; (..., n) from (..., n)."""
    count = nodes.shape[-1]
    weights = np.empty_like(nodes)
    weights[..., 0] = np.sum(1.0 / (nodes[..., :1] - nodes[..., 1:]), axis=-1)
    for j in range(1, count):
        value = 1.0 / (nodes[..., j] - nodes[..., 0])
        for m in range(1, count):
            if m != j:
                value = value * (nodes[..., 0] - nodes[..., m]) / (nodes[..., j] - nodes[..., m])
        weights[..., j] = value
    return weights
