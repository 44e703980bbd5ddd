"""Fixed-point iteration with Anderson acceleration, for implicit rows and for inverses that are not explicit."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Iteration:
    """When a fixed-point iteration has converged.

    Attributes:
        tolerance: largest change relative to the largest entry of the states (at least 1).
        cap: iterations after which `ConvergenceError` is raised.
    """

    tolerance: float
    cap: int


class Anderson:
    """Anderson acceleration of x <- g(x), every sample of the batch by itself (Walker & Ni, SIAM J. Numer. Anal. 49, 2011).

    With residuals f = g(x) - x and the last m differences dF, dG of residuals and values, the next iterate is

        x_new = g - dG gamma,   gamma = argmin || f - dF gamma ||.

    A plain iteration contracts by its Jacobian's largest eigenvalue per step; near the data end of a diffusion ODE that is close
    to 1. Plain steps are taken where the residual is at rounding level or has grown tenfold, and instead of a step that would leave
    the size of the states.

    Args:
        memory: m, how many differences are kept.
    """

    def __init__(self, memory: int = 4) -> None:
        self.memory = memory
        self.values: list[torch.Tensor] = []
        self.residuals: list[torch.Tensor] = []
        self.best = float("inf")

    def step(self, x: torch.Tensor, g: torch.Tensor, change: float) -> torch.Tensor:
        """The next iterate.

        Args:
            x, g: (B, …) the iterate and its image. change: the relative size of g - x.
        """
        if change > 10.0 * self.best or change < 1e3 * torch.finfo(g.dtype).eps:
            self.values, self.residuals, self.best = [], [], change
            return g
        self.best = min(self.best, change)
        values, residual = g.flatten(1).double(), (g - x).flatten(1).double()
        self.values = [*self.values[-self.memory :], values]
        self.residuals = [*self.residuals[-self.memory :], residual]
        if len(self.values) == 1:
            return g
        d_values = torch.stack([b - a for a, b in zip(self.values, self.values[1:])], dim=1)  # (B, m, n)
        d_residuals = torch.stack([b - a for a, b in zip(self.residuals, self.residuals[1:])], dim=1)
        gram = d_residuals @ d_residuals.transpose(1, 2)
        ridge = 1e-12 * gram.diagonal(dim1=1, dim2=2).sum(1).clamp(min=torch.finfo(torch.float64).tiny)
        gram = gram + ridge[:, None, None] * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        gamma = torch.linalg.solve(gram, (d_residuals @ residual[:, :, None]))
        new = (values - (gamma * d_values).sum(1)).reshape(g.shape).to(g.dtype)
        within = float(new.abs().max()) <= 10.0 * float(g.abs().max())  # false for nan
        return new if within else g
