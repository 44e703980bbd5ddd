"""Classifier-free guidance around a conditional network."""

from __future__ import annotations

from collections.abc import Callable

import torch


class Guided:
    """Classifier-free guidance, p = p_null + w (p_condition - p_null), in one batched call (Ho & Salimans 2021).

    Args:
        network: callable (x, t, condition) -> prediction.
        condition: tensor with one row per sample (labels (B,), embeddings (B, L, D)), or a single row for all.
        null: the condition that stands for "none", of one row or B rows; may be None when scale == 1.
        scale: w, a float or (B,) floats. 1 means no guidance: one evaluation of the condition alone.

    A batch that is a whole multiple of the conditions (as when a path is evaluated at once) repeats these.
    """

    def __init__(
        self,
        network: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
        condition: torch.Tensor,
        null: torch.Tensor | None = None,
        scale: float | torch.Tensor = 1.0,
    ) -> None:
        self.network = network
        self.condition = condition
        self.null = null
        self.scale = scale
        if not isinstance(condition, torch.Tensor) or not isinstance(null, torch.Tensor | None):
            wrong = ("condition", condition) if not isinstance(condition, torch.Tensor) else ("null", null)
            raise TypeError(
                f"{wrong[0]} must be a tensor with one row per sample, or one row for all, got {type(wrong[1]).__name__}"
            )
        if isinstance(scale, bool) or not isinstance(scale, (int, float, torch.Tensor)):
            raise TypeError(f"scale must be a number, or a tensor of one per sample, got {type(scale).__name__}")
        self.plain = not isinstance(scale, torch.Tensor) and float(scale) == 1.0
        if null is None and not self.plain:
            raise ValueError("guidance with a scale other than 1 needs the null condition")

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        condition = _rows(self.condition, x, "condition")
        if self.plain:
            return self.network(x, t, condition)
        assert self.null is not None
        null = _rows(self.null, x, "null")
        both = self.network(torch.cat([x, x]), torch.cat([t, t]), torch.cat([null, condition]))
        unguided, guided = both.chunk(2)
        difference = guided - unguided
        if not isinstance(self.scale, torch.Tensor):
            return unguided + self.scale * difference
        # as a plain number's, the scale's own digits are kept where the network's are fewer
        wide = torch.promote_types(difference.dtype, torch.float32)
        scale = _rows(self.scale, x, "scale").to(wide).reshape(-1, *[1] * (x.ndim - 1))
        return unguided + (scale * difference.to(wide)).to(difference.dtype)


def _rows(values: torch.Tensor, x: torch.Tensor, name: str) -> torch.Tensor:
    """One row of `values` per sample of x."""
    values = values.to(x.device)
    if values.ndim == 0:
        values = values[None]
    count, batch = values.shape[0], x.shape[0]
    if count == batch:
        return values
    if batch % count:
        raise ValueError(f"{name} has {count} rows for a batch of {batch}")
    return values.repeat(batch // count, *[1] * (values.ndim - 1))
