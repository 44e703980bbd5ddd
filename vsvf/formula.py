"""Formulas: a variable-stepsize variable-formula (VSVF) linear multistep method as data.

    x_bar_{i-1} = sum_{j=1..k} a_{i,j} x_bar_{i-1+j} + sum_{j=0..k} b_{i,j} h_{i-1+j} eps_bar_{i-1+j}          (12)

A `Formula` compiles itself on a grid into a `Plan`; a `LinearMultistep` does so from one pure function of the window
s_0 < … < s_k of nodes, s_j = sigma_bar_{i-1+j}.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vsvf.grid import Grid
from vsvf.plan import Plan

Array = np.ndarray
Coefficients = Callable[[Array, Array], tuple[Array, Array]]


class Formula(ABC):
    """A sampling method: a name, the number of states it carries, the order it claims, and a plan on any grid.

    Attributes:
        name: as in reports and on the command line, for instance "belm(2)".
        steps: k, how many states the method carries.
        order: claimed order of convergence on smooth grids.
        source: where it was published.
    """

    name: str
    steps: int
    order: int
    source: str

    @abstractmethod
    def plan(self, grid: Grid) -> Plan:
        """Compile on a grid. Raises ValueError when the grid has fewer steps than the formula needs."""

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, repr=False)
class LinearMultistep(Formula):
    """A k-step formula (12), given by one function.

    Attributes:
        name, steps, order, source: as it calls itself, k, the order that it claims, and who published it.
        function: (nodes, alpha) -> (a, c), all float64 with any leading shape: nodes (..., k+1) are the window s_0 … s_k,
            alpha the alphas there (only BDIA uses them); a is (..., k) for j = 1 … k; c is (..., k+1) for j = 0 … k,
            the weight of eps_bar at s_j with the step already multiplied in.
        lower_order: k -> the same family's formula with fewer steps, for self-starting; None where there is none.
        smooth_order: True when `order` holds on smooth grids only (step ratios tending to 1).
    """

    name: str
    steps: int
    order: int
    function: Coefficients = field(compare=False)
    source: str = ""
    lower_order: Callable[[int], LinearMultistep] | None = field(default=None, compare=False)

    def coefficients(self, nodes: Any, alpha: Any | None = None) -> tuple[Array, Array]:
        """a_{i,1…k} and b_{i,0…k} of (12), vectorised over windows.

        Args:
            nodes: (..., k+1) windows s_0 < … < s_k (one window, or all of a grid's at once).
            alpha: (..., k+1) alpha at these; default 1/sqrt(1 + s^2).

        Returns:
            a of shape (..., k) and b of shape (..., k+1), float64. b_j multiplies h_{i-1+j} eps_bar_{i-1+j}, where
            h_{i-1+j} = s_j - s_{j-1} for j >= 1. For j = 0, h_{i-1} lies outside the window (and may be 0 at the data end):
            b_0 multiplies the step being taken, h_i = s_1 - s_0.
        """
        nodes = self._check_window(nodes)
        a, c = self.weights(nodes, alpha)
        steps = np.diff(nodes, axis=-1)
        return a, c / np.concatenate([steps[..., :1], steps], axis=-1)

    def weights(self, nodes: Any, alpha: Any | None = None) -> tuple[Array, Array]:
        """a as in `coefficients`, and c_{i,j} = b_{i,j} h_{i-1+j}, the weights of eps_bar itself."""
        nodes = self._check_window(nodes)
        alpha = 1.0 / np.sqrt(1.0 + nodes**2) if alpha is None else np.asarray(alpha, dtype=np.float64)
        return self.function(nodes, alpha)

    def _check_window(self, nodes: Any) -> Array:
        nodes = np.asarray(nodes, dtype=np.float64)
        if nodes.ndim < 1 or nodes.shape[-1] != self.steps + 1:
            raise ValueError(f"{self.name} needs windows of {self.steps + 1} nodes, got shape {nodes.shape}")
        if np.any(np.diff(nodes, axis=-1) <= 0.0):
            raise ValueError("nodes must increase strictly along the window (index 0 is the data end)")
        return nodes

    def plan(self, grid: Grid) -> Plan:
        k = self.steps
        if grid.steps < k:
            raise ValueError(f"{self.name} needs at least {k} steps, the grid has {grid.steps}")
        # row m produces x_bar_{i-1} with i-1 = N-k-m, so the windows are taken from the noise end downwards
        nodes = np.lib.stride_tricks.sliding_window_view(grid.sigma_bar, k + 1)[::-1]
        alpha = np.lib.stride_tricks.sliding_window_view(grid.alpha, k + 1)[::-1]
        a, c = self.weights(nodes, alpha)
        positions = grid.sigma_bar[::-1]
        return Plan(self.name, a, c, positions, positions, index=np.arange(grid.steps, -1, -1), last=k - 1)
