"""Rounding errors of a run, predicted from the plan alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vsvf.formula import Formula
from vsvf.grid import Grid
from vsvf.plan import Plan
from vsvf.stability.growth import homogeneous_rows, response

Array = np.ndarray

EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
ROUNDING = 0.2  # rms of one rounding to nearest, in eps * |value|: 1/sqrt(12) times the mean of ulp/(eps |value|), 0.7


@dataclass(frozen=True)
class Roundoff:
    """Predicted rms rounding errors per element, in the predictor's scale x = alpha x_bar.

    Attributes:
        dtype: of the solver's state.
        sampling: error of the image after sampling.
        inversion: error of the noise after inversion from exact states.
        round_trip: error of the noise after sampling and then inverting what sampling returned.

    The last two are inf where the formula has no exact inverse.
    """

    dtype: str
    sampling: float
    inversion: float
    round_trip: float


def predicted_roundoff(
    formula: Formula, grid: Grid, dtype: Any, *, data_std: float = 1.0, detail_std: float = 0.1, slope: Any | None = None
) -> Roundoff:
    """Rms rounding errors of a march whose states are kept in `dtype`, to be compared with measured ones.

    The march is taken as z_{K+m} = sum_j a_j z_{K+m-j} + … in the scale x = alpha x_bar, every row committing an
    independent error of variance (0.2 eps)^2 (|z_{K+m}|^2 + sum_j |a_j z_{K+m-j}|^2): one rounding of the result and, for
    float32 and float64, one of every product (half precisions sum in float32 and round once). Errors are carried to the
    end of the march by the rows, with the slopes' reaction to them, and their variances added. |z| is the rms size of a
    diffusion state, alpha sqrt(data_std^2 + sigma_bar^2), or what the march itself makes of it on Gaussian data where that
    is larger (EDICT on coarse grids leaves the size of an image far behind). Coefficients rounded to float32 (all dtypes but
    float64) push every step the same way: that error is added up with its sign, along the exact path of Gaussian data.

    The reaction matters: an error e changes eps_bar by slope * e, which in sampling excites a weakly unstable mode and in
    inversion damps it. By default slope = sigma_bar / (detail_std^2 + sigma_bar^2), that of Gaussian data as wide as a
    network's images are around one of their modes, not as all images together: a network that knows details reacts to
    errors down to a smaller sigma_bar. With 0.5 instead, sampling errors on the digits network come out ten times too small.

    On the way back the rows are solved for their oldest state, so that the error of a sampling row returns divided by
    a_K, on top of the inverse row's own: that is the round trip, whose starting states are those that sampling returned.
    There it is an upper estimate: where |a_K| is about 1 and the row rounds only once, the old state is often the nearest
    representable number again, and the round trip then returns every bit.

    Args:
        dtype: "float16", "bfloat16", "float32", "float64", or a torch or numpy dtype of that name.
        data_std: rms value of the data, per element, which gives the size of the states; 0.95 for the digits in [-1, 1].
        detail_std: standard deviation that the slope sees; equal to data_std for Gaussian data.
        slope: (N+1,) d eps_bar / d x_bar at grid.sigma_bar; zeros for the recursion of zero-stability alone.

    Raises:
        ValueError: another dtype.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in EPSILON:
        name = str(getattr(dtype, "__name__", name))
    if name not in EPSILON:
        raise ValueError(f"dtype={dtype!r} is not known; choose one of {', '.join(EPSILON)}")
    plan = formula.plan(grid)

    def at_states(values: Any) -> tuple[Array, Array]:
        return np.interp(plan.position, grid.sigma_bar, values), np.interp(plan.node, grid.sigma_bar, values)

    alpha = at_states(grid.alpha)[0]
    scaled = plan.rescaled(alpha)
    path = alpha * np.hypot(data_std, plan.position)
    size = np.maximum(path, alpha * _marched_size(plan, data_std))
    if slope is None:
        rate = plan.node / (detail_std**2 + plan.node**2)
    else:
        rate = at_states(np.asarray(slope, dtype=np.float64))[1]
    rate = rate / alpha  # eps per unit of x = alpha x_bar
    rows = homogeneous_rows(scaled, rate)
    unit = ROUNDING * EPSILON[name]
    forward, bias = unit**2 * _row_variance(scaled.a, size, name), _coefficient_error(scaled, path, rate, name)
    sampling = _accumulate(rows, plan.rows + plan.last, forward, bias)
    if not plan.backward_solvable:
        return Roundoff(name, sampling, np.inf, np.inf)
    inverse = scaled.inverse()
    inverse_rows, last = homogeneous_rows(inverse, rate[::-1]), inverse.rows + inverse.last
    backward = unit**2 * _row_variance(inverse.a, size[::-1], name)
    back_bias = _coefficient_error(inverse, path[::-1], rate[::-1], name)
    inversion = _accumulate(inverse_rows, last, backward, back_bias)
    # row m of sampling, solved for its oldest state, is row M-1-m of inversion
    oldest = scaled.a[::-1, -1]
    round_trip = _accumulate(inverse_rows, last, backward + forward[::-1] / oldest**2, back_bias + bias[::-1] / oldest)
    return Roundoff(name, sampling, inversion, round_trip)


def _marched_size(plan: Plan, data_std: float) -> Array:
    """|z| of every state when the plan marches Gaussian data from exact states, its truncation errors included."""
    rows = homogeneous_rows(plan, plan.node / (data_std**2 + plan.node**2))
    z = np.hypot(data_std, plan.position)
    with np.errstate(over="ignore", invalid="ignore"):
        for m, row in enumerate(rows):
            z[plan.steps + m] = row @ z[m : m + plan.steps][::-1]
    return np.minimum(np.nan_to_num(np.abs(z), nan=np.inf), 1e150)


def _row_variance(a: Array, size: Array, dtype: str) -> Array:
    """(M,) |z_{K+m}|^2 + sum_j |a_j z_{K+m-j}|^2, without the products with 0 and 1, which are exact."""
    count, k = a.shape
    if dtype in ("float16", "bfloat16"):
        return size[k:] ** 2
    index = np.arange(count)[:, None] + k - 1 - np.arange(k)[None, :]
    products = np.where((a == 1.0) | (a == 0.0), 0.0, a * size[index])
    return size[k:] ** 2 + np.sum(products**2, axis=1)


def _coefficient_error(plan: Plan, size: Array, rate: Array, dtype: str) -> Array:
    """(M,) what the rounding of a row's own coefficients to float32 adds to its result, z of the size given."""
    count, k = plan.a.shape
    if dtype == "float64":
        return np.zeros(count)
    index = np.arange(count)[:, None] + k - np.arange(k + 1)[None, :]
    error_a = plan.a.astype(np.float32) - plan.a
    error_c = plan.c.astype(np.float32) - plan.c
    return np.sum(error_a * size[index[:, 1:]], axis=1) + np.sum(error_c * (rate * size)[index], axis=1)


def _accumulate(rows: Array, state: int, variance: Array, bias: Array) -> float:
    weights = response(rows, state)
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.hypot(np.sqrt(np.sum((weights * np.sqrt(variance)) ** 2)), np.sum(weights * bias))
    return float(total) if np.isfinite(total) else np.inf
