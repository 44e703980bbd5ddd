"""Closed-form predictors: the exact eps of a Gaussian mixture, of a data set ("ideal denoiser"), of a toy ODE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from vsvf.predictors.base import ClosedForm
from vsvf.schedule import Schedule


def gaussian_mixture(
    means: torch.Tensor,
    std: float | torch.Tensor,
    weights: torch.Tensor | None = None,
    schedule: Schedule | None = None,
) -> ClosedForm:
    """The exact eps of x_0 distributed as sum_k w_k N(m_k, s_k^2 I).

    In x_bar the marginal is sum_k w_k N(m_k, (s_k^2 + sigma_bar^2) I), and eps_bar = -sigma_bar grad log q:

        eps_bar = sigma_bar sum_k p_k (x_bar - m_k) / (s_k^2 + sigma_bar^2),   p = posterior of the components.

    Args:
        means: (K, …) component means, of the shape of one image.
        std: s > 0, one for all or (K,).
        weights: (K,) positive; default equal.
        schedule: gives the scale x = alpha x_bar; default alpha = 1.

    Raises:
        ValueError: std or weights not positive.
    """
    count = means.shape[0]
    spread = torch.as_tensor(std, dtype=torch.float64).expand(count)
    prior = torch.ones(count, dtype=torch.float64) if weights is None else torch.as_tensor(weights, dtype=torch.float64)
    if not bool((spread > 0).all()):
        raise ValueError(f"std must be positive, got {std}")
    if prior.shape != (count,) or not bool((prior > 0).all()):
        raise ValueError(f"weights must be {count} positive numbers")
    flat_means = means.reshape(count, -1)
    log_prior = torch.log(prior / prior.sum())
    dimension = flat_means.shape[1]

    def function(x_bar: torch.Tensor, sigma_bar: Any) -> torch.Tensor:
        if x_bar.shape[1:] != means.shape[1:]:
            raise ValueError(f"x has images of shape {tuple(x_bar.shape[1:])}, the components {tuple(means.shape[1:])}")
        centres = flat_means.to(x_bar)
        x = x_bar.reshape(x_bar.shape[0], -1)
        level = torch.as_tensor(sigma_bar, dtype=x.dtype, device=x.device).reshape(-1, 1)
        variance = spread.to(x)[None, :] ** 2 + level**2  # (1 or B, K)
        distance = (x * x).sum(1, keepdim=True) - 2.0 * x @ centres.T + (centres * centres).sum(1)[None, :]
        logits = log_prior.to(x)[None, :] - 0.5 * distance / variance - 0.5 * dimension * torch.log(variance)
        posterior = torch.softmax(logits, dim=1) / variance
        return (level * (posterior.sum(1, keepdim=True) * x - posterior @ centres)).reshape(x_bar.shape)

    return ClosedForm(function, schedule)


def ideal_denoiser(data: torch.Tensor, std: float = 0.05, schedule: Schedule | None = None) -> ClosedForm:
    """The exact eps when x_0 is an image of `data`, each blurred by N(0, std^2): an equal-weight Gaussian mixture.

    Args:
        data: (K, …) images. std: > 0, in the images' units. schedule: gives the scale x = alpha x_bar; default alpha = 1.
    """
    return gaussian_mixture(data, std, schedule=schedule)


def from_ode(function: Callable[[torch.Tensor, Any], torch.Tensor]) -> ClosedForm:
    """The right-hand side `function`(x, s) of dx/ds = f(x, s) as a predictor with alpha = 1: any ODE can be marched."""
    return ClosedForm(function)
