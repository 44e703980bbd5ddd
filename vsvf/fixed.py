"""Fixed-point arithmetic: inversion that returns every bit, for every bidirectionally explicit plan.

Each state is kept as integers z_s = round(x_s S_s), with scales chosen so that a row's oldest state enters with weight exactly one,
S_{K+m} = S_m / a_{m,K}. A row is then

    z_{K+m} = z_m + round( S_{K+m} ( sum_{j<K} a_{m,j} x_{K+m-j} + sum_j c_{m,j} eps_{K+m-j} ) ),     x = z / S,

and inversion subtracts the very same rounded number: a bijection of integers, whatever the predictor returns, as long as the same
input gives the same bits. (After Levesque & Verlet 1993 and Rein & Tamayo's JANUS, 2018.) All |z| < 2^53 (`vsvf.engine.integers`
says why).

A method whose a_K multiply up to less than one forgets: the product of the growth factors of its modes is the product of the |a_K|
(the volume law), so exactness needs bits that grow with -log2 |a_K|. Where these outgrow an integer, the lowest bits of a state are
set aside on a tape, one cell for each such row, and taken back on the return. The latent is then the integers and the tape.

This module chooses the scales, before a run; |S_s| = 2^{e_s}, and a state's file holds x 2^{e_s} as int64.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vsvf.plan import Plan

if TYPE_CHECKING:
    from vsvf.formula import Formula
    from vsvf.grid import Grid
    from vsvf.predictors.base import Predictor
    from vsvf.schedule import Schedule

Array = np.ndarray

WORD = 53  # bits of |z|: the integers of which a float64 holds every one
CELL = 15  # bits set aside at a time, an int16 per entry
MARGIN = 4  # bits that the default number of fractional bits leaves unused: states may be 2^4 times larger than planned


@dataclass(frozen=True)
class Fixed:
    """Configuration of `arithmetic=Fixed(…)`; "fixed" stands for `Fixed()`.

    Attributes:
        fraction_bits: bits behind the point that every state has at least, e_s >= fraction_bits. Default: as many as the word
            holds without a tape and with `MARGIN` bits to spare, from 32 to 40.
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
        signs: (M+K,) of S_s, 1 or -1.
        shifts: (M,) bits that row m sets aside from its oldest state (positive), or takes back (negative).
        bits: (M+K,) bits that each state is expected to need, at most 53.
        tape_bits: bits per entry that lie on the tape at the data end, if there are none at the noise end.
        key: SHA-256 of the rows in the scale of the states, the exponents and the shifts: what a state's integers mean.
    """

    name: str
    fraction_bits: int
    exponents: Array
    signs: Array
    shifts: Array
    bits: Array
    tape_bits: int
    key: str

    @property
    def needed(self) -> int:
        """Bits of the largest state expected, sign not counted, of the 53 that there are."""
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


def unit(exponent: float) -> float:
    """2^-exponent: what an integer state's last bit is worth. All that reads integers as reals takes it from here: two libraries'
    powers can differ in the last bit, and with it what the predictor sees."""
    return 2.0 ** -float(exponent)


def bits(formula: Formula | str, grid: Grid, predictor: Predictor | Schedule | None = None, fixed: Fixed | None = None) -> BitPlan:
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
    oldest = rows.a[:, -1]
    gain = -np.log2(np.abs(oldest))
    # exponents relative to the first window's, along each chain z_s, z_{s+K}, z_{s+2K}, … of oldest and new states
    growth, signs = np.zeros(rows.rows + steps), np.ones(rows.rows + steps)
    for m in range(rows.rows):
        growth[m + steps] = growth[m] + gain[m]
        signs[m + steps] = math.copysign(signs[m], signs[m] * oldest[m])
    lowest = np.array([growth[chain::steps].min() for chain in range(steps)])
    most = float((growth - lowest[np.arange(len(growth)) % steps] + whole).max())  # bits without fraction and without tape
    wanted = min(max(WORD - MARGIN - most, 32.0), 40.0) if fixed.fraction_bits is None else float(fixed.fraction_bits)
    room = WORD - CELL - float(whole[worst])  # with a tape
    taped = int(wanted) + most > WORD
    fraction = int(min(wanted, max(room, 1.0)) if taped and fixed.fraction_bits is None else wanted)
    if taped and (fraction > room or room < 1.0):
        raise ValueError(
            f"fraction_bits={fraction} does not fit: states near sigma_bar = {rows.node[worst]:.4g} reach {size[worst]:.3g}, which "
            f"takes {whole[worst]:.1f} of {WORD} bits, and {CELL} are kept for a tape; take at most {int(max(room, WORD - most))}"
        )
    exponents = np.empty(rows.rows + steps)
    shifts = np.zeros(rows.rows, dtype=np.int64)
    # a chain that will lose bits starts with as many more
    exponents[:steps] = fraction + (np.minimum(-lowest, room - fraction) if taped else -lowest)
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
    return BitPlan(rows.name, fraction, exponents, signs, shifts, exponents + whole, int(shifts.sum()), key)
