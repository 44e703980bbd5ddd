"""Fixed-point arithmetic: inversion that returns every bit, for every bidirectionally explicit plan.

Each state is kept as integers z_s = round(x_s 2^{e_s}), int64, with scales chosen so that a row's oldest state enters with weight
exactly one, e_{K+m} = e_m - log2 |a_{m,K}|. A row is then

    z_{K+m} = sgn(a_{m,K}) z_m + round( 2^{e_{K+m}} ( sum_{j<K} a_{m,j} x_{K+m-j} + sum_j c_{m,j} eps_{K+m-j} ) ),   x = z 2^{-e},

and inversion subtracts the very same rounded number: a bijection of integers, whatever the predictor returns, as long as the same
input gives the same bits. (After Levesque & Verlet 1993 and Rein & Tamayo's JANUS, 2018.)

A method whose a_K multiply up to less than one forgets: the product of the growth factors of its modes is the product of the |a_K|
(the volume law), so exactness needs bits that grow with -log2 |a_K|. Where these outgrow an integer, the lowest bits of a state are
set aside on a tape, one cell for each such row, and taken back on the return. The latent is then the integers and the tape.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vsvf.errors import FixedPointOverflowError
from vsvf.plan import Plan

if TYPE_CHECKING:
    from vsvf.formula import Formula
    from vsvf.grid import Grid
    from vsvf.predictors.base import Predictor
    from vsvf.schedule import Schedule

Array = np.ndarray

WORD = 62  # bits of |z|: sums of two such integers cannot wrap around in int64
CELL = 15  # bits set aside at a time, an int16 per entry
BLOCK = 1 << 14  # entries worked on at a time by a thread of a CPU, so that the intermediate results stay in its cache
SAFE = 2.0 ** (2 * WORD - 1)  # a sum of squares below it, however it was rounded, proves that no number reaches 2^WORD


@dataclass(frozen=True)
class Fixed:
    """Configuration of `arithmetic=Fixed(…)`; "fixed" stands for `Fixed()`.

    Attributes:
        fraction_bits: bits behind the point that every state has at least, e_s >= fraction_bits. Default: as many as the word
            holds without a tape, from 32 to 40.
        data_range: largest |x_0| expected. States are expected within 8 alpha sqrt(data_range^2 + sigma_bar^2); what they need
            beyond the word is an overflow error.
    """

    fraction_bits: int | None = None
    data_range: float = 1.0

    def __post_init__(self) -> None:
        if self.fraction_bits is not None and not 1 <= self.fraction_bits < WORD:
            raise ValueError(f"fraction_bits must be from 1 to {WORD - 1}, got {self.fraction_bits}")
        if not 0.0 < self.data_range < math.inf:
            raise ValueError(f"data_range must be positive and finite, got {self.data_range}")


@dataclass(frozen=True)
class BitPlan:
    """The scales of a run, decided before it.

    Attributes:
        name: the formula's.
        fraction_bits: the least number of fractional bits that was asked for or found; every state has at least as many.
        exponents: (M+K,) e_s, the fractional bits of each state (real numbers).
        shifts: (M,) bits that row m sets aside from its oldest state (positive), or takes back (negative).
        bits: (M+K,) bits that each state is expected to need, at most 62.
        tape_bits: bits per entry that lie on the tape at the data end, if there are none at the noise end.
        key: SHA-256 of the rows in the scale of the states, the exponents and the shifts: what a state's integers mean.
    """

    name: str
    fraction_bits: int
    exponents: Array
    shifts: Array
    bits: Array
    tape_bits: int
    key: str

    @property
    def needed(self) -> int:
        """Bits of the largest state expected, sign not counted, of the 62 that there are."""
        return math.ceil(float(self.bits.max()))

    @property
    def spare(self) -> int:
        """Bits that no state is expected to use: states may be 2^spare times larger than planned."""
        return WORD - self.needed

    @property
    def tape_cells(self) -> int:
        """The most cells that lie on the tape at once, 2 bytes per entry of a state each (rows that set aside twice as much: 4)."""
        held = np.cumsum(self.shifts) // CELL
        return int(max(held.max(initial=0), -held.min(initial=0)))

    @property
    def sentence(self) -> str:
        """In words."""
        return (
            f"{self.name} needs {self.needed} of {WORD} bits and keeps {self.fraction_bits} bits behind the point "
            f"(steps of {2.0**-self.fraction_bits:.1e}); "
            + (
                f"it forgets more than a word holds, and a tape of up to {self.tape_cells} cells of {CELL} bits per entry keeps it"
                if self.tape_cells
                else "no tape is needed"
            )
        )


def bits(
    formula: Formula | str, grid: Grid, predictor: Predictor | Schedule | None = None, fixed: Fixed | None = None
) -> BitPlan:
    """Plan a bit-exact run before it: bits needed, fractional bits kept, tape. `sample` and `invert` decide by the same plan.

    Args:
        formula: a formula or its name.
        grid: the nodes.
        predictor: the predictor, or its schedule: it gives the scale x = alpha x_bar of the states. Default: alpha = 1.
        fixed: the configuration, default `Fixed()`.

    Raises:
        ValueError: a formula that cannot be bit-exact, with the reason, or too few bits for the fraction asked for.
    """
    from vsvf import formulas
    from vsvf.schedule import Schedule

    plan = (formulas.by_name(formula) if isinstance(formula, str) else formula).plan(grid)
    if predictor is None:
        alpha = np.ones_like(plan.node)
    else:
        alpha = (predictor.alpha_at if isinstance(predictor, Schedule) else predictor.alpha)(plan.node)
    return plan_bits(plan.rescaled(alpha), alpha, Fixed() if fixed is None else fixed)


def plan_bits(rows: Plan, alpha: Array, fixed: Fixed) -> BitPlan:
    """Choose the scales of all states of a plan.

    Args:
        rows: in sampling order, in the scale x = alpha x_bar. alpha: (M+K,) at the states.
        fixed: the configuration.

    Raises:
        ValueError: the plan is not bidirectionally explicit, or the word is too short for the fraction asked for.
    """
    if not rows.bidirectionally_explicit:
        why = "implicit" if not rows.explicit else "not backward explicit: its inverse needs an iteration"
        raise ValueError(f"{rows.name} cannot be bit-exact, it is {why}; use a BELM, BDIA, EDICT or McCallum-Foster formula")
    size = 8.0 * alpha * np.sqrt(fixed.data_range**2 + rows.node**2)
    whole = np.log2(np.maximum(size, 1.0))
    worst = int(np.argmax(whole))
    steps = rows.steps
    gain = -np.log2(np.abs(rows.a[:, -1]))
    # exponents relative to the first window's, along each chain z_s, z_{s+K}, z_{s+2K}, … of oldest and new states
    growth = np.zeros(rows.rows + steps)
    for m in range(rows.rows):
        growth[m + steps] = growth[m] + gain[m]
    lowest = np.array([growth[chain::steps].min() for chain in range(steps)])
    room = WORD - CELL - float(whole[worst])
    if fixed.fraction_bits is None:
        above = growth - lowest[np.arange(len(growth)) % steps] + whole
        fraction = int(min(max(WORD - float(above.max()), 32.0), 40.0, max(room, 1.0)))
    else:
        fraction = fixed.fraction_bits
    if fraction > room or room < 1.0:
        raise ValueError(
            f"fraction_bits={fraction} does not fit: states near sigma_bar = {rows.node[worst]:.4g} reach {size[worst]:.3g}, which "
            f"takes {whole[worst]:.1f} of {WORD - CELL} bits; take at most {int(room)}"
        )
    exponents = np.empty(rows.rows + steps)
    shifts = np.zeros(rows.rows, dtype=np.int64)
    # a chain that will lose bits starts with as many more
    exponents[:steps] = fraction + np.minimum(-lowest, room - fraction)
    for m in range(rows.rows):
        exponent = exponents[m] + gain[m]
        while exponent + whole[m + steps] > WORD:
            exponent, shifts[m] = exponent - CELL, shifts[m] + CELL
        while exponent < fraction - 1e-9:
            exponent, shifts[m] = exponent + CELL, shifts[m] - CELL
        if abs(shifts[m]) > 2 * CELL:
            raise ValueError(
                f"{rows.name}: row {m} changes the scale by 2^{gain[m]:.0f} at once, more than fixed-point arithmetic can follow"
            )
        exponents[m + steps] = exponent
    key = hashlib.sha256(rows.fingerprint.encode() + exponents.tobytes() + shifts.tobytes()).hexdigest()
    return BitPlan(rows.name, fraction, exponents, shifts, exponents + whole, int(shifts.sum()), key)


def encoded(x: torch.Tensor, exponent: float, what: str = "the values") -> torch.Tensor:
    """round(x 2^exponent) as int64, of the shape of x. What was `decoded` comes back as integers that decode to the same reals.

    Raises:
        FixedPointOverflowError: a number of 2^62 or more, `what` in the message.
    """
    reals, scale = x.detach().double(), 2.0**exponent
    scaled = torch.round(reals * scale)
    if not _inside(scaled):
        raise FixedPointOverflowError(
            f"{what}: |x| up to {float(reals.abs().max()):.3g} leaves the range of fixed-point numbers, "
            f"|x| < {2.0 ** (WORD - exponent):.3g} with {exponent:.1f} fractional bits"
        )
    z = scaled.to(torch.int64)
    for _ in range(2):  # beyond 2^53 the product above is itself rounded: add what it misses
        z += torch.round((reals - decoded(z, exponent)) * scale).to(torch.int64)
    return z


def decoded(z: torch.Tensor, exponent: float) -> torch.Tensor:
    """z 2^-exponent in float64: what the predictor sees of an integer state."""
    return z.double() * 2.0**-exponent


def quantised(x: torch.Tensor, exponent: float) -> torch.Tensor:
    """x rounded to a multiple of 2^-exponent, as the register decodes it (float64)."""
    return decoded(encoded(x, exponent), exponent)


class Numpy:
    """Elementwise operations on numpy arrays, which on one thread take less time than torch's."""

    mul, add, sub, rint = np.multiply, np.add, np.subtract, np.rint

    @staticmethod
    def convert(target: Any, source: Any) -> None:
        """Copy, in the target's dtype."""
        np.copyto(target, source, casting="unsafe")


class Torch:
    """The same on tensors, on any device and any number of threads."""

    mul, add, sub, rint = torch.mul, torch.add, torch.sub, torch.round

    @staticmethod
    def convert(target: Any, source: Any) -> None:
        """Copy, in the target's dtype."""
        target.copy_(source)


@dataclass(frozen=True)
class Block:
    """Views of one stretch of all entries, for the library that works on it; what ends in _t as tensors.

    Attributes:
        part: where the stretch lies.
        z, x, slopes: integers, reals and slopes, by slot. total, term, whole: buffers.
    """

    part: slice
    z: list[Any]
    x: list[Any]
    slopes: list[Any]
    total: Any
    term: Any
    whole: Any
    x_t: list[torch.Tensor]
    z_t: list[torch.Tensor]
    total_t: torch.Tensor
    term_t: torch.Tensor


@dataclass(frozen=True)
class RowSum:
    """A row of the plan, ready to be summed.

    Attributes:
        slopes, states: slopes by state, states by slot, each with its weight times 2^{e_new}.
        positive: the sign of a_K. shift: as in `BitPlan`. unit: 2^-e of the state that the march computes.
    """

    slopes: list[tuple[int, float]]
    states: list[tuple[int, float]]
    positive: bool
    shift: int
    unit: float


class FixedRegister:
    """Integer states of one run; the same interface as `FloatRegister`.

    Each state is held twice, as int64 and as the float64 that the predictor sees. A row overwrites its oldest state. Every
    multiplication, addition and rounding is an operation of its own, correctly rounded by IEEE 754, in an order that the plan
    fixes: no library can fuse or reorder what decides a bit, and numpy and torch give the same ones.

    Args:
        rows: the whole plan, in sampling order, in the scale x = alpha x_bar.
        bits: its bit plan.
        start, stop: the rows marched are start … stop - 1, whichever the direction.
        first: the first window in marching order, (K, …): int64, or float64 that is rounded to integers.
        sampling: the direction of the march.
        tape: cells left by an earlier march, by row of the plan.
    """

    def __init__(
        self,
        rows: Plan,
        bits: BitPlan,
        start: int,
        stop: int,
        first: torch.Tensor,
        sampling: bool,
        tape: dict[int, torch.Tensor] | None = None,
    ) -> None:
        self.rows, self.bits, self.sampling = rows, bits, sampling
        self.start, self.stop = start, stop
        self.shape, self.steps = first.shape[1:], rows.steps
        self.tape = dict(tape or {})
        size, device = self.shape.numel(), first.device
        line = -(-size // 8) * 8  # whole cache lines: a network may compute other bits from memory that is aligned otherwise
        self.integers = torch.zeros((self.steps, line), dtype=torch.int64, device=device)[:, :size]
        self.reals = torch.zeros((self.steps, line), dtype=torch.float64, device=device)[:, :size]
        self.library: Any = Torch
        columns = np.flatnonzero(np.any(rows.c[:, : self.steps] != 0.0, axis=0))
        self.nearest, self.farthest = (int(columns.min()), int(columns.max())) if len(columns) else (0, 0)
        self.slopes = torch.zeros((self.farthest, line), dtype=torch.float64, device=device)[:, :size]
        self.known: set[int] = set()  # the states whose slopes are stored,
        self.fresh: torch.Tensor | None = None  # and the newest one, while it is the predictor's own tensor,
        self.fresh_index = -1  # with its state
        self._cut(size, device)
        self.sums = [self._row(row) for row in range(start, stop)]
        for s in range(self.steps):
            self.put(s, first[s])

    def _cut(self, size: int, device: torch.device) -> None:
        """The blocks and the library that works on them."""
        threads = torch.get_num_threads()
        if device.type != "cpu":
            length = size
        elif threads == 1 or size <= 2 * BLOCK:  # torch itself uses one thread up to there
            self.library, length = Numpy, min(size, BLOCK)
        else:
            length = min(size, 2 * BLOCK * threads)
        total, term = (torch.empty(length, dtype=torch.float64, device=device) for _ in range(2))
        whole = torch.empty(length, dtype=torch.int64, device=device)
        self.blocks: list[Block] = []
        for begin in range(0, size, length):
            part = slice(begin, min(begin + length, size))
            count = part.stop - begin
            z_t, x_t = list(self.integers[:, part]), list(self.reals[:, part])
            slopes: list[Any] = list(self.slopes[:, part])
            total_t, term_t, whole_t = (buffer[:count] for buffer in (total, term, whole))
            buffers: list[Any] = [total_t, term_t, whole_t]
            z: list[Any] = z_t
            x: list[Any] = x_t
            if self.library is Numpy:
                z, x, slopes, buffers = ([view.numpy() for view in views] for views in (z_t, x_t, slopes, buffers))
            self.blocks.append(Block(part, z, x, slopes, buffers[0], buffers[1], buffers[2], x_t, z_t, total_t, term_t))

    def _index(self, s: int) -> int:
        """The state's number in the plan."""
        return self.start + s if self.sampling else self.stop + self.steps - 1 - s

    def put(self, s: int, value: torch.Tensor) -> None:
        """Store state s: integers as they are, reals rounded to the nearest integer of the state's scale."""
        index = self._index(s)
        exponent, slot = float(self.bits.exponents[index]), index % self.steps
        if value.dtype != torch.int64:
            value = encoded(value, exponent, f"{self.rows.name}: state {s} of the march")
        if not _inside(value):
            raise self._overflow(s)
        self.integers[slot].copy_(value.reshape(-1))
        self.reals[slot].copy_(decoded(self.integers[slot], exponent))

    def state(self, s: int) -> torch.Tensor:
        """State s as float64, in the scale x = alpha x_bar."""
        self._keep_fresh()
        return self.reals[self._index(s) % self.steps].view(self.shape)

    def has_slope(self, s: int) -> bool:
        """Whether the slope of state s is stored."""
        return self._index(s) in self.known

    def put_slope(self, s: int, value: torch.Tensor) -> None:
        """Store the slope of state s. It is copied (as float64) only if it must outlive the next row."""
        self._keep_fresh()
        self.fresh, self.fresh_index = value.detach().reshape(-1), self._index(s)
        self.known.add(self.fresh_index)

    def _keep_fresh(self) -> None:
        """Copy the newest slope, before the predictor can write to its memory again."""
        if self.fresh is not None:
            self.slopes[self.fresh_index % self.farthest].copy_(self.fresh)
            self.fresh = None

    def advance(self, m: int) -> None:
        """The next state from row m of the march, exactly undoable."""
        row = self.start + m if self.sampling else self.stop - 1 - m
        new = row + self.steps
        if self.fresh is not None and self._outlives(self.fresh_index, new):
            self._keep_fresh()
        row_sum = self.sums[row - self.start]
        slot, shift = row % self.steps, row_sum.shift  # the oldest state and the new one share a slot
        cell = self._cell(row, shift)
        for block in self.blocks:
            self._round_sum(block, row_sum, m + self.steps)
            if cell is None:
                self._combine(block, slot, row_sum.positive)
            else:
                self._combine_shifted(block, slot, row_sum.positive, shift, cell[block.part], m + self.steps)
            self.library.convert(block.x[slot], block.z[slot])
            # two numbers below 2^62 were added, which cannot wrap around; now their sum must itself stay below
            if not _inside(block.x_t[slot]):
                raise self._overflow(m + self.steps)
            self.library.mul(block.x[slot], row_sum.unit, out=block.x[slot])
        if cell is not None and (shift > 0) == self.sampling:
            self.tape[row] = cell.view(self.shape)
        else:
            self.tape.pop(row, None)
        self.known = {index for index in self.known if self._outlives(index, new)}
        if self.fresh_index not in self.known:
            self.fresh = None

    def _outlives(self, index: int, new: int) -> bool:
        """Whether a row after the one between `new` and `new` - K may read the slope of state `index`."""
        return index >= new + 1 - self.farthest if self.sampling else index <= new - 1 - self.nearest

    def _row(self, row: int) -> RowSum:
        new = row + self.steps
        scale = 2.0 ** float(self.bits.exponents[new])
        a, c = self.rows.a[row].tolist(), self.rows.c[row].tolist()
        return RowSum(
            [(new - j, c[j] * scale) for j in range(1, self.steps) if c[j] != 0.0],
            [((new - j) % self.steps, a[j - 1] * scale) for j in range(1, self.steps) if a[j - 1] != 0.0],
            a[-1] > 0.0,
            int(self.bits.shifts[row]),
            2.0 ** -float(self.bits.exponents[new if self.sampling else row]),
        )

    def _round_sum(self, block: Block, row_sum: RowSum, s: int) -> None:
        """block.whole = round(sum of weight * value), the slopes first."""
        mul, add, total, term = self.library.mul, self.library.add, block.total, block.term
        target = total
        for index, weight in row_sum.slopes:
            if self.fresh is not None and index == self.fresh_index:
                (block.total_t if target is total else block.term_t).copy_(self.fresh[block.part])
                mul(target, weight, out=target)
            else:
                mul(block.slopes[index % self.farthest], weight, out=target)
            if target is term:
                add(total, term, out=total)
            target = term
        for slot, weight in row_sum.states:
            mul(block.x[slot], weight, out=target)
            if target is term:
                add(total, term, out=total)
            target = term
        if target is total:
            block.total_t.zero_()
        self.library.rint(total, out=total)
        if not _inside(block.total_t):
            raise self._overflow(s)
        self.library.convert(block.whole, total)

    def _combine(self, block: Block, slot: int, positive: bool) -> None:
        """z = sgn z + whole along sampling, z = sgn (z - whole) along inversion."""
        z, whole = block.z[slot], block.whole
        if not positive:
            self.library.sub(whole, z, out=z)
        elif self.sampling:
            self.library.add(z, whole, out=z)
        else:
            self.library.sub(z, whole, out=z)

    def _combine_shifted(
        self, block: Block, slot: int, positive: bool, shift: int, cell: torch.Tensor, s: int
    ) -> None:
        """The same where the oldest state gives bits to its cell or takes them back."""
        if not self.sampling:
            self._combine(block, slot, positive)
        z = block.z_t[slot]
        bits = shift if self.sampling else -shift
        if bits > 0:
            cell.copy_(z & ((1 << bits) - 1))
            z >>= bits
        else:
            low, high = torch.aminmax(z)
            limit = 1 << (WORD + bits)
            if int(low) < -limit or int(high) >= limit:
                raise self._overflow(s)
            z <<= -bits
            z |= cell
        if self.sampling:
            self._combine(block, slot, positive)

    def _overflow(self, s: int) -> FixedPointOverflowError:
        index = self._index(s)
        exponent = float(self.bits.exponents[index])
        return FixedPointOverflowError(
            f"{self.rows.name}: state {s} of the march (sigma_bar = {self.rows.node[index]:.6g}) leaves the range of fixed-point "
            f"numbers, |x| < {2.0 ** (WORD - exponent):.3g} with {exponent:.1f} fractional bits; take fewer fraction_bits, a "
            "larger data_range, or a formula that is stable on this grid"
        )

    def _cell(self, row: int, shift: int) -> torch.Tensor | None:
        """The tape's cell of this row: to be filled when bits are set aside, read (zeros if never filled) when taken back."""
        if shift == 0:
            return None
        if (shift < 0) == self.sampling and row in self.tape:
            return self.tape[row].reshape(-1)
        dtype = torch.int16 if abs(shift) <= CELL else torch.int32
        return torch.zeros(self.shape.numel(), dtype=dtype, device=self.integers.device)

    def window(self, start: int) -> torch.Tensor:
        """States start … start + K - 1 of the march as int64, (K, …), copied out."""
        return torch.stack([self.integers[self._index(s) % self.steps].view(self.shape) for s in range(start, start + self.steps)])


def _inside(values: torch.Tensor) -> bool:
    """Whether all |values| < 2^62; not for NaN. A sum of squares tells in one fast pass unless it is close."""
    if values.ndim == 1 and values.dtype == torch.float64 and torch.dot(values, values).item() < SAFE:
        return True
    low, high = torch.aminmax(values)
    limit = float(1 << WORD)
    return float(low) > -limit and float(high) < limit
