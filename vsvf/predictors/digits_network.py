"""The embedded network: a small class-conditional U-Net that predicts the noise in handwritten digits.

It was trained on MNIST. Its times are those of the DDPM linear schedule (1000 betas from 1e-4 to 0.02), read
continuously; its images are x = alpha x_0 + sigma eps with x_0 in [-1, 1]. Everything in it is smooth in x
and t, so that the orders of ODE solvers show.
"""

from __future__ import annotations

import math
from importlib import resources

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

NULL_LABEL = 10  # the class "no label", for classifier-free guidance
BETA_FIRST, BETA_LAST, STEPS = 1e-4, 0.02, 1000


def alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
    """alpha(t), sigma(t) of the DDPM linear schedule as analytic functions of the timestep t in [0, 999].

    log alpha^2 = sum_{i <= t} log(1 - beta_i), with the sum replaced by an integral from -1/2 to t + 1/2 and
    the logarithm by its series to third order; within 1e-5 (relative) of the exact table at whole t.
    """
    slope = (BETA_LAST - BETA_FIRST) / (STEPS - 1)

    def antiderivative(beta: Tensor | float) -> Tensor | float:
        return beta**2 / 2 + beta**3 / 6 + beta**4 / 12

    upper = antiderivative(BETA_FIRST + slope * (t + 0.5))
    total = (upper - antiderivative(BETA_FIRST - slope * 0.5)) / slope
    total = torch.as_tensor(total)
    return torch.exp(-total / 2), torch.sqrt(-torch.expm1(-total))


def time_features(t: Tensor) -> Tensor:
    """(B,) timesteps to (B, 15) features: sines and cosines of t (0.05 rad per step at most) and log-SNR."""
    alpha, sigma = alpha_sigma(t)
    lam = torch.log(sigma / alpha)
    rates = math.pi / STEPS * 2.0 ** torch.arange(-1, 5, device=t.device, dtype=t.dtype)
    phase = torch.cat([t[:, None] * rates, lam[:, None] / 2], dim=1)
    return torch.cat([phase.sin(), phase.cos(), lam[:, None] / 4], dim=1)


class ResidualBlock(nn.Module):
    """h + conv(act(film(norm(conv(act(norm h)))))), the conditioning vector giving FiLM's scale and shift."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.film = nn.Linear(condition, 2 * outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        r = self.conv1(F.silu(self.norm1(h)))
        r = self.conv2(F.silu(torch.addcmul(shift, self.norm2(r), 1 + scale)))
        return self.skip(h) + r


class Attention(nn.Module):
    """tokens + out(softmax(q k^T / sqrt(d)) v): self-attention, or attention to ``context`` tokens.

    The attention maps (B, heads, queries, keys) pass through the submodule ``maps``, an identity: a forward
    hook there reads them, or replaces them by what it returns.
    """

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(context, 2 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.maps = nn.Identity()
        nn.init.zeros_(self.out.weight)

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        normed = self.norm(tokens)
        key, value = self.key_value(normed if context is None else context).chunk(2, dim=-1)
        query, key, value = self._split(self.query(normed)), self._split(key), self._split(value)
        maps = self.maps(torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]), dim=-1))
        return tokens + self.out((maps @ value).transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """Self-attention among the pixels, then attention from the pixels to the label's tokens."""

    def __init__(self, width: int, context: int, heads: int = 4) -> None:
        super().__init__()
        self.self_attention = Attention(width, width, heads)
        self.cross_attention = Attention(width, context, heads)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        tokens = self.cross_attention(self.self_attention(h.flatten(2).transpose(1, 2)), context)
        return tokens.transpose(1, 2).unflatten(2, h.shape[2:])


class DigitsUNet(nn.Module):
    """eps(x, t, label) for digits of 28 x 28 pixels.

    Pixels are folded to 4 channels at 14 x 14 (``wide`` channels inside), with a middle at 7 x 7 (``deep``).
    The last layer gives v = alpha eps - sigma x_0, from which eps = alpha v + sigma x.
    """

    def __init__(self, wide: int = 48, deep: int = 96, condition: int = 128, tokens: int = 4) -> None:
        super().__init__()
        token_width = 48
        self.tokens = tokens
        self.time = nn.Sequential(nn.Linear(15, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.label = nn.Embedding(NULL_LABEL + 1, condition)
        self.label_tokens = nn.Embedding(NULL_LABEL + 1, tokens * token_width)
        self.stem = nn.Conv2d(8, wide, 3, padding=1)
        self.down1 = ResidualBlock(wide, wide, condition)
        self.down2 = ResidualBlock(wide, wide, condition)
        self.shrink = nn.Conv2d(wide, deep, 3, stride=2, padding=1)
        self.middle1 = ResidualBlock(deep, deep, condition)
        self.transformer1 = Transformer(deep, token_width)
        self.middle2 = ResidualBlock(deep, deep, condition)
        self.transformer2 = Transformer(deep, token_width)
        self.grow = nn.Conv2d(deep, 4 * wide, 1)
        self.up1 = ResidualBlock(2 * wide, wide, condition)
        self.up2 = ResidualBlock(2 * wide, wide, condition)
        self.norm = nn.GroupNorm(8, wide)
        self.head = nn.Conv2d(wide, 4, 3, padding=1)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """The predicted noise, (B, 1, 28, 28), in the dtype of ``x``.

        x: (B, 1, 28, 28), alpha x_0 + sigma eps.  t: (B,), timesteps in [0, 999], fractions allowed.
        label: (B,) int64, 0 to 9, or 10 for no label.
        Time and scale are computed in float32 at least, the layers in the dtype of the weights.
        """
        weights = self.stem.weight.dtype
        exact = torch.float64 if torch.float64 in (weights, x.dtype) else torch.float32
        z, time = x.to(exact), t.to(exact)
        alpha, sigma = (s[:, None, None, None] for s in alpha_sigma(time))
        # What eps would be were the pixel background (x_0 = -1), gain capped at 20 and squashed to (-3, 3).
        guess = (z + alpha) / torch.sqrt(sigma**2 + 0.05**2)
        guess = guess / torch.sqrt(1 + (guess / 3) ** 2)
        inputs = F.pixel_unshuffle(torch.cat([z, guess], dim=1), 2).to(weights)

        condition = F.silu(self.time(time_features(time).to(weights)) + self.label(label))
        context = self.label_tokens(label).unflatten(1, (self.tokens, -1))
        h0 = self.stem(inputs)
        h1 = self.down1(h0, condition)
        h2 = self.down2(h1, condition)
        h = self.transformer1(self.middle1(self.shrink(h2), condition), context)
        h = self.transformer2(self.middle2(h, condition), context)
        h = F.pixel_shuffle(self.grow(h), 2)
        h = self.up1(torch.cat([h, h2], dim=1), condition)
        h = self.up2(torch.cat([h, h1], dim=1), condition)
        v = F.pixel_shuffle(self.head(F.silu(self.norm(h))), 2).to(exact)
        return (alpha * v + sigma * z).to(x.dtype)


def load_digits_network() -> DigitsUNet:
    """The trained network (float32, CPU, eval mode, no gradients to its weights)."""
    with torch.device("meta"):  # no weights drawn only to be replaced: the caller's random numbers stay as they are
        network = DigitsUNet()
    weights = (resources.files("vsvf") / "assets" / "digits.safetensors").read_bytes()
    network.load_state_dict(load(weights), assign=True)
    return network.eval().requires_grad_(False)
