"""The uniform-grid formula: its roots, the root condition, linear stability regions and weak instability.

Conventions: the test equation is y' = lambda y in the time of the march, and w = h lambda. Sampling runs towards smaller
sigma_bar, so eps_bar = -lambda y there, and one row reads z_new (1 + w c_0) = sum_j (a_j - w c_j) z_j with the weights c
of unit steps. One step of a coupled method is the product of its rows.
"""

from __future__ import annotations

import numpy as np

from vsvf.formula import Formula
from vsvf.grid import Grid

Array = np.ndarray

_OFFSET = 2.0**20  # unit steps this far from sigma_bar = 0: log(s + 1) - log(s) and the like are all but uniform
_INTERVAL_TOLERANCE = 1e-12
_SHORTEST_INTERVAL = 0.05  # moduli like 1 + y^6 / 100 look like 1 below this


def _limit_rows(formula: Formula, ratio: float = 1.0) -> tuple[Array, Array]:
    """a (n, K) and c (n, K+1) of one step on a grid h_{i-1} = ratio h_i with h = 1 at the noise end, alpha constant,
    steps small against sigma_bar. Formulas in log sigma_bar (DEIS, DPM-Solver++) depend on h / sigma_bar; extrapolation
    from two offsets removes the leading term, and what is left below 1e-9 is zero in the limit.
    """
    count = formula.steps
    gaps = np.concatenate([[0.0], np.cumsum(ratio ** np.arange(count)[::-1])])

    def rows(offset: float) -> tuple[Array, Array]:
        nodes = offset + gaps
        plan = formula.plan(Grid.from_sigma_bar(nodes, np.ones_like(nodes)))
        return plan.a[: plan.rows_per_step], plan.c[: plan.rows_per_step]

    (a1, c1), (a2, c2) = rows(_OFFSET), rows(2.0 * _OFFSET)
    a, c = 2.0 * a2 - a1, 2.0 * c2 - c1
    return np.where(np.abs(a) < 1e-9, 0.0, a), np.where(np.abs(c) < 1e-9, 0.0, c)


def step_matrix(formula: Formula, w: Array | complex = 0.0, ratio: float = 1.0) -> Array:
    """The matrix of one step for y' = lambda y, (*w.shape, K, K) complex128; at w = 0 the product of companion matrices."""
    a, c = _limit_rows(formula, ratio)
    w = np.asarray(w, dtype=np.complex128)
    k = a.shape[1]
    product = np.broadcast_to(np.eye(k, dtype=np.complex128), (*w.shape, k, k))
    for row_a, row_c in zip(a, c):
        companion = np.zeros((*w.shape, k, k), dtype=np.complex128)
        companion[..., 1:, :-1] = np.eye(k - 1)
        companion[..., 0, :] = (row_a - w[..., None] * row_c[1:]) / (1.0 + w[..., None] * row_c[0])
        product = companion @ product
    return product


# ---- zero-stability ----------------------------------------------------------------------------------------


def spurious_roots(formula: Formula, ratio: float = 1.0) -> Array:
    """The K-1 eigenvalues of one step at h lambda = 0 besides the principal root 1, complex128, largest modulus first.

    For one row per step these are the spurious roots of rho(z) = z^K - sum_j a_j z^{K-j}. `ratio` = h_{i-1}/h_i gives the
    roots on a geometric grid, for formulas whose a depend on step ratios alone.
    """
    roots = np.linalg.eigvals(step_matrix(formula, ratio=ratio))
    roots = np.delete(roots, np.argmin(np.abs(roots - 1.0)))
    return roots[np.lexsort((-roots.imag, -roots.real, -np.round(np.abs(roots), 9)))]


def root_condition(formula: Formula) -> tuple[bool, bool]:
    """Whether one step's matrix on a uniform grid, and its inverse, are power-bounded: (sampling, inversion).

    This is Dahlquist's root condition: no root outside the unit circle, and none on it that is defective. It is decided by
    squaring the matrix 30 times: after 2^30 steps a defective root has grown to about 1e9 and a simple one has not grown,
    which also treats the double but harmless root 1 of two uncoupled states correctly. False for inversion where a_K = 0.
    """
    matrix = step_matrix(formula)
    invertible = bool(np.all(_limit_rows(formula)[0][:, -1] != 0.0))
    return _power_bounded(matrix), invertible and _power_bounded(np.linalg.inv(matrix))


def _power_bounded(matrix: Array) -> bool:
    power = matrix
    for _ in range(30):
        power = power @ power
        if not np.all(np.isfinite(power)) or np.abs(power).sum(axis=-1).max() > 1e6:
            return False
    return True


def geometric_threshold(formula: Formula, low: float = 0.05) -> float:
    """The step ratio r = h_{i-1}/h_i below which a formula is zero-stable for sampling on a geometric grid.

    The largest r in [low, 1] with all spurious roots of modulus at most 1; 1.0 where that holds on uniform grids.
    For the LTE-minimising BELM with k = 3 it is 0.4354.

    Raises:
        ValueError: unstable at `low` already.
    """

    def excess(r: float) -> float:
        return float(np.abs(spurious_roots(formula, r)).max(initial=0.0)) - 1.0

    if excess(1.0) <= 1e-9:
        return 1.0
    if excess(low) > 0.0:
        raise ValueError(f"{formula.name} is unstable at the step ratio {low} already")
    from scipy.optimize import brentq  # here, since it takes long to import

    return float(brentq(excess, low, 1.0, xtol=1e-12))


# ---- y' = lambda y -----------------------------------------------------------------------------------------


def stability_modulus(formula: Formula, w: Array | complex) -> Array:
    """Largest modulus of the roots for h lambda = w (any shape): at most 1 inside the linear stability region."""
    return np.abs(np.linalg.eigvals(step_matrix(formula, w))).max(axis=-1)


def boundary_locus(formula: Formula, points: int = 400) -> Array:
    """w(theta) = rho(e^{i theta}) / sigma(e^{i theta}), theta in (0, 2 pi): where some root has modulus 1, (points,) complex.

    Raises:
        ValueError: a method with several rows per step (use `stability_modulus`).
    """
    a, c = _limit_rows(formula)
    if len(a) > 1:
        raise ValueError(f"{formula.name} takes {len(a)} rows per step, the boundary locus needs one: use stability_modulus")
    z = np.exp(2j * np.pi * (np.arange(points) + 0.5) / points)
    rho = np.polyval(np.concatenate([[1.0], -a[0]]), z)
    return -rho / np.polyval(c[0], z)


def real_interval(formula: Formula) -> float:
    """x such that every h lambda in [-x, 0] is stable: inf, or 0.0 for intervals shorter than 0.05."""
    return _interval(formula, -1.0)


def imaginary_interval(formula: Formula) -> float:
    """y such that every h lambda in i[-y, y] is stable: inf, or 0.0 for intervals shorter than 0.05."""
    return _interval(formula, 1j)


def _interval(formula: Formula, direction: complex) -> float:
    probe = np.concatenate([np.linspace(0.002, 10.0, 5000), np.geomspace(10.1, 1e6, 200)])

    def excess(x: Array | float) -> Array:
        return stability_modulus(formula, direction * np.asarray(x)) - 1.0 - _INTERVAL_TOLERANCE

    outside = np.flatnonzero(excess(probe) > 0.0)
    if len(outside) == 0:
        return np.inf
    low, high = (probe[outside[0] - 1] if outside[0] else 0.0), probe[outside[0]]
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (low, middle) if excess(middle) > 0.0 else (middle, high)
    return float(low) if low >= _SHORTEST_INTERVAL else 0.0


def root_growth(formula: Formula) -> tuple[Array, Array]:
    """The roots of one step and their growth parameters mu: zeta(w) = zeta (1 + mu w + …), each (K,), the principal first.

    For one row per step mu = sigma(zeta) / (zeta rho'(zeta)), and mu = 1 for the principal root. Over a march a mode
    grows like |zeta|^n exp(Re(mu int lambda dt)): with Re lambda < 0 a root on the circle and Re mu < 0 is weakly unstable.
    With L and R bases of the left and right null spaces of P - zeta for one step's matrix P(w), the mu of that root are
    the eigenvalues of (L R)^{-1} L P'(0) R / zeta. nan where the root is zero or defective.
    """
    a, c = _limit_rows(formula)
    k = a.shape[1]
    step = np.eye(k)
    derivative = np.zeros((k, k))
    for row_a, row_c in zip(a, c):
        companion, slope = np.eye(k, k=-1), np.zeros((k, k))
        companion[0] = row_a
        slope[0] = -row_c[1:] - row_c[0] * row_a
        step, derivative = companion @ step, slope @ step + companion @ derivative
    roots = np.linalg.eigvals(step.astype(np.complex128))
    roots = np.where(np.abs(roots) < 1e-6, 0.0, roots)
    mu = np.full(k, np.nan, dtype=np.complex128)
    for n, zeta in enumerate(roots):
        same = np.flatnonzero(np.abs(roots - zeta) < 1e-6)
        if zeta == 0.0 or same[0] != n:
            continue
        left, singular, right = np.linalg.svd(step - zeta * np.eye(k))
        null = singular < 1e-9 * max(1.0, singular[0])
        if null.sum() == len(same):
            left, right = left[:, null].conj().T, right[null].conj().T
            mu[same] = np.linalg.eigvals(np.linalg.solve(left @ right, left @ derivative @ right)) / zeta
    order = np.lexsort((np.abs(mu - 1.0), np.round(np.abs(roots - 1.0), 6)))
    return roots[order], mu[order]


def spurious_growth(formula: Formula, integral: complex) -> Array:
    """|exp(mu integral)| for every spurious root, (K-1,): what small steps make of |zeta(h lambda)|^n / |zeta|^n.

    Args:
        integral: int lambda dt over the march, real or complex; in sampling's time sigma_bar decreases, so a dissipative
            problem has a negative real part.
    """
    return np.abs(np.exp(root_growth(formula)[1][1:] * integral))


def weak_instability(formula: Formula) -> float:
    """The worst -Re mu over the spurious roots on the unit circle, at least 0.

    A dissipative problem (lambda < 0 in the march's time, as sampling is where d eps_bar / d x_bar > 0) amplifies its
    spurious modes like exp(this * int |lambda| dt), however small the steps. Inversion runs the same relations backwards
    and multiplies the modes by exp(+Re mu int |lambda| dt), the solution itself by exp(int |lambda| dt).
    """
    roots, mu = root_growth(formula)
    on_circle = np.abs(np.abs(roots[1:]) - 1.0) < 1e-8
    return float(np.max(-mu[1:][on_circle].real, initial=0.0))
