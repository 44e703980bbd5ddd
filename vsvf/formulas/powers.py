"""Rows that are exact on powers of sigma_bar: the conditions in log sigma_bar, solved without cancellation.

With z = x_bar / sigma_bar^p and t = ln sigma_bar, dz/dt = sigma_bar^{1-p} (eps_bar - p x_bar / sigma_bar), and x_bar = sigma_bar^q
has dz/dt = e^{(q-p) t}. A row

    z(t_new) = sum_j alpha_j z(t_j) + sum_j E_j dz/dt(t_j),   sum_j alpha_j = 1,

is exact on sigma_bar^p, and on sigma_bar^{q_1}, sigma_bar^{q_2}, … when sum_j E_j e^{mu t_j} = int e^{mu t} for mu = q_m - p (the
integral from t_j to t_new, weighted with alpha_j). These functions are all but dependent on short steps. Their divided
differences with respect to mu span the same space and look like 1, t, t^2/2, … there; by Opitz' formula they are the entries of
exp(t B), B bidiagonal with the mu on its diagonal and ones above it, and one more exponent 0 in front makes their integrals.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def exponents(count: int) -> tuple[float, ...]:
    """The first `count` of 0, 1, 3/2, 2, …: the powers of sigma_bar that a row reproduces besides sigma_bar^p."""
    return (0.0, *(1.0 + 0.5 * n for n in range(count - 1)))[:count]


def row(new: Array, nodes: Array, alpha: Array, p: float, powers: tuple[float, ...]) -> tuple[Array, Array]:
    """Weights of the row at `new` from states at `nodes` and slopes at all of these but the last.

    Args:
        new: (...) > 0, below or at nodes[0]. nodes: (..., k) > 0, increasing.
        alpha: (..., k) weights of z at the nodes, of sum 1.
        p: exponent of z. powers: the k-1 other exponents on which the row is exact.

    Returns:
        a (..., k) of x_bar and c (..., k-1) of eps_bar at nodes[0] … nodes[k-2], float64.
    """
    below = np.concatenate([new[..., None], nodes[..., :-1]], axis=-1)
    t = np.cumsum(np.log1p((nodes - below) / below), axis=-1)  # ln(node / new) >= 0
    table = _divided_differences(np.array([0.0, *(q - p for q in powers)]), t)  # (..., k, k, k)
    right = -np.einsum("...j,...jm->...m", alpha, table[..., 0, 1:])
    functions = np.swapaxes(table[..., :-1, 1, 1:], -1, -2)  # [m, j]: function m at node j
    size = t[..., -1:] ** np.arange(len(powers))
    slopes = np.linalg.solve(functions / size[..., None], (right / size)[..., None])[..., 0]  # E_j
    ratio = np.exp(-p * t)  # (new / node)^p
    a = ratio * alpha
    a[..., :-1] -= p * ratio[..., :-1] * slopes
    return a, ratio[..., :-1] * nodes[..., :-1] * slopes


def _divided_differences(mu: Array, t: Array) -> Array:
    """exp(t B) for t >= 0, (..., n, n): entry (i, j) is the divided difference of e^{mu t} over mu_i … mu_j.

    With the smallest mu taken out, every term of the power series is positive: it is summed without cancellation.
    """
    low = mu.min()
    matrix = np.diag(mu - low) + np.eye(len(mu), k=1)
    largest = float(t.max(initial=0.0)) * (float(mu.max() - low) + 1.0)
    count = 24 + math.ceil(4.0 * largest)  # the rest of the series is below rounding
    terms = [np.eye(len(mu))]
    for n in range(1, count + 1):
        terms.append(terms[-1] @ matrix / n)
    x = t[..., None, None]
    total = np.zeros((*t.shape, len(mu), len(mu)))
    for term in reversed(terms):
        total = total * x + term
    return total * np.exp(low * x)
