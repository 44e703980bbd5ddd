"""The embedding of time in float64: diffusers forms it in float32 whatever the model's dtype is."""

from __future__ import annotations

import math

import torch
from diffusers.models.embeddings import Timesteps


class PreciseTimesteps(Timesteps):
    """sin(f t) and cos(f t) with the same frequencies f, the products and functions in float64.

    In float32 the product f t of a timestep near 1,000 is rounded by 3e-5, and the slopes of a float64 network with it: its
    marches then agree to 1e-5 at best, whatever the steps.
    """

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        """(B,) -> (B, num_channels), float64."""
        half = self.num_channels // 2
        exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=timesteps.device)
        frequency = torch.exp(exponent / (half - self.downscale_freq_shift)).double()  # rounded as diffusers rounds it
        angle = self.scale * (timesteps[:, None].double() * frequency)
        parts = (angle.cos(), angle.sin()) if self.flip_sin_to_cos else (angle.sin(), angle.cos())
        return torch.nn.functional.pad(torch.cat(parts, dim=-1), (0, self.num_channels % 2))


def embed_times_precisely(model: torch.nn.Module) -> None:
    """Give a float64 model embeddings of time in float64, in place; a model of another dtype stays as it is."""
    for name, part in list(model.named_modules()):
        if type(part) is Timesteps and next((p.dtype for p in model.parameters()), None) == torch.float64:
            parent, _, last = name.rpartition(".")
            setattr(
                model.get_submodule(parent),
                last,
                PreciseTimesteps(part.num_channels, part.flip_sin_to_cos, part.downscale_freq_shift, part.scale),
            )
