"""What a march must notice without waiting for the device: slopes that are not finite, states that overflow, spurious modes.

Each look leaves a number on the device. They are read together at the end of the march, or every few slopes on request: a march of
any length waits for the device a fixed number of times, and still names the state at which something happened first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch

from vsvf.engine.floating import all_finite
from vsvf.engine.register import Register
from vsvf.engine.spurious import Movement
from vsvf.errors import NonFiniteError
from vsvf.fixed import WORD
from vsvf.plan import Plan

GATHERED = 64  # numbers that are put together, which leaves one small tensor on the device instead of many


class Look(NamedTuple):
    """The limit that a number of a tensor must stay below in modulus, and what to raise if not.

    Where a sum is all that there is, it may have overflowed though no entry is infinite: the look alone is not sure.
    """

    limit: float
    failure: Callable[[], Exception]
    sure: bool


def _not_finite(rows: Plan, s: int, evaluation: int) -> Exception:
    where = f"state {s} (sigma_bar = {rows.node[s]:.6g}, evaluation {evaluation})"
    return NonFiniteError(f"{rows.name}: the prediction at {where} is not finite")


class Watch:
    """The looks taken during one march.

    Args:
        every: slopes after which the looks are read; None: only when `check` is called.
    """

    def __init__(self, every: int | None = None) -> None:
        self.every = every
        self.slopes = 0
        self.movement: Movement | None = None  # of the march, where it is looked at
        self._latest: tuple[Register, int, Plan] | None = None  # where the last slope's state stood, its number, and its rows
        self._looks: list[Look] = []
        self._numbers: list[torch.Tensor] = []  # those of the last looks, left on the device,
        self._rows: list[torch.Tensor] = []  # and those of the looks before them, gathered

    def slope(self, slope: torch.Tensor, rows: Plan, s: int, register: Register) -> None:
        """The slope of state s of `rows`, as it was answered, must be finite."""
        self.slopes += 1
        self._latest = register, s, rows
        if self.movement is not None and s in self.movement.wanted and rows is self.movement.rows:
            self.movement.see(s, register, slope)
        self.finite(slope, partial(_not_finite, rows, s, self.slopes))
        if self.every is not None and self.slopes % self.every == 0:
            self.check()

    def finite(self, x: torch.Tensor, failure: Callable[[], Exception]) -> None:
        """All entries of x must be finite.

        Their sum is looked at, which takes a fifth of the time of the lowest and highest entry on a CPU. Where it overflows,
        `check` asks the states and slopes at hand: an entry that was not finite is still in one of them. In half precision the
        sum would be slower, and where looks are read at once the slope is not at hand yet.
        """
        x = x.detach() if x.requires_grad else x
        if self.every is None and x.itemsize >= 4:
            self._looked((x.sum(),), Look(math.inf, failure, False))
        else:
            self._looked(torch.aminmax(x), Look(math.inf, failure, True))

    def inside(self, z: torch.Tensor, failure: Callable[[], Exception]) -> None:
        """All entries of z must be integers below 2^53 in modulus."""
        self._looked(torch.aminmax(z), Look(2.0**WORD, failure, True))  # one pass; nan where an entry is nan

    def _looked(self, numbers: Sequence[torch.Tensor], look: Look) -> None:
        self._numbers.extend(numbers)
        self._looks.extend([look] * len(numbers))
        if len(self._numbers) >= GATHERED:
            self._gather()

    def _gather(self) -> None:
        if self._numbers:
            self._rows.append(torch.stack(self._numbers))
            self._numbers = []

    def check(self) -> None:
        """Read the looks taken so far, and forget them.

        Raises:
            what the first look that failed asks for.
        """
        self._gather()
        looks, rows, self._looks, self._rows = self._looks, self._rows, [], []
        if not looks:
            return
        failed = [look for look, number in zip(looks, torch.cat(rows).tolist()) if not abs(number) < look.limit]  # nan is not
        if failed and (any(look.sure for look in failed) or not self._finite_now()):
            raise failed[0].failure()

    def _finite_now(self) -> bool:
        """Whether the states that the march holds, and the slopes that it knows, are finite."""
        if self._latest is None:
            return False
        register, s, rows = self._latest
        start = max(0, s - rows.steps + 1)
        return all(all_finite(part) for part in (register.window(start), *register.known_slopes().values()))
