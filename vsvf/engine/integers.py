"""The states of a fixed-point run, and its rows, which undo each other to the last bit.

The integers are held in float64, which represents every integer up to 2^53. A row adds an integer t = rint(…) to the oldest
state z. The exact sum z + t is an integer; float64 rounds it monotonically, and rounds nothing below 2^53; so

    |fl(z + t)| < 2^53   implies   fl(z + t) = z + t,

whatever t was. One look at the result after each addition thus finds every overflow, and a result that passes is undone
exactly by z = fl(z_new - t), since z passed before. Zeros are always +0: no sum or difference here makes a -0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vsvf.engine.watch import Watch
from vsvf.errors import FixedPointOverflowError
from vsvf.fixed import CELL, WORD, BitPlan, unit
from vsvf.plan import Plan

BLOCK = 1 << 17  # entries that a thread of a CPU works on at a time: few calls, and intermediate results stay in its cache


@dataclass(frozen=True)
class Block:
    """Views of one stretch of all entries: integers by slot, slopes by slot, and two buffers."""

    part: slice
    z: list[torch.Tensor]
    slopes: list[torch.Tensor]
    total: torch.Tensor
    term: torch.Tensor


@dataclass(frozen=True)
class RowSum:
    """A row of the plan, ready to be summed: slopes by state and integers by slot, each with its weight (a scalar tensor)."""

    slopes: list[tuple[int, torch.Tensor]]
    states: list[tuple[int, torch.Tensor]]
    shift: int


class FixedRegister:
    """Integer states of one run; the same interface as `FloatRegister`.

    A row overwrites its oldest state. Every multiplication, addition and rounding is an operation of its own, correctly rounded
    by IEEE 754, in an order that the plan fixes: nothing fuses or reorders what decides a bit, on any device.

    Args:
        rows: the whole plan, in sampling order, in the scale x = alpha x_bar.
        bits: its bit plan.
        start, stop: the rows marched are start … stop - 1, whichever the direction.
        first: the first window in marching order, (K, …): x 2^e as int64, or x in float64, which is rounded.
        sampling: the direction of the march.
        watch: is shown every new state.
        tape: cells left by an earlier march, by row of the plan.
    """

    def __init__(
        self,
        rows: Plan,
        bits: BitPlan,
        start: int,
        stop: int,
        first: torch.Tensor | Sequence[torch.Tensor],
        sampling: bool,
        watch: Watch,
        tape: dict[int, torch.Tensor] | None = None,
    ) -> None:
        self.rows, self.bits, self.sampling, self.watch = rows, bits, sampling, watch
        self.start, self.stop = start, stop
        self.shape, self.steps = first[0].shape, rows.steps
        self.tape = dict(tape or {})
        columns = np.flatnonzero(np.any(rows.c[:, : self.steps] != 0.0, axis=0))
        self.nearest, self.farthest = (int(columns.min()), int(columns.max())) if len(columns) else (0, 0)
        size, device = self.shape.numel(), first[0].device
        line = -(-size // 8) * 8  # whole cache lines for each
        with torch.inference_mode(False):  # so that every state has a version, which tells whether a predictor changed it
            self.buffer = torch.zeros((self.steps + self.farthest, line), dtype=torch.float64, device=device)[:, :size]
            self.shown, self.shown_index = torch.empty(size, dtype=torch.float64, device=device), -1
        self.integers, self.slopes = self.buffer[: self.steps], self.buffer[self.steps :]
        self.known: set[int] = set()  # the states whose slopes are stored,
        self.fresh: torch.Tensor | None = None  # and the newest one, while it is the predictor's own tensor,
        self.fresh_index = -1  # with its state
        self.units = [sign * unit(e) for sign, e in zip(bits.signs.tolist(), bits.exponents.tolist())]  # 1 / S
        self.blocks = self._cut(size, device)
        self.sums = [self._row(row) for row in range(start, stop)]
        for s in range(self.steps):
            self.put(s, first[s])

    def _cut(self, size: int, device: torch.device) -> list[Block]:
        length = size if device.type != "cpu" else min(size, BLOCK * torch.get_num_threads())
        total, term = (torch.empty(length, dtype=torch.float64, device=device) for _ in range(2))
        parts = [slice(begin, min(begin + length, size)) for begin in range(0, size, length)]
        return [
            Block(part, list(self.integers[:, part]), list(self.slopes[:, part]), total[:count], term[:count])
            for part, count in ((part, part.stop - part.start) for part in parts)
        ]

    def _row(self, row: int) -> RowSum:
        new = row + self.steps
        scale = 1.0 / self.units[new]
        a, c = self.rows.a[row].tolist(), self.rows.c[row].tolist()

        def weight(value: float) -> torch.Tensor:
            return torch.tensor(value, dtype=torch.float64)

        used = range(1, self.steps)
        return RowSum(
            [(new - j, weight(c[j] * scale)) for j in used if c[j] != 0.0],
            [((new - j) % self.steps, weight(a[j - 1] * scale * self.units[new - j])) for j in used if a[j - 1] != 0.0],
            int(self.bits.shifts[row]),
        )

    def _index(self, s: int) -> int:
        """The state's number in the plan."""
        return self.start + s if self.sampling else self.stop + self.steps - 1 - s

    # ---- states ----------------------------------------------------------------------------------------------

    def put(self, s: int, value: torch.Tensor) -> None:
        """Store state s: x 2^e as it is, or x in float64, rounded to the nearest integer of the state's scale."""
        index = self._index(s)
        if value.dtype != torch.int64:
            value = encoded(value, float(self.bits.exponents[index]), f"{self.rows.name}: state {s} of the march")
        if not inside(value):
            raise self._overflow(s)
        torch.mul(value.reshape(-1), int(self.bits.signs[index]), out=self.integers[index % self.steps])
        self.shown_index = -1

    def state(self, s: int) -> torch.Tensor:
        """State s as float64, in the scale x = alpha x_bar."""
        index = self._index(s)
        if index != self.shown_index:
            self._keep_fresh()
            torch.mul(self.integers[index % self.steps], self.units[index], out=self.shown)
            self.shown_index = index
        return self.shown.view(self.shape)

    def copied(self, s: int) -> torch.Tensor:
        """State s likewise, in memory of its own."""
        return self.state(s).clone()

    def window(self, start: int) -> torch.Tensor:
        """x 2^e of states start … start + K - 1 of the march as int64, (K, …), copied out."""
        indices = [self._index(s) for s in range(start, start + self.steps)]
        states = [self.integers[n % self.steps].to(torch.int64) * int(self.bits.signs[n]) for n in indices]
        return torch.stack(states).view(self.steps, *self.shape)

    # ---- slopes ----------------------------------------------------------------------------------------------

    def has_slope(self, s: int) -> bool:
        """Whether the slope of state s is stored."""
        return self._index(s) in self.known

    def put_slope(self, s: int, value: torch.Tensor) -> None:
        """Store the slope of state s. It is copied (as float64) only if it must outlive the next row."""
        self._keep_fresh()
        self.fresh, self.fresh_index = value.detach().reshape(-1), self._index(s)
        self.known.add(self.fresh_index)

    def known_slopes(self) -> dict[int, torch.Tensor]:
        """The slopes that are stored, by state."""
        self._keep_fresh()
        known = sorted((self._index(index), index) for index in self.known)  # the numbering is its own inverse
        return {s: self.slopes[index % self.farthest].view(self.shape).clone() for s, index in known}

    def _keep_fresh(self) -> None:
        """Copy the newest slope, before the predictor can write to its memory again."""
        if self.fresh is not None:
            self.slopes[self.fresh_index % self.farthest].copy_(self.fresh)
            self.fresh = None

    def _outlives(self, index: int, new: int) -> bool:
        """Whether a row after the one between `new` and `new` - K may read the slope of state `index`."""
        return index >= new + 1 - self.farthest if self.sampling else index <= new - 1 - self.nearest

    # ---- rows ------------------------------------------------------------------------------------------------

    def advance(self, m: int) -> None:
        """The next state from row m of the march, exactly undoable."""
        row = self.start + m if self.sampling else self.stop - 1 - m
        new = row + self.steps
        if self.fresh is not None and self._outlives(self.fresh_index, new):
            self._keep_fresh()
        row_sum = self.sums[row - self.start]
        slot = row % self.steps  # the oldest state and the new one share it
        cell = self._cell(row, row_sum.shift)
        add = torch.Tensor.add_ if self.sampling else torch.Tensor.sub_
        for block in self.blocks:
            z = block.z[slot]
            if cell is not None and self.sampling:
                self._shift(z, row_sum.shift, cell[block.part], block, m)
            add(z, self._sum(block, row_sum))
            self._look(z, m)
            if cell is not None and not self.sampling:
                self._shift(z, -row_sum.shift, cell[block.part], block, m)
        if cell is not None and (row_sum.shift > 0) == self.sampling:
            self.tape[row] = cell.view(self.shape)
        else:
            self.tape.pop(row, None)
        self.known = {index for index in self.known if self._outlives(index, new)}
        if self.fresh_index not in self.known:
            self.fresh = None

    def _sum(self, block: Block, row_sum: RowSum) -> torch.Tensor:
        """rint(sum of weight * value), the slopes first, in the block's buffer."""
        total = target = block.total
        for index, weight in row_sum.slopes:
            if self.fresh is not None and index == self.fresh_index:
                target.copy_(self.fresh[block.part]).mul_(weight)
            else:
                torch.mul(block.slopes[index % self.farthest], weight, out=target)
            if target is block.term:
                total.add_(target)
            target = block.term
        for slot, weight in row_sum.states:
            torch.mul(block.z[slot], weight, out=target)
            if target is block.term:
                total.add_(target)
            target = block.term
        return total.zero_() if target is total else total.round_()

    def _shift(self, z: torch.Tensor, bits: int, cell: torch.Tensor, block: Block, m: int) -> None:
        """Set the lowest bits of z aside into the cell, or take -bits back from it."""
        size = 2.0 ** abs(bits)
        if bits > 0:
            torch.floor(torch.mul(z, 1.0 / size, out=block.total), out=block.total)
            cell.copy_(torch.sub(z, torch.mul(block.total, size, out=block.term), out=block.term))
            z.copy_(block.total)
        else:
            z.mul_(size).add_(cell)
            self._look(z, m)

    def _look(self, z: torch.Tensor, m: int) -> None:
        self.watch.inside(z, lambda: self._overflow(m + self.steps))

    def _cell(self, row: int, shift: int) -> torch.Tensor | None:
        """The tape's cell of this row: to be filled when bits are set aside, read (zeros if never filled) when taken back."""
        if shift == 0:
            return None
        if (shift < 0) == self.sampling and row in self.tape:
            return self.tape[row].reshape(-1)
        dtype = torch.int16 if abs(shift) <= CELL else torch.int32
        return torch.zeros(self.shape.numel(), dtype=dtype, device=self.buffer.device)

    def _overflow(self, s: int) -> FixedPointOverflowError:
        index = self._index(s)
        exponent = float(self.bits.exponents[index])
        return FixedPointOverflowError(
            f"{self.rows.name}: state {s} of the march (sigma_bar = {self.rows.node[index]:.6g}) leaves the range of fixed-point "
            f"numbers, |x| < {2.0 ** (WORD - exponent):.3g} with {exponent:.1f} fractional bits; take fewer fraction_bits, a "
            "larger data_range, or a formula that is stable on this grid"
        )


def encoded(x: torch.Tensor, exponent: float, what: str = "the values") -> torch.Tensor:
    """round(x 2^exponent) as int64, of the shape of x. What was `decoded` comes back as integers that decode to the same reals.

    Raises:
        FixedPointOverflowError: a number of 2^53 or more, `what` in the message.
    """
    reals, scale = x.detach().double(), 2.0**exponent
    scaled = torch.round(reals * scale)
    if not inside(scaled):
        raise FixedPointOverflowError(
            f"{what}: |x| up to {float(reals.abs().max()):.3g} leaves the range of fixed-point numbers, "
            f"|x| < {2.0 ** (WORD - exponent):.3g} with {exponent:.1f} fractional bits"
        )
    z = scaled.to(torch.int64)
    for _ in range(2):  # the scale and its inverse are rounded, and so are the products: add what they miss
        z += torch.round((reals - decoded(z, exponent)) * scale).to(torch.int64)
    return z


def decoded(z: torch.Tensor, exponent: float) -> torch.Tensor:
    """z 2^-exponent in float64: what the predictor sees of an integer state."""
    return z.double() * unit(exponent)


def inside(values: torch.Tensor) -> bool:
    """Whether all |values| < 2^53; not for NaN. (It waits for the device: for states that come from outside.)"""
    low, high = torch.aminmax(values)
    limit = float(1 << WORD)
    return float(low) > -limit and float(high) < limit
