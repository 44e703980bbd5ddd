"""Root-placed BELM formulas: bidirectionally explicit, with spurious roots where we put them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vsvf.formula import LinearMultistep
from vsvf.formulas import lagrange
from vsvf.formulas.checks import real, text, whole_number

Array = np.ndarray

CIRCLE = 1e-9  # a root this close to the unit circle is meant to lie on it, one this close to its mirror image to be conjugate

# Angles of the spurious roots on the unit circle, in units of pi, the exponent, and rho of the slopes' coordinate; from
# vsvf.stability.search.
STABLE: dict[int, tuple[tuple[float, ...], float, int]] = {
    2: ((1.0,), 1.0, 1),
    3: ((3 / 4,), 1.0, 3),
    4: ((1 / 3, 1.0), 1.0, 1),
    5: ((1 / 3, 5 / 6), 0.75, 1),
    6: ((1 / 6, 5 / 12, 1.0), 0.75, 1),
}


def root_placed_belm(
    roots: Sequence[complex] | Array | complex, exponent: float = 1.0, mode_rho: float = 1.0, slope_rho: int = 1
) -> LinearMultistep:
    """The k-step BELM formula whose k-1 spurious modes have increments zeta_r^n w_n, on any grid.

    Let d_j = x_bar_{i-2+j} - x_bar_{i-1+j} be the increment over the interval from s_{j-1} to s_j, w_j the interval's weight,

        w_j = (s_j^{1/rho} - s_{j-1}^{1/rho})^exponent,   rho = mode_rho,

    and B_2 … B_k the numbers with prod_r (z - zeta_r) = z^{k-1} - sum_{j=2..k} B_j z^{k-j}. The homogeneous recursion

        d_1 = sum_{j=2..k} A_j d_j,   A_j = B_j w_1/w_j

    is solved by the constant and by d_n = zeta_r^n w_n, n counting steps along the march: where the count starts only
    multiplies the relation by a power of zeta_r, so the coefficients depend on the window alone. The slopes' weights make
    the formula exact where the slope is a polynomial of degree below k-1 in u = sigma_bar^{1/slope_rho}: with l_m the
    Lagrange basis on u(s_1) … u(s_{k-1}),

        c_m = int_{s_1}^{s_0} l_m(u(s)) ds - sum_{j=2..k} A_j int_{s_j}^{s_{j-1}} l_m(u(s)) ds.

    With every root on the unit circle the formula is zero-stable in both directions on grids whose w varies boundedly
    (docs/stability.md); its order is k-1 on every such grid, and k on smooth grids when k is even, because rho(z) is
    then antisymmetric: that is the `order` it carries. Roots inside the circle damp their modes along sampling, and the
    inverse amplifies them by prod 1/|zeta| per step: such a formula (order k-1) is labelled "for sampling".

    The coordinate sigma_bar^{1/rho}, that of Karras et al.'s time steps, lies between sigma_bar and its logarithm. Slopes
    of a diffusion model bend at small sigma_bar and level off at large, so they are nearer to polynomials in u for rho > 1;
    and where the lowest interval is as long as sigma_bar itself, its weight is then larger and its error reaches inversion
    less. (Grids down to sigma_bar = 0 cost something as N grows: with mode_rho > 1 the w of the lowest interval falls more slowly
    than the others, so K grows like a power of N; with slope_rho > 1 the error gains a factor log N for k = 3.)

    k = 2, zeta = -1: exponent 2 is belm(2) (O-BELM), exponent 0 the variable-step midpoint rule.

    Args:
        roots: the k-1 spurious roots, 0 < |zeta| <= 1, distinct, none equal to 1, real or in conjugate pairs.
        exponent: a finite real number, usually from 0 to 2.
        mode_rho: a real number from 1 on. slope_rho: a whole number from 1 on (the integrals are then of polynomials).

    Raises:
        ValueError: no roots, roots that break one of these rules, or another argument out of range.
    """
    zeta = _check_roots(roots)
    exponent, mode_rho = real("exponent", exponent), real("mode_rho", mode_rho, low=1.0)
    slope_rho = whole_number("slope_rho", slope_rho, 1, 12)
    k = len(zeta) + 1
    on_circle = bool(np.all(np.abs(np.abs(zeta) - 1.0) <= CIRCLE))
    listed = ",".join(_literal(z) for z in zeta)
    coordinates = "" if mode_rho == slope_rho == 1 else f",{text(mode_rho)},{slope_rho}"
    name = f"root_placed_belm(({listed},),{text(exponent)}{coordinates})"
    source = "root placement, docs/stability.md" + ("" if on_circle else " (damped roots: for sampling)")
    return _build(name, zeta, exponent, mode_rho, slope_rho, k if on_circle and k % 2 == 0 else k - 1, source)


def stable_belm(k: int) -> LinearMultistep:
    """The recommended root-placed BELM with k = 2 … 6 steps: zero-stable in both directions.

    Order k for even k and k-1 for odd k on smooth grids, k-1 on every grid (`root_placed_belm`). The roots, all on the
    unit circle, the exponent and the slopes' coordinate were found by the search of `vsvf.stability.search`. Longer
    formulas need finer grids: from about N = 20 for k <= 3, 50 for k = 4 and 5, 100 for k = 6, whose weak instability is
    the strongest.
    """
    k = whole_number("k", k, 2, 6)
    angles, exponent, slope_rho = STABLE[k]
    zeta = _check_roots(roots_at(angles))
    return _build(f"stable_belm({k})", zeta, exponent, 1.0, slope_rho, k - k % 2, "root placement, docs/stability.md")


def coarse_belm() -> LinearMultistep:
    """The three-step member for coarse grids: roots e^{± 17 pi i / 20}, modes in sigma_bar^{1/1.4} with exponent 1.65, slopes in
    sigma_bar^{1/3}.

    Its weights are large where the lowest interval is as long as sigma_bar itself, so that the error made there reaches inversion
    least (docs/stability.md, coordinates); with a corrector row it is the most robust formula of docs/choosing.md. Order 2.
    """
    return _build("coarse_belm", _check_roots(roots_at((17 / 20,))), 1.65, 1.4, 3, 2, "root placement, docs/stability.md")


def increments(nodes: Array, rho: float) -> Array:
    """s_j^{1/rho} - s_{j-1}^{1/rho} of neighbouring nodes (..., n), without cancellation; (..., n-1)."""
    h = np.diff(nodes, axis=-1)
    if rho == 1.0:
        return h
    upper = nodes[..., 1:]
    with np.errstate(divide="ignore"):  # log 0 where the lower node is zero
        return -(upper ** (1.0 / rho)) * np.expm1(np.log1p(-h / upper) / rho)


def roots_at(angles: Iterable[float], modulus: float = 1.0) -> Array:
    """The roots at +- angle (in units of pi), one real root for angle 1."""
    roots: list[complex] = []
    for angle in angles:
        z = modulus * complex(np.exp(1j * np.pi * angle))
        roots += [complex(-modulus)] if angle == 1.0 else [z, z.conjugate()]
    return np.array(roots)


def _build(name: str, zeta: Array, exponent: float, mode_rho: float, slope_rho: int, order: int, source: str) -> LinearMultistep:
    k = len(zeta) + 1
    recursion = -np.real(np.poly(zeta))[1:]  # B_2 … B_k

    def function(nodes: Array, alpha: Array) -> tuple[Array, Array]:
        d = increments(nodes, mode_rho)
        weights = recursion * (d[..., :1] / d[..., 1:]) ** exponent  # A_2 … A_k
        a = np.zeros((*nodes.shape[:-1], k))
        a[..., 0] = 1.0
        a[..., :-1] += weights
        a[..., 1:] -= weights
        # u - u(s_1) at the nodes: differences are nearly exact in floating point, means are not
        first = nodes[..., 1] ** (1.0 / slope_rho)
        rise = np.cumsum(increments(nodes[..., 1:], slope_rho), axis=-1)
        fall = -increments(nodes[..., :2], slope_rho)
        u = np.concatenate([fall, np.zeros_like(fall), rise], axis=-1)

        def integral(start: int, stop: int) -> Array:  # ds = rho u^{rho-1} du
            return slope_rho * lagrange.integral(u[..., 1:k], u[..., start], u[..., stop], first, slope_rho - 1)

        c = np.zeros(nodes.shape)
        c[..., 1:k] = integral(1, 0)
        for j in range(2, k + 1):
            c[..., 1:k] -= weights[..., j - 2, None] * integral(j, j - 1)
        return a, c

    return LinearMultistep(name, k, order, function, source)


def _check_roots(roots: Any) -> Array:
    """The roots as complex128, sorted by angle, each conjugate pair exact, those next to the unit circle put on it."""
    try:
        zeta = np.atleast_1d(np.asarray(roots, dtype=np.complex128)).ravel()
    except (TypeError, ValueError, OverflowError):
        raise ValueError("roots must be one or more finite numbers, real or complex, of ordinary size") from None
    if len(zeta) == 0 or not np.all(np.isfinite(zeta)):
        raise ValueError(f"roots must be one or more finite numbers, got {roots!r}")
    modulus = np.abs(zeta)
    if np.any(modulus > 1.0 + CIRCLE) or np.any(modulus == 0.0):
        bad = complex(zeta[np.flatnonzero((modulus > 1.0 + CIRCLE) | (modulus == 0.0))[0]])
        raise ValueError(f"roots must satisfy 0 < |zeta| <= 1, got {bad} of modulus {abs(bad):.6g}")
    if np.any(np.abs(zeta - 1.0) <= 1e-6):
        raise ValueError("roots must differ from 1, the principal root")
    near = (np.abs(modulus - 1.0) <= CIRCLE) & (np.abs(modulus - 1.0) > 4.0 * np.finfo(np.float64).eps)
    zeta = np.where(near, zeta / modulus, zeta)
    real = np.abs(zeta.imag) <= CIRCLE
    upper, lower = zeta[~real & (zeta.imag > 0.0)], zeta[~real & (zeta.imag < 0.0)]
    upper, lower = upper[np.argsort(np.angle(upper))], lower[np.argsort(-np.angle(lower))]
    if len(upper) != len(lower) or np.any(np.abs(upper - lower.conj()) > 10.0 * CIRCLE):
        raise ValueError(f"roots must be real or come in conjugate pairs, got {roots!r}")
    alone = np.sort(zeta[real].real) + 0.0j
    zeta = np.concatenate([np.stack([upper, upper.conj()], axis=-1).ravel(), alone])
    gaps = np.abs(zeta[:, None] - zeta[None, :]) + 4.0 * np.eye(len(zeta))
    if gaps.min() <= 1e-6:
        raise ValueError(f"roots must be distinct, got {roots!r}")
    return zeta


def _literal(z: complex) -> str:
    """A number that `ast.literal_eval` reads back bit for bit."""
    return text(z.real) if z.imag == 0.0 else f"{text(z.real)}{'+' if z.imag > 0.0 else '-'}{text(abs(z.imag))}j"
