"""Growth of perturbations along a plan's rows: K over all windows, the growth of the single modes, the volume.

Everything here works on the homogeneous rows z_{K+m} = sum_j a[m, j-1] z_{K+m-j}, whose companion matrices are

    C_m = [[a_m], [I 0]],   (z_{K+m}, …, z_{m+1}) = C_m (z_{K+m-1}, …, z_m),

so a coupled method (EDICT) needs nothing of its own: its rows are such rows. Magnitudes are kept as logarithms: products
of a thousand companion matrices leave the range of float64.
"""

from __future__ import annotations

import numpy as np

from vsvf.plan import Plan

Array = np.ndarray

_BIG = 1e100


def homogeneous_rows(plan: Plan, slope: Array | None = None) -> Array:
    """The rows of the march for eps_bar = slope * z: (a_j + c_j slope_j) / (1 - c_0 slope_0), (M, K, …).

    Args:
        plan: M rows of K states.
        slope: (M+K, …) d eps_bar / d z at each state, real or complex, for one or many problems (trailing axes); None for
            zero, the recursion of zero-stability.
    """
    if slope is None:
        return plan.a
    slope = np.asarray(slope)
    if slope.shape[:1] != plan.node.shape:
        raise ValueError(f"slope must have one entry per state, {len(plan.node)}, got shape {slope.shape}")
    index = np.arange(plan.rows)[:, None] + plan.steps - np.arange(plan.steps + 1)[None, :]
    problems = (1,) * (slope.ndim - 1)
    feedback = plan.c.reshape(*plan.c.shape, *problems) * slope[index]
    return (plan.a.reshape(*plan.a.shape, *problems) + feedback[:, 1:]) / (1.0 - feedback[:, :1])


def power_rows(plan: Plan, p: float) -> Array:
    """The rows for z = x_bar / sigma_bar^p when the slope of z, r = (eps_bar - p x_bar / sigma_bar) / sigma_bar^p, does not react.

    With eps_bar = r sigma_bar^p + p x_bar / sigma_bar a row is one for z and r; this is its homogeneous part, (M, K), the recursion
    that power-fitted formulas keep bounded. (p = 0 gives `plan.a`.)

    Raises:
        ValueError: a node at sigma_bar = 0, or slopes that are taken at another sigma_bar than their states stand at.
    """
    if np.any(plan.node <= 0.0) or not np.array_equal(plan.node, plan.position):
        raise ValueError(f"{plan.name}: z = x_bar / sigma_bar^p needs states at sigma_bar > 0 with their slopes taken there")
    rows = homogeneous_rows(plan, p / plan.node)
    index = np.arange(plan.rows)[:, None] + plan.steps - np.arange(plan.steps + 1)[None, :]
    scale = plan.node[index] ** p
    return rows * scale[:, 1:] / scale[:, :1]


def log_amplification(rows: Array) -> float:
    """log K, K = max over windows n <= m of || C_m … C_n ||_inf (at least 1, the empty product).

    The norm of a product is the largest l1 norm among the K newest states' weights on the starting window, so K is the
    largest l1 norm of the weights of *any* later state on *any* starting window. All starting windows advance together,
    one vectorised row at a time: exact, M^2 K^2 / 2 multiplications and no matrix products (about 0.05 s for M = 1000,
    0.5 s for EDICT's M = 4000 rows), O(M K^2) memory. A start whose weights exceed 1e100 is rescaled and remembers it.

    Args:
        rows: (M, K) weights, real or complex.
    """
    count, k = rows.shape
    states = np.zeros((k, count, k), dtype=rows.dtype)  # slot s % k: the weights of z_s on each starting window
    log_scale = np.zeros(count)
    largest = np.ones(count)
    for m in range(count):
        for j in range(k):
            states[(m + k - 1 - j) % k, m, j] = 1.0  # a new start: its own window, newest state first
        running = slice(0, m + 1)
        new = np.zeros((m + 1, k), dtype=rows.dtype)
        for j in np.flatnonzero(rows[m]).tolist():
            new += rows[m, j] * states[(m + k - 1 - j) % k, running]
        states[m % k, running] = new
        size = np.abs(new).sum(axis=-1)
        np.maximum(largest[running], size, out=largest[running])
        if size.max() > _BIG:
            grown = np.flatnonzero(size > _BIG)
            states[:, grown] /= size[grown, None]
            largest[grown] /= size[grown]
            log_scale[grown] += np.log(size[grown])
    return float(np.max(np.log(largest) + log_scale, initial=0.0))


def log_mode_growth(rows: Array) -> Array:
    """Logarithms of the growth of the K-1 spurious modes over all rows, (K-1,), the dominant one first.

    A consistent row (sum_j a_j = 1) keeps constants, so the increments d_j = z_j - z_{j+1} obey a recursion of their own,
    d_new = sum_{j<K} A_j d_j with A_j = -sum_{l>j} a_l, in which the principal mode is no longer present. A scan of QR
    factorisations C_m Q_m = Q_{m+1} R_m of its companion matrices gives the growths as the products of the diagonals of R:
    of the dominant mode, then of areas divided by it, and so on. The modes of a conjugate pair share theirs. -inf where a
    mode is annihilated (a_K = 0).
    """
    count, k = rows.shape
    increments = -np.cumsum(rows[:, :0:-1], axis=1)[:, ::-1]
    basis = np.eye(k - 1)
    companion = np.eye(k - 1, k=-1)
    total = np.zeros(k - 1)
    with np.errstate(divide="ignore"):
        for m in range(count if k > 1 else 0):
            companion[0] = increments[m]
            basis, triangle = np.linalg.qr(companion @ basis)
            total += np.log(np.abs(np.diagonal(triangle)))
    return total


def log_volume(rows: Array) -> float:
    """log prod_m |a_{m,K}|, -inf where some a_K = 0.

    By det C_m = ± a_{m,K} this is what the growths of all modes must multiply to; the principal mode's is 1.
    """
    with np.errstate(divide="ignore"):
        return float(np.sum(np.log(np.abs(rows[:, -1]))))


def response(rows: Array, state: int) -> Array:
    """(M, …) derivative of z_state with respect to an error committed in the result of each row; rows (M, K, …).

    One adjoint pass of M K multiplications: phi_s, the derivative with respect to z_s, collects what every later row that
    reads z_s passes on, phi_s = sum_r a[r, K+r-s-1] phi_{K+r}.
    """
    count, k = rows.shape[:2]
    phi = np.zeros((count + k, *rows.shape[2:]), dtype=rows.dtype)
    phi[state] = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        for r in range(min(count, state - k + 1) - 1, -1, -1):
            phi[r : r + k] += rows[r, ::-1] * phi[k + r]
    return phi[k:]
