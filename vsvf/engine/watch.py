"""What a march must notice without waiting for the device: slopes that are not finite, states that overflow.

Each look leaves a number on the device. They are read together at the end of the march, or every few slopes on request: a march of
any length waits for the device a fixed number of times, and still names the state at which something happened first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from vsvf.errors import NonFiniteError
from vsvf.fixed import WORD
from vsvf.plan import Plan


class Look(NamedTuple):
    """Lowest and highest entry of a tensor, left on the device; the limit that they must stay below; what to raise if not."""

    low: torch.Tensor
    high: torch.Tensor
    limit: float
    failure: Callable[[], Exception]


class Watch:
    """The looks taken during one march.

    Args:
        every: slopes after which the looks are read; None: only when `check` is called.
    """

    def __init__(self, every: int | None = None) -> None:
        self.every = every
        self.slopes = 0
        self._looks: list[Look] = []

    def slope(self, slope: torch.Tensor, rows: Plan, s: int) -> None:
        """The slope of state s of `rows`, as it was answered, must be finite."""
        self.slopes += 1
        count = self.slopes

        def failure() -> Exception:
            where = f"state {s} (sigma_bar = {rows.node[s]:.6g}, evaluation {count})"
            return NonFiniteError(f"{rows.name}: the prediction at {where} is not finite")

        self.finite(slope, failure)
        if self.every is not None and count % self.every == 0:
            self.check()

    def finite(self, x: torch.Tensor, failure: Callable[[], Exception]) -> None:
        """All entries of x must be finite."""
        self._below(x.detach() if x.requires_grad else x, math.inf, failure)

    def inside(self, z: torch.Tensor, failure: Callable[[], Exception]) -> None:
        """All entries of z must be integers below 2^53 in modulus."""
        self._below(z, 2.0**WORD, failure)

    def _below(self, x: torch.Tensor, limit: float, failure: Callable[[], Exception]) -> None:
        low, high = torch.aminmax(x)  # one pass; nan where an entry is nan
        self._looks.append(Look(low, high, limit, failure))

    def check(self) -> None:
        """Read the looks taken so far, and forget them.

        Raises:
            what the first look that failed asks for.
        """
        looks, self._looks = self._looks, []
        if not looks:
            return
        numbers = torch.stack([number for look in looks for number in (look.low, look.high)]).view(-1, 2).tolist()
        for look, (low, high) in zip(looks, numbers):
            if not (low > -look.limit and high < look.limit):  # nan is not
                raise look.failure()
