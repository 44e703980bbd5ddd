"""Optimisation through a whole sampling, with its exact gradient: of the noise for what an image should be, of the null conditions
for an image that should come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

import vsvf
from vsvf.formula import Formula
from vsvf.grid import Grid
from vsvf.predictors.base import Predictor
from vsvf.state import State


@dataclass(frozen=True)
class Optimised:
    """What an optimisation found.

    Attributes:
        x: the noise, (B, …), or None where the noise was given. state: the sample of the best loss, without a graph.
        losses: before every step, and the last. tensors: the others that were optimised, at the best loss.
    """

    x: torch.Tensor | None
    state: State
    losses: list[float]
    tensors: list[torch.Tensor] = field(default_factory=list)


def optimise_noise(
    predictor: Predictor,
    x: torch.Tensor,
    grid: Grid,
    formula: Formula | str,
    loss: Callable[[torch.Tensor], torch.Tensor],
    *,
    steps: int = 50,
    learning_rate: float = 0.05,
    renormalise: bool = True,
    gradient: str = "reversible",
    **options: Any,
) -> Optimised:
    """Change the noise until the loss of its sample is small: towards an image, a class, anything that is differentiable.

        optimise_noise(predictor, noise, grid, "stable_belm(2)", lambda image: (image - target).square().mean())
        optimise_noise(predictor, noise, grid, "stable_belm(2)", lambda image: cross_entropy(judge(image), labels))

    Adam's steps; with `renormalise` every noise keeps the norm that it began with, so that it stays one that the network knows
    (as DOODL does, Wallace et al., ICCV 2023).

    Args:
        predictor, x, grid, formula, gradient: as in `vsvf.sample`; options are passed on to it.
        loss: image (B, …) -> a number, the sum or mean over the batch.
        steps, learning_rate: of Adam.

    Returns:
        The noise of the least loss, its sample, and all losses.
    """
    noise = x.detach().clone().requires_grad_()
    size = noise.detach().flatten(1).norm(dim=1)

    def keep_size() -> None:
        if renormalise:
            norm = noise.detach().flatten(1).norm(dim=1)
            noise.mul_((size / norm).view(-1, *[1] * (noise.ndim - 1)))

    def sampled() -> State:
        return vsvf.sample(predictor, noise, grid, formula, gradient=gradient, **options)

    losses, best, state = _adam([noise], sampled, lambda found: loss(found.x), steps, learning_rate, keep_size)
    return Optimised(best[0], state, losses)


class NullPath:
    """Classifier-free guidance with a null condition of its own for every time, p_null(t) + w (p_condition - p_null(t)).

    Args:
        network: callable (x, t, condition) -> prediction. condition: (1 or B, …) floating. null: (1, …), where all begin.
        scale: w. times: the model's times at which the network will be asked.
    """

    def __init__(
        self,
        network: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
        condition: torch.Tensor,
        null: torch.Tensor,
        scale: float,
        times: list[float],
    ) -> None:
        self.network, self.condition, self.scale = network, condition, scale
        self.times = torch.tensor(times, dtype=torch.float64)
        self.nulls = [null.detach().clone().requires_grad_() for _ in times]

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        null = self.nulls[int((self.times - float(t[0])).abs().argmin())].expand_as(self.condition)
        wanted = self.condition
        both = self.network(torch.cat([x, x]), torch.cat([t, t]), torch.cat([_rows(null, x), _rows(wanted, x)]))
        unguided, guided = both.chunk(2)
        return unguided + self.scale * (guided - unguided)


def _rows(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return values.expand(x.shape[0], *values.shape[1:])


def null_conditions(
    predictor: Predictor,
    noise: torch.Tensor | State,
    image: torch.Tensor,
    grid: Grid,
    formula: Formula | str,
    *,
    steps: int = 50,
    learning_rate: float = 1e-2,
    gradient: str = "reversible",
    **options: Any,
) -> Optimised:
    """Null-text inversion over the whole path: the null conditions with which guided sampling from a noise ends at the image.

    Mokady et al. (CVPR 2023) fit them step by step to a stored path; here one loss, the mean squared distance of the sample to the
    image, is differentiated through the whole sampling, and no path is pinned.

    Args:
        predictor: its network is a `NullPath`. noise: where sampling begins, such as the inversion without guidance found.
        image: (B, …). grid, formula, gradient: as in `vsvf.sample`; options are passed on to it. steps, learning_rate: of Adam.

    Raises:
        TypeError: another network.
    """
    network = predictor.network
    if not isinstance(network, NullPath):
        raise TypeError(f"the predictor's network must be a NullPath, got {type(network).__name__}")

    def sampled() -> State:
        return vsvf.sample(predictor, noise, grid, formula, gradient=gradient, inputs=network.nulls, **options)

    def loss(found: State) -> torch.Tensor:
        return (found.x - image).square().mean()

    losses, best, state = _adam(network.nulls, sampled, loss, steps, learning_rate, lambda: None)
    with torch.no_grad():
        for null, value in zip(network.nulls, best):
            null.copy_(value)
    return Optimised(None, state, losses, best)


def _adam(
    tensors: list[torch.Tensor],
    sampled: Callable[[], State],
    loss: Callable[[State], torch.Tensor],
    steps: int,
    learning_rate: float,
    after: Callable[[], None],
) -> tuple[list[float], list[torch.Tensor], State]:
    """Adam: the losses, the tensors where it was least, and the state there."""
    optimiser = torch.optim.Adam(tensors, lr=learning_rate)
    losses: list[float] = []
    for step in range(steps + 1):
        state = sampled()
        value = loss(state)
        if not losses or float(value.detach()) < min(losses):
            best, found = [tensor.detach().clone() for tensor in tensors], state
        losses.append(float(value.detach()))
        if step < steps:
            for tensor, derivative in zip(tensors, torch.autograd.grad(value, tensors, allow_unused=True)):
                tensor.grad = derivative
            optimiser.step()
            with torch.no_grad():
                after()
    return losses, best, State(found.values.detach(), found.record, found.tape)
