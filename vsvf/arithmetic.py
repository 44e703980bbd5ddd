"""The numbers a march computes with. A register holds the states and slopes of one run and forms the rows' sums.

A row is one matrix-vector product on a stacked buffer: K + 1 slots of states (one is free to be written) and as many slopes
as rows look back at, in rings. So a march of any length holds the same memory.
"""

from __future__ import annotations

import numpy as np
import torch

from vsvf.plan import Plan

FLOATS: dict[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


def name_of(dtype: torch.dtype) -> str:
    """ "float32" for torch.float32, and so on."""
    return str(dtype).removeprefix("torch.")


class FloatRegister:
    """States and slopes in a floating dtype.

    Args:
        rows: the plan in marching order and in the scale of the states.
        first: the first window's states (K, …): their shape and device are the register's.
        dtype: of the stored states and slopes. Sums of half-precision slots are formed in float32 and rounded once.
    """

    def __init__(self, rows: Plan, first: torch.Tensor, dtype: torch.dtype) -> None:
        steps = rows.steps
        self.shape = first.shape[1:]
        self.steps = steps
        columns = np.flatnonzero(np.any(rows.c[:, 1:] != 0.0, axis=0)) + 1
        self.slopes = int(columns.max() - columns.min() + 1) if len(columns) else 0
        slots = steps + 1 + self.slopes
        size = self.shape.numel()
        self.buffer = torch.zeros((slots, size), dtype=dtype, device=first.device)
        self.wide = dtype in (torch.float16, torch.bfloat16)
        # one vector of weights per row, each weight at the slot where its state or slope will stand
        weights = np.zeros((rows.rows, slots))
        row = np.arange(rows.rows)
        for j in range(1, steps + 1):
            weights[row, (row + steps - j) % (steps + 1)] = rows.a[:, j - 1]
        for j in columns.tolist():
            weights[row, steps + 1 + (row + steps - j) % self.slopes] = rows.c[:, j]
        self.weights = torch.as_tensor(weights, device=first.device).to(torch.float32 if self.wide else dtype)
        self.known = [-1] * max(self.slopes, 1)
        for s in range(steps):
            self.put(s, first[s])

    def put(self, s: int, value: torch.Tensor) -> None:
        """Store state s."""
        self.buffer[s % (self.steps + 1)].copy_(value.reshape(-1))

    def state(self, s: int) -> torch.Tensor:
        """State s, as a view of the register's memory, in the scale of the rows."""
        return self.buffer[s % (self.steps + 1)].view(self.shape)

    def has_slope(self, s: int) -> bool:
        """Whether the slope of state s is stored."""
        return self.slopes > 0 and self.known[s % self.slopes] == s

    def put_slope(self, s: int, value: torch.Tensor) -> None:
        """Store the slope of state s."""
        if self.slopes:
            slot = s % self.slopes
            self.buffer[self.steps + 1 + slot].copy_(value.reshape(-1))
            self.known[slot] = s

    def advance(self, m: int) -> None:
        """State K + m from row m, without the slope of the state itself."""
        out = self.buffer[(m + self.steps) % (self.steps + 1)]
        if self.wide:
            out.copy_(torch.mv(self.buffer.t().float(), self.weights[m]))
        else:
            torch.mv(self.buffer.t(), self.weights[m], out=out)

    def window(self, start: int) -> torch.Tensor:
        """States start … start + K - 1, (K, …), copied out."""
        return torch.stack([self.state(s) for s in range(start, start + self.steps)])
