"""DPM-Solver++: exponential integrators in log-SNR for the data prediction, which are VSVF rows in sigma_bar."""

from __future__ import annotations

import numpy as np

from vsvf.formula import LinearMultistep
from vsvf.formulas.checks import whole_number

Array = np.ndarray


def dpm_solver_pp(order: int = 2, corrected: bool = False) -> LinearMultistep:
    """Multistep DPM-Solver++ with 1, 2 (2M) or 3 (3M) data predictions. With lambda = -log sigma_bar and the data predictions
    m_j = x_bar_j - sigma_bar_j eps_bar_j,

        x_bar_{i-1} = e^{-h} x_bar_i + (1 - e^{-h}) m_0 + phi_1 D_1 + phi_2 D_2,   h = lambda_{i-1} - lambda_i,

    D_1, D_2 divided differences of the m_j, so that x_bar_j and eps_bar_j enter linearly. Order 2: D_1 = (m_0 - m_1)/r_0
    weighted by (1 - e^{-h})/2.

    The published 3M row, which all implementations share, gives D_2 = (D_10 - D_11)/(r_0 + r_1) ~ h^2 m''/2 the weight
    phi_2 = (e^{-h} - 1 + h)/h^2 - 1/2 that belongs to h^2 m'': it is of order 2. `corrected` doubles that term: order 3.

    Where s_0 = 0, h is infinite and the row falls back to order 1 (as diffusers does at a final
    sigma of zero). Source: Lu et al., DPM-Solver++, 2022.
    """
    k = whole_number("order", order, 1, 3)

    def function(nodes: Array, alpha: Array) -> tuple[Array, Array]:
        first_order = nodes[..., 0] == 0.0
        s0 = np.where(first_order, nodes[..., 1] / 2.0, nodes[..., 0])  # any value: replaced below
        h = np.log(nodes[..., 1] / s0)
        decay = np.where(first_order, 0.0, s0 / nodes[..., 1])
        gain = np.where(first_order, 1.0, -np.expm1(-h))
        m = np.zeros((*h.shape, k))  # weights of the data predictions at s_1 … s_k
        m[..., 0] = gain
        if k == 2:
            r0 = np.log(nodes[..., 2] / nodes[..., 1]) / h
            shift = gain / (2.0 * r0)
            m[..., 0] += shift
            m[..., 1] -= shift
        elif k == 3:
            r0 = np.log(nodes[..., 2] / nodes[..., 1]) / h
            r1 = np.log(nodes[..., 3] / nodes[..., 2]) / h
            newer = np.stack([1.0 / r0, -1.0 / r0, np.zeros_like(h)], axis=-1)
            older = np.stack([np.zeros_like(h), 1.0 / r1, -1.0 / r1], axis=-1)
            d1 = newer + (r0 / (r0 + r1))[..., None] * (newer - older)
            d2 = (newer - older) / (r0 + r1)[..., None]
            phi1, phi2 = _phi(h)
            m += phi1[..., None] * d1 - (2.0 if corrected else 1.0) * phi2[..., None] * d2
        if k > 1:
            m[first_order] = np.eye(k)[0]
        a = m.copy()
        a[..., 0] += decay
        c = np.concatenate([np.zeros((*h.shape, 1)), -m * nodes[..., 1:]], axis=-1)
        return a, c

    third = k == 3 and bool(corrected)
    name = "dpm_solver_pp(3, True)" if third else f"dpm_solver_pp({k})"
    return LinearMultistep(name, k, 3 if third else min(k, 2), function, "Lu et al. 2022", dpm_solver_pp)


def _phi(h: Array) -> tuple[Array, Array]:
    """(e^{-h} - 1)/h + 1 and (e^{-h} - 1 + h)/h^2 - 1/2, by their series where cancellation would cost digits."""
    small = h < 0.5
    safe = np.where(small, 1.0, h)
    exact1 = np.expm1(-safe) / safe + 1.0
    exact2 = (np.expm1(-safe) + safe) / safe**2 - 0.5
    series1, series2 = np.zeros_like(h), np.zeros_like(h)
    term = np.ones_like(h)  # (-h)^n / n!
    for n in range(1, 20):
        term = term * (-h) / n
        series1 -= term / (n + 1)
        series2 += term / ((n + 1) * (n + 2))
    return np.where(small, series1, exact1), np.where(small, series2, exact2)
