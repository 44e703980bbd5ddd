"""The error of a march on Gaussian data, from the plan alone: what the slopes do to errors, which zero-stability does not see.

Data that are Gaussian with standard deviation s have the exact solution x_bar = sqrt(s^2 + sigma_bar^2) and the slope
d eps_bar / d x_bar = sigma_bar / (s^2 + sigma_bar^2), so every row's truncation error tau_m and its effect phi_m on the end of the
march are known numbers, and

    E = sum_m |phi_m| |tau_m|

bounds the error of the march from exact starting states without letting errors cancel.
"""

from __future__ import annotations

import numpy as np

from vsvf.plan import Plan
from vsvf.stability.growth import homogeneous_rows, response

Array = np.ndarray

DATA_STDS = np.logspace(-2.0, 0.0, 7)
IMAGE_STD = 0.5  # about the standard deviation of images in [-1, 1]


def truncation_errors(plan: Plan, stds: Array = DATA_STDS) -> tuple[Array, Array]:
    """E = sum_m |phi_m tau_m| and max_m |phi_m| for Gaussian data of each standard deviation, both (n,), in x_bar.

    inf where they leave the range of float64.
    """
    u = np.sqrt(stds**2 + plan.position[:, None] ** 2)
    rows = homogeneous_rows(plan, plan.node[:, None] / (stds**2 + plan.node[:, None] ** 2))
    index = np.arange(plan.rows)[:, None] + plan.steps - 1 - np.arange(plan.steps)[None, :]
    tau = np.abs(u[plan.steps :] - np.sum(rows * u[index], axis=1))
    with np.errstate(over="ignore", invalid="ignore"):
        phi = np.abs(response(rows, plan.rows + plan.last))
        error, reaction = np.sum(phi * tau, axis=0), phi.max(axis=0, initial=0.0)
    return np.where(np.isfinite(error), error, np.inf), np.where(np.isfinite(reaction), reaction, np.inf)
