"""A small classifier of handwritten digits: a judge of sampled and edited images.

It had no part in training the network that makes them.
"""

from __future__ import annotations

from importlib import resources
from itertools import pairwise

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn


class DigitsClassifier(nn.Module):
    """Four 3 x 3 convolutions with batch normalisation, two halvings of the size, one linear layer."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = (1, width, width, 2 * width, 2 * width)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths[1:])
        self.dropout = nn.Dropout(0.3)
        self.linear = nn.Linear(2 * width * 16, 10)

    def maps(self, x: Tensor) -> Tensor:
        """Images (B, 1, 28, 28) in [-1, 1] to what the linear layer reads, (B, 2 width, 4, 4)."""
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = F.gelu(norm(conv(x)))
            if i in (1, 3):
                x = F.avg_pool2d(x, 2)
        return F.adaptive_avg_pool2d(x, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 1, 28, 28) in [-1, 1] to logits (B, 10)."""
        return self.linear(self.dropout(self.maps(x).flatten(1)))


def load_digits_classifier() -> DigitsClassifier:
    """The trained classifier (float32, CPU, eval mode, no gradients to its weights)."""
    with torch.device("meta"):  # no weights drawn only to be replaced: the caller's random numbers stay as they are
        network = DigitsClassifier()
    weights = (resources.files("vsvf") / "assets" / "classifier.safetensors").read_bytes()
    network.load_state_dict(load(weights), assign=True)
    return network.eval().requires_grad_(False)
