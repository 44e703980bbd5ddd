"""The embedded predictor: a small class-conditional network of handwritten digits that comes with the package."""

from __future__ import annotations

import numpy as np
import torch

from vsvf.predictors.base import Predictor
from vsvf.predictors.digits_network import NULL_LABEL, load_digits_network
from vsvf.predictors.guidance import Guided
from vsvf.schedule import Schedule


def digits(
    label: int | torch.Tensor | None = None,
    guidance: float | torch.Tensor = 1.0,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Predictor:
    """The embedded network: MNIST digits, x of shape (B, 1, 28, 28), images in [-1, 1], DDPM-linear schedule.

    Args:
        label: the class asked for, 0 … 9: an int, or (B,) integers; None for no class.
        guidance: classifier-free guidance scale w in eps_null + w (eps_label - eps_null); a float or (B,).
        dtype: the network's own dtype (float64, float32, bfloat16, float16), whatever the solver's.
        device: where the network is put.

    Raises:
        ValueError: a label outside 0 … 9.
    """
    if label is None:
        labels = torch.tensor([NULL_LABEL])
    elif isinstance(label, (int, torch.Tensor, np.integer)) and not isinstance(label, bool):
        labels = torch.as_tensor(label).reshape(-1)
        if labels.is_floating_point() or labels.is_complex() or not bool(((labels >= 0) & (labels <= 9)).all()):
            raise ValueError(f"label must be digits from 0 to 9, got {label}")
        labels = labels.to(torch.int64)
    else:
        raise ValueError(f"label must be an integer or a tensor of integers from 0 to 9, got {label!r}")
    network = load_digits_network().to(device=device, dtype=dtype)
    null = torch.tensor([NULL_LABEL])
    scale = 1.0 if label is None else guidance
    return Predictor(Guided(network, labels, null, scale), Schedule.linear(), "epsilon", dtype=dtype)
