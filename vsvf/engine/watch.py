"""What a march must notice without waiting for the device: slopes that are not finite, states that overflow.

Each look leaves a number on the device. They are read together at the end of the march, or every few slopes on request: a march of
any length waits for the device a fixed number of times, and still names the state at which something happened first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from vsvf.errors import NonFiniteError
from vsvf.fixed import WORD
from vsvf.plan import Plan


@dataclass(frozen=True)
class Look:
    """Numbers left on the device, and what to raise when they are wrong."""

    order: int
    numbers: tuple[torch.Tensor, ...]
    failure: Callable[[], Exception]


class Watch:
    """The looks taken during one march.

    Args:
        every: slopes after which the looks are read; None: only when `check` is called.
    """

    def __init__(self, every: int | None = None) -> None:
        self.every = every
        self.slopes = 0
        self._count = 0
        self._sums: list[Look] = []
        self._ranges: list[Look] = []

    def _look(self, numbers: tuple[torch.Tensor, ...], failure: Callable[[], Exception]) -> Look:
        self._count += 1
        return Look(self._count, numbers, failure)

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
        """All entries of x must be finite. (Their sum is one fast pass; entries so large that it overflows count as infinite.)"""
        x = x.detach()
        self._sums.append(self._look((x.sum(dtype=torch.float32) if x.itemsize < 4 else x.sum(),), failure))

    def inside(self, z: torch.Tensor, failure: Callable[[], Exception]) -> None:
        """All entries of z must be integers below 2^53 in modulus."""
        self._ranges.append(self._look(torch.aminmax(z), failure))

    def check(self) -> None:
        """Read the looks taken so far, and forget them.

        Raises:
            what the first look that failed asks for.
        """
        looks = (self._sums, self._ranges)
        self._sums, self._ranges = [], []
        wrong: tuple[Callable[..., bool], ...] = (
            lambda total: not math.isfinite(total),
            lambda low, high: not (low > -(2.0**WORD) and high < 2.0**WORD),  # true for nan
        )
        failed = [
            look for kind, is_wrong in zip(looks, wrong) if kind for look, numbers in zip(kind, _read(kind)) if is_wrong(*numbers)
        ]
        if failed:
            raise min(failed, key=lambda look: look.order).failure()


def _read(looks: list[Look]) -> list[list[float]]:
    return torch.stack([number for look in looks for number in look.numbers]).view(len(looks), -1).tolist()
