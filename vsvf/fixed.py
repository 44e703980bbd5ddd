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

from dataclasses import dataclass

import numpy as np
import torch

from vsvf.errors import FixedPointOverflowError
from vsvf.plan import Plan

Array = np.ndarray

WORD = 62  # bits of |z|: sums of two such integers cannot wrap around in int64
CELL = 15  # bits set aside at a time, an int16 per entry
BLOCK = 1 << 15  # entries worked on at a time on a CPU, so that the intermediate results stay in its cache


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
        if not self.data_range > 0.0:
            raise ValueError(f"data_range must be positive, got {self.data_range}")


@dataclass(frozen=True)
class BitPlan:
    """The scales of a run, decided before it.

    Attributes:
        fraction_bits: the least of the exponents that was asked for or found.
        exponents: (M+K,) e_s, the fractional bits of each state (real numbers).
        shifts: (M,) bits that row m sets aside from its oldest state (positive), or takes back (negative).
        bits: (M+K,) bits that each state is expected to need, at most 62.
        tape_bits: bits per entry that lie on the tape at the data end, if there are none at the noise end.
    """

    fraction_bits: int
    exponents: Array
    shifts: Array
    bits: Array
    tape_bits: int


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
    return BitPlan(fraction, exponents, shifts, exponents + whole, int(shifts.sum()))


def quantised(x: torch.Tensor, exponent: float) -> torch.Tensor:
    """x rounded to a multiple of 2^-exponent, as the register decodes it (float64)."""
    return torch.round(x.double() * 2.0**exponent) * 2.0**-exponent


class FixedRegister:
    """Integer states of one run; the same interface as `FloatRegister`.

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
        self.shape = first.shape[1:]
        self.steps = rows.steps
        self.tape = dict(tape or {})
        size = self.shape.numel()
        slots = rows.steps + 1
        self.integers = torch.zeros((slots, size), dtype=torch.int64, device=first.device)
        self.reals = torch.zeros((slots, size), dtype=torch.float64, device=first.device)
        self.slopes: dict[int, torch.Tensor] = {}
        for s in range(rows.steps):
            self.put(s, first[s])

    def _index(self, s: int) -> int:
        """The state's number in the plan."""
        return self.start + s if self.sampling else self.stop + self.steps - 1 - s

    def _slot(self, index: int) -> int:
        return index % (self.steps + 1)

    def put(self, s: int, value: torch.Tensor) -> None:
        """Store state s: integers as they are, reals rounded to the nearest integer of the state's scale."""
        index = self._index(s)
        slot = self._slot(index)
        if value.dtype == torch.int64:
            self.integers[slot].copy_(value.reshape(-1))
        else:
            scaled = torch.round(value.reshape(-1).double() * 2.0 ** float(self.bits.exponents[index]))
            self._check(scaled, s)
            self.integers[slot].copy_(scaled)
        self._decode(index)

    def state(self, s: int) -> torch.Tensor:
        """State s as float64, in the scale x = alpha x_bar."""
        return self.reals[self._slot(self._index(s))].view(self.shape)

    def has_slope(self, s: int) -> bool:
        """Whether the slope of state s is stored."""
        return self._index(s) in self.slopes

    def put_slope(self, s: int, value: torch.Tensor) -> None:
        """Store the slope of state s, in the predictor's dtype."""
        self.slopes[self._index(s)] = value.reshape(-1).clone()

    def advance(self, m: int) -> None:
        """The next state from row m of the march, exactly undoable."""
        row = self.start + m if self.sampling else self.stop - 1 - m
        old, new = row, row + self.steps
        exponent = float(self.bits.exponents[new])
        scale = 2.0**exponent
        terms = [
            (self.reals[self._slot(new - j)], float(self.rows.a[row, j - 1]) * scale)
            for j in range(1, self.steps)
            if self.rows.a[row, j - 1] != 0.0
        ]
        terms += [
            (self.slopes[new - j], float(self.rows.c[row, j]) * scale)
            for j in range(1, self.steps)
            if self.rows.c[row, j] != 0.0
        ]
        sign = 1 if self.rows.a[row, -1] > 0.0 else -1
        shift = int(self.bits.shifts[row])
        source, target = (old, new) if self.sampling else (new, old)
        z_source, z_target = self.integers[self._slot(source)], self.integers[self._slot(target)]
        size = z_source.numel()
        block = BLOCK if z_source.device.type == "cpu" else size
        low_bits = self._cell(row, shift, size, z_source.device)
        for begin in range(0, size, block):
            part = slice(begin, min(begin + block, size))
            rounded = self._rounded([(value[part], weight) for value, weight in terms], z_source[part], m + self.steps)
            cell = None if low_bits is None else low_bits[part]
            if self.sampling:
                oldest = _shifted(z_source[part], shift, cell)
                z_target[part] = (oldest if sign > 0 else -oldest) + rounded
            else:
                oldest = z_source[part] - rounded
                z_target[part] = _shifted(oldest if sign > 0 else -oldest, -shift, cell)
            low, high = torch.aminmax(z_target[part])
            if int(low) < -(1 << WORD) or int(high) > 1 << WORD:
                raise self._overflow(m + self.steps)
        self._keep(row, shift, low_bits)
        for index in [i for i in self.slopes if abs(i - target) > self.steps]:
            del self.slopes[index]
        self._decode(target)

    def _rounded(self, terms: list[tuple[torch.Tensor, float]], like: torch.Tensor, s: int) -> torch.Tensor:
        """round(sum of weight * value) as int64; one correctly rounded operation at a time, so that no bit depends on how a
        library orders or fuses a sum."""
        if not terms:
            return torch.zeros_like(like)
        value, weight = terms[0]
        total = value.double() * weight
        for value, weight in terms[1:]:
            total += value.double() * weight
        total.round_()
        self._check(total, s)
        return total.to(torch.int64)

    def _check(self, total: torch.Tensor, s: int) -> None:
        low, high = torch.aminmax(total)
        limit = float(1 << WORD)
        if not (float(low) > -limit and float(high) < limit):
            raise self._overflow(s)

    def _overflow(self, s: int) -> FixedPointOverflowError:
        index = self._index(s)
        exponent = float(self.bits.exponents[index])
        return FixedPointOverflowError(
            f"{self.rows.name}: state {s} of the march (sigma_bar = {self.rows.node[index]:.6g}) leaves the range of fixed-point "
            f"numbers, |x| < {2.0 ** (WORD - exponent):.3g} with {exponent:.1f} fractional bits; take fewer fraction_bits, a "
            "larger data_range, or a formula that is stable on this grid"
        )

    def _cell(self, row: int, shift: int, size: int, device: torch.device) -> torch.Tensor | None:
        """The tape's cell of this row: to be filled when bits are set aside, read (zeros if never filled) when taken back."""
        if shift == 0:
            return None
        dtype = torch.int16 if abs(shift) <= CELL else torch.int32
        takes_back = (shift < 0) == self.sampling
        if takes_back and row in self.tape:
            return self.tape[row].reshape(-1)
        return torch.zeros(size, dtype=dtype, device=device)

    def _keep(self, row: int, shift: int, cell: torch.Tensor | None) -> None:
        if cell is not None:
            if (shift > 0) == self.sampling:
                self.tape[row] = cell.view(self.shape)
            else:
                self.tape.pop(row, None)

    def _decode(self, index: int) -> None:
        slot = self._slot(index)
        torch.mul(self.integers[slot].double(), 2.0 ** -float(self.bits.exponents[index]), out=self.reals[slot])

    def window(self, start: int) -> torch.Tensor:
        """States start … start + K - 1 of the march as int64, (K, …), copied out."""
        return torch.stack([self.integers[self._slot(self._index(s))].view(self.shape) for s in range(start, start + self.steps)])


def _shifted(z: torch.Tensor, shift: int, cell: torch.Tensor | None) -> torch.Tensor:
    """z without its `shift` lowest bits, which go to the cell; for a negative shift, z with the cell's bits below."""
    if cell is None:
        return z
    if shift > 0:
        cell.copy_(z & ((1 << shift) - 1))
        return z >> shift
    return (z << -shift) | cell.to(torch.int64)
