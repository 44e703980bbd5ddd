"""Bidirectionally explicit linear multistep (BELM) formulas."""

from __future__ import annotations

import numpy as np

from vsvf.formula import LinearMultistep
from vsvf.formulas.checks import whole_number

Array = np.ndarray


def belm(k: int) -> LinearMultistep:
    """LTE-minimising k-step BELM (O-BELM is k = 2): exact for 1, sigma_bar, …, sigma_bar^(2k-2).

    The 2k-1 coefficients are Hermite extrapolation to s_0: values at s_1 … s_k, slopes at s_1 … s_{k-1}. With
    multiplicities m_j = 2 (j < k), m_k = 1 and W_j(x) = prod_{m != j} ((x - s_m)/(s_j - s_m))^{m_m},

        a_k = W_k(s_0),   c_j = (s_0 - s_j) W_j(s_0),   a_j = W_j(s_0) (1 - (s_0 - s_j) sum_{m != j} m_m/(s_j - s_m)).

    Order 2k-2 in the local truncation error's sense. Zero-stable for k = 2 only: for k >= 3 the first Dahlquist barrier
    forbids it, and marches blow up. Source: Wang et al., BELM, NeurIPS 2024, appendix A.4-A.5.
    """
    k = whole_number("k", k, 2)

    def function(nodes: Array, alpha: Array) -> tuple[Array, Array]:
        s0 = nodes[..., 0]
        a = np.empty((*nodes.shape[:-1], k))
        c = np.zeros(nodes.shape)
        for j in range(1, k + 1):
            weight = np.ones_like(s0)
            log_slope = np.zeros_like(s0)  # (s_0 - s_j) W_j'(s_j)
            for m in range(1, k + 1):
                if m != j:
                    multiplicity = 2 if m < k else 1
                    gap = nodes[..., j] - nodes[..., m]
                    weight = weight * ((s0 - nodes[..., m]) / gap) ** multiplicity
                    log_slope = log_slope + multiplicity * (s0 - nodes[..., j]) / gap
            if j < k:
                c[..., j] = (s0 - nodes[..., j]) * weight
                a[..., j - 1] = weight * (1.0 - log_slope)
            else:
                a[..., j - 1] = weight
        return a, c

    return LinearMultistep(f"belm({k})", k, 2 * k - 2, function, "Wang et al. 2024")
