"""What a network predicts, and how to read eps from it: the algebra of x = alpha x_0 + sigma eps, in one place.

    epsilon   p = eps
    sample    p = x_0                     eps = (x - alpha p) / sigma
    v         p = alpha eps - sigma x_0   eps = (alpha p + sigma x) / (alpha^2 + sigma^2)
    score     p = grad log q = -eps/sigma eps = -sigma p
    velocity  p = eps - x_0               eps = (x + alpha p) / (alpha + sigma)

(v: Salimans & Ho 2022; velocity: the rectified-flow target, dx/dt for alpha = 1 - t, sigma = t.)

x is the state as the solver holds it, not as a network of lower precision was given it: at sigma_bar = 130, bfloat16 makes of
the x in x - alpha p an error 130 times as large as that of p. The algebra is done in the wider of the two precisions.
"""

from __future__ import annotations

from typing import Any

import torch

KINDS = ("epsilon", "sample", "v", "score", "velocity")

Number = float | torch.Tensor


def to_epsilon(kind: str, prediction: torch.Tensor, x: torch.Tensor, alpha: Number, sigma: Number) -> torch.Tensor:
    """eps from a prediction of the given kind. Every way in (`Predictor.epsilon`, a scheduler's `step`) reads predictions here.

    Args:
        kind: one of `KINDS`.
        prediction: (B, …), in the network's dtype.
        x: (B, …), the solver's own state, unrounded, in the scale alpha x_0 + sigma eps.
        alpha, sigma: floats, or tensors that broadcast against x.

    Returns:
        (B, …): the prediction itself for "epsilon", else in the wider of the dtypes of x and prediction, float32 at least.

    Raises:
        ValueError: an unknown kind, or "sample" at sigma = 0, where x carries no noise and eps is undefined.
    """
    if kind == "epsilon":
        return prediction
    if kind == "sample" and bool((torch.as_tensor(sigma) == 0.0).any()):  # before they are moved to the network's device
        raise ValueError(
            "eps is undefined for a network that predicts x_0 at sigma_bar = 0; use a grid that ends at final='smallest'"
        )
    prediction, x, alpha, sigma = _widened(prediction, x, alpha, sigma)
    if kind == "sample":
        return (x - alpha * prediction) / sigma
    if kind == "v":
        return (alpha * prediction + sigma * x) / (alpha * alpha + sigma * sigma)
    if kind == "score":
        return -sigma * prediction
    if kind == "velocity":
        return (x + alpha * prediction) / (alpha + sigma)
    raise ValueError(f"kind={kind!r} is not known; choose one of {', '.join(KINDS)}")


def from_epsilon(kind: str, epsilon: torch.Tensor, x: torch.Tensor, alpha: Number, sigma: Number) -> torch.Tensor:
    """The prediction of the given kind that stands for eps: the inverse of `to_epsilon` in its first tensor.

    Raises:
        ValueError: an unknown kind, "score" at sigma = 0, or a kind that needs x_0 at alpha = 0.
    """
    if kind == "epsilon":
        return epsilon
    if kind == "score":
        if bool((torch.as_tensor(sigma) == 0.0).any()):
            raise ValueError("the score is infinite at sigma = 0")
        return -epsilon / sigma
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not known; choose one of {', '.join(KINDS)}")
    if bool((torch.as_tensor(alpha) == 0.0).any()):
        raise ValueError(f"x = eps at alpha = 0, which says nothing of x_0: kind={kind!r} cannot be had there")
    x_0 = (x - sigma * epsilon) / alpha
    if kind == "sample":
        return x_0
    return alpha * epsilon - sigma * x_0 if kind == "v" else epsilon - x_0


def _widened(prediction: torch.Tensor, x: torch.Tensor, *scales: Number) -> tuple[Any, ...]:
    """All of them in the wider of the two tensors' precisions, half precisions being widened to float32."""
    wide = torch.promote_types(torch.promote_types(prediction.dtype, x.dtype), torch.float32)
    return prediction.to(wide), x.to(wide), *(v.to(x.device, wide) if isinstance(v, torch.Tensor) else v for v in scales)
