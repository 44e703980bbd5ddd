"""The two-sided bound on K for root-placed BELM formulas (docs/stability.md has the proof)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vsvf.formulas.root_placed import increments
from vsvf.grid import Grid

Array = np.ndarray


def mode_constant(roots: Any) -> float:
    """Lambda = sum_r kappa_r / |1 - zeta_r|, kappa_r the l1 norm of row r of the inverse of V[n, r] = zeta_r^n, n = 0 … k-2.

    kappa_r bounds the amplitude of mode r by the k-1 scaled increments of the starting window, 1/|1 - zeta_r| comes from
    summation by parts.
    """
    zeta = np.asarray(roots, dtype=np.complex128)
    vandermonde = zeta[None, :] ** np.arange(len(zeta))[:, None]
    kappa = np.abs(np.linalg.inv(vandermonde)).sum(axis=1)
    return float(np.sum(kappa / np.abs(1.0 - zeta)))


def amplification_bound(
    roots: Sequence[complex] | Array, exponent: float, grid: Grid, mode_rho: float = 1.0
) -> tuple[float, float]:
    """Upper bounds of (K along sampling, K along inversion) of root_placed_belm(roots, exponent, mode_rho) on a grid.

    With w_n the weights of the modes numbered along the march, and p the first interval after a starting window of k states,

        K <= 1 + max_p 2 Lambda (w_p + w_end + sum_{n >= p} |w_{n+1} - w_n|) / min_{n in window} w_n.

    For roots inside the circle the second bound is inf. O(N) operations.
    """
    zeta = np.asarray(roots, dtype=np.complex128)
    w = increments(grid.sigma_bar, mode_rho) ** exponent
    sampling = _one_way(zeta, w[::-1])
    inversion = _one_way(zeta.conj(), w) if np.all(np.abs(np.abs(zeta) - 1.0) < 1e-9) else np.inf
    return sampling, inversion


def _one_way(zeta: Array, w: Array) -> float:
    inner = len(zeta)  # increments in a window of k states
    if len(w) <= inner:
        return 1.0
    variation = np.concatenate([np.cumsum(np.abs(np.diff(w))[::-1])[::-1], [0.0]])  # from n to the end
    smallest = np.lib.stride_tricks.sliding_window_view(w, inner).min(axis=-1)[: len(w) - inner]
    first = np.arange(inner, len(w))
    return float(1.0 + 2.0 * mode_constant(zeta) * np.max((w[first] + w[-1] + variation[first]) / smallest))
