"""Initial value problems dx/ds = f(x, s) with exact solutions, and smooth grids, for measuring order of convergence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vsvf.grid import Grid
from vsvf.predictors.base import ClosedForm
from vsvf.predictors.mixture import from_ode

Array = np.ndarray


START, END = 0.25, 1.25


@dataclass(frozen=True)
class Problem:
    """dx/ds = f(x, s) on s in [1/4, 5/4], x of shape (B, d), with its exact solution.

    Attributes:
        name: for tables. equation: as text.
        predictor: f as a predictor with alpha = 1.
        exact: s -> x(s), float64 (B, d).
    """

    name: str
    equation: str
    predictor: ClosedForm
    exact: Callable[[float], torch.Tensor]


def _problem(name: str, equation: str, f: Callable[[torch.Tensor, Any], torch.Tensor], exact: Any) -> Problem:
    return Problem(name, equation, from_ode(f), lambda s: torch.as_tensor(exact(s), dtype=torch.float64).reshape(1, -1))


def rotation(rate: float = 6.0) -> Problem:
    """x' = w A x with A the generator of a rotation: neutral, eigenvalues ±iw, x = (cos ws, sin ws)."""

    def f(x: torch.Tensor, s: Any) -> torch.Tensor:
        return rate * torch.stack([-x[:, 1], x[:, 0]], dim=1)

    return _problem("rotation", f"x' = {rate:g} (-x_2, x_1)", f, lambda s: (np.cos(rate * s), np.sin(rate * s)))


def oscillating_growth(rate: float = 8.0) -> Problem:
    """x' = x cos ws: eigenvalue of varying sign, x = exp(sin(ws)/w)."""

    def f(x: torch.Tensor, s: Any) -> torch.Tensor:
        return x * (torch.cos(rate * s) if isinstance(s, torch.Tensor) else np.cos(rate * s))

    return _problem("oscillating growth", f"x' = x cos {rate:g}s", f, lambda s: np.exp(np.sin(rate * s) / rate))


def logistic(rate: float = 6.0) -> Problem:
    """x' = w x (1 - x): non-linear, x = 1/(1 + 3 e^{-w (s - 1/4)})."""
    return _problem(
        "logistic",
        f"x' = {rate:g} x (1 - x)",
        lambda x, s: rate * x * (1.0 - x),
        lambda s: 1.0 / (1.0 + 3.0 * np.exp(-rate * (s - START))),
    )


def gaussian_data(std: float = 0.25) -> Problem:
    """The diffusion ODE of Gaussian data: eps_bar = s x/(s^2 + std^2), x(s) = sqrt(s^2 + std^2)."""
    variance = std * std
    return _problem(
        "Gaussian data",
        f"x' = s x/(s^2 + {variance:g})",
        lambda x, s: s * x / (s * s + variance),
        lambda s: np.sqrt(s * s + variance),
    )


def problems() -> tuple[Problem, ...]:
    """All test problems."""
    return rotation(), oscillating_growth(), logistic(), gaussian_data()


def smooth_grid(steps: int, stretch: float = 0.5, wave: float = 0.1) -> Grid:
    """A smooth variable grid on [1/4, 5/4]: nodes 1/4 + g(i/N), g(u) = expm1(r u)/expm1(r) + wave sin(2 pi u)/(2 pi).

    Steps vary by a factor of about 2 and their ratios tend to 1 like 1/N, which is what "smooth" means in the theory.
    """
    u = np.linspace(0.0, 1.0, steps + 1)
    nodes = START + np.expm1(stretch * u) / np.expm1(stretch) + wave * np.sin(2.0 * np.pi * u) / (2.0 * np.pi)
    nodes[0], nodes[-1] = START, END
    return Grid(nodes, np.ones(steps + 1), name=f"smooth, N={steps}")
