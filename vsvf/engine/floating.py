"""The numbers a march computes with. A register holds the states and slopes of one run and forms the rows' sums.

The K states and as many slopes as rows look back at stand in rings, stacked in one buffer, so a row is one matrix-vector
product that overwrites the oldest state, and a march of any length holds the same memory. Large states are summed piece by
piece: what is copied in for a row, or summed in two goes, is then still in the processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np
import torch

from vsvf.plan import Plan

FLOATS: dict[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}

PIECE = 1 << 19
"""Bytes of one state that each thread of a CPU sums at a time; see docs/performance.md for how it was chosen."""


def name_of(dtype: torch.dtype) -> str:
    """ "float32" for torch.float32, and so on."""
    return str(dtype).removeprefix("torch.")


def all_finite(x: torch.Tensor) -> bool:
    """Whether every entry is finite. The sum is one fast pass, and is finite only if all entries are; it may overflow where
    they are, and only then each entry is looked at."""
    if not x.is_floating_point():
        return True
    x = x.detach()
    total = x.sum(dtype=torch.float32) if x.itemsize < 4 else x.sum()
    return math.isfinite(total) or bool(torch.isfinite(x).all())


class FloatRegister:
    """States and slopes in a floating dtype.

    A slope is kept as the tensor that the predictor returned until the row that it was taken for is summed, which saves a
    copy if no later row needs it. Reading a state copies it first: a predictor may write its next output to the same memory.
    Where copies of states are asked for, that of a large one is made piece by piece as well, while its row is summed.

    Args:
        rows: the plan in marching order and in the scale of the states.
        first: the first window's K states: their shape and device are the register's.
        dtype: of the stored states and slopes. Sums of half-precision slots are formed in float32 and rounded once.
    """

    def __init__(self, rows: Plan, first: torch.Tensor | Sequence[torch.Tensor], dtype: torch.dtype) -> None:
        device = first[0].device
        self.shape, self.steps, self.dtype = first[0].shape, rows.steps, dtype
        columns = np.flatnonzero(np.any(rows.c[:, 1:] != 0.0, axis=0)) + 1
        newest = 1 if not rows.explicit else columns.min(initial=1)
        self.slopes = int(columns.max() - newest + 1) if len(columns) else 0
        size, line = self.shape.numel(), 64 // dtype.itemsize
        with torch.inference_mode(False):  # so that every state has a version, which tells whether a predictor changed it
            memory = torch.empty((self.steps + self.slopes, -(-size // line) * line), dtype=dtype, device=device)
            self.buffer = memory[:, :size]  # every state begins a cache line: the bits of some networks depend on it
            self.buffer[self.steps :].zero_()  # slopes are summed, with weight 0, before they are there; the states are put below
        shaped = [slot.view(self.shape) for slot in self.buffer.unbind()]
        self.states, self.slope_slots = shaped[: self.steps], shaped[self.steps :]
        self.memory = range(memory.data_ptr(), memory.data_ptr() + memory.nbytes)
        self.known = [-1] * max(self.slopes, 1)
        self.fresh: torch.Tensor | None = None  # the slope that is not copied yet,
        self.fresh_slot = 0  # and its place in the ring
        self.wide = dtype in (torch.float16, torch.bfloat16)
        # the matrix: all slots, except that a single slope, read by one row only, is added by itself
        self.single = self.slopes == 1
        width = self.steps if self.single else self.steps + self.slopes
        share = PIECE * torch.get_num_threads() // dtype.itemsize
        self.piece = share if device.type == "cpu" else max(1, self.shape.numel())
        parts = [self.buffer[:, start : start + self.piece] for start in range(0, self.buffer.shape[1], self.piece)]
        self.pieces = [(part[:width].t(), [part[slot] for slot in range(part.shape[0])]) for part in parts]
        self.asked = np.zeros(rows.rows + rows.steps, dtype=bool)  # the states whose slopes some row reads
        for j in columns.tolist():
            self.asked[self.steps - j : self.steps - j + rows.rows] |= rows.c[:, j] != 0.0
        self.copying = False  # whether copies are asked for,
        self.copy: torch.Tensor | None = None  # the one that is made already,
        self.copy_of = -1  # and of which state
        # one vector of weights per row, each weight at the slot where its state or slope will stand; the oldest state's is
        # apart, since its slot is overwritten: new = carry * oldest + matrix @ weights + single_weight * single slope
        weights = np.zeros((rows.rows, width))
        row = np.arange(rows.rows)
        for j in range(1, self.steps + (1 if self.wide else 0)):
            weights[row, (row - j) % self.steps] = rows.a[:, j - 1]
        if not self.single:
            for j in columns.tolist():
                weights[row, self.steps + (row + self.steps - j) % self.slopes] = rows.c[:, j]
        self.weights = torch.as_tensor(weights, device=device).to(torch.float32 if self.wide else dtype).unbind()
        self.carry = rows.a[:, -1].tolist()
        self.single_weight = rows.c[:, columns[0]].tolist() if self.single else [0.0] * rows.rows
        for s in range(self.steps):
            self.put(s, first[s])

    def put(self, s: int, value: torch.Tensor) -> None:
        """Store state s."""
        self.states[s % self.steps].copy_(value.detach())
        if s == self.copy_of:
            self.copy, self.copy_of = None, -1

    def state(self, s: int) -> torch.Tensor:
        """State s, as a view of the register's memory, in the scale of the rows."""
        self._store_fresh()
        return self.states[s % self.steps]

    def copied(self, s: int) -> torch.Tensor:
        """State s likewise, in memory of its own."""
        self._store_fresh()
        self.copying = len(self.pieces) > 1
        copy = self.copy if s == self.copy_of else None
        self.copy, self.copy_of = None, -1
        return self.states[s % self.steps].clone() if copy is None else copy

    def has_slope(self, s: int) -> bool:
        """Whether the slope of state s is stored."""
        return self.slopes > 0 and self.known[s % self.slopes] == s

    def put_slope(self, s: int, value: torch.Tensor) -> None:
        """Store the slope of state s."""
        if not self.slopes:
            return
        self._store_fresh()
        self.fresh_slot = s % self.slopes
        self.fresh = (value.detach() if value.requires_grad else value).contiguous()  # other strides have other bits
        self.known[self.fresh_slot] = s
        if self.fresh.data_ptr() in self.memory:
            self._store_fresh()  # the predictor returned (a view of) its input

    def known_slopes(self) -> dict[int, torch.Tensor]:
        """The slopes that are stored, by state."""
        self._store_fresh()
        known = [(s, slot) for slot, s in enumerate(self.known) if s >= 0]
        return {s: self.slope_slots[slot].clone() for s, slot in sorted(known)}

    def _store_fresh(self) -> None:
        """Copy the newest slope into the buffer, if that is still to be done."""
        if self.fresh is not None:
            self.slope_slots[self.fresh_slot].copy_(self.fresh)
            self.fresh = None

    def advance(self, m: int) -> None:
        """State K + m from row m, without the slope of the state itself. Overwrites state m."""
        out, slot = m % self.steps, self.fresh_slot
        weights, carry, alpha = self.weights[m], self.carry[m], self.single_weight[m]
        slope = self.fresh
        if self.single:
            slope = None if alpha == 0.0 else self.slope_slots[slot] if slope is None else slope
        if len(self.pieces) == 1 and not self.wide:
            matrix, slots = self.pieces[0]
            if slope is not None and not self.single:
                self.slope_slots[slot].copy_(slope)
            slots[out].addmv_(matrix, weights, beta=carry)
            if slope is not None:
                if self.single:
                    self.states[out].add_(slope if slope.dtype is self.dtype else slope.to(self.dtype), alpha=alpha)
                self._used_up()
            return
        flat = None if slope is None else slope.reshape(-1)
        parts = repeat(None) if flat is None else (flat,) if len(self.pieces) == 1 else flat.split(self.piece)
        copies: Iterable[torch.Tensor | None] = repeat(None)
        if self.copying and self.asked[self.steps + m]:
            self.copy, self.copy_of = torch.empty_like(self.states[out]), self.steps + m
            copies = self.copy.view(-1).split(self.piece)
        for (matrix, slots), part, copy in zip(self.pieces, parts, copies):
            if part is not None and not self.single:
                slots[self.steps + slot].copy_(part)
            total = torch.mv(matrix.float(), weights) if self.wide else slots[out].addmv_(matrix, weights, beta=carry)
            if part is not None and self.single:
                total.add_(part if part.dtype is self.dtype else part.to(self.dtype), alpha=alpha)
            if self.wide:
                slots[out].copy_(total)
            if copy is not None:
                copy.copy_(slots[out])
        if slope is not None:
            self._used_up()

    def _used_up(self) -> None:
        """The newest slope is in the buffer, or summed where no other row needs it."""
        self.fresh = None
        if self.single:
            self.known[0] = -1

    def window(self, start: int) -> torch.Tensor:
        """States start … start + K - 1, (K, …), copied out."""
        return torch.stack([self.state(s) for s in range(start, start + self.steps)])
