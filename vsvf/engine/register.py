"""What the engine asks of the memory of a run: `FloatRegister`, `FixedRegister`, and `GraphRegister` with graphs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import torch

from vsvf.plan import Plan


class Register(Protocol):
    """Holds K states and the slopes that rows look back at, numbered in marching order."""

    def put(self, s: int, value: torch.Tensor) -> None:
        """Store state s."""

    def state(self, s: int) -> torch.Tensor:
        """State s in the scale x = alpha x_bar, as the predictor gets it; a view that later rows overwrite."""

    def copied(self, s: int) -> torch.Tensor:
        """State s likewise, in memory of its own."""

    def has_slope(self, s: int) -> bool:
        """Whether the slope of state s is stored."""

    def put_slope(self, s: int, value: torch.Tensor) -> None:
        """Store the slope of state s."""

    def known_slopes(self) -> dict[int, torch.Tensor]:
        """The slopes that are stored, by state."""

    def advance(self, m: int) -> None:
        """Compute state K + m from row m, without the slope of that state itself."""

    def window(self, start: int) -> torch.Tensor:
        """States start … start + K - 1, (K, …), copied out."""


class Held(NamedTuple):
    """A state that a march holds.

    Attributes:
        s: its number in the order of march. sigma_bar: where it approximates the solution.
        x: the state, x = alpha x_bar (B, …). slope: eps there, None where it is not known (yet, or any more).
    """

    s: int
    sigma_bar: float
    x: torch.Tensor
    slope: torch.Tensor | None


def held(register: Register, rows: Plan, row: int) -> list[Held]:
    """The K states that row number `row` of a plan reads, copied, with the slopes that are known there."""
    slopes = register.known_slopes()
    numbers = range(row, row + rows.steps)
    return [Held(s, float(rows.position[s]), register.state(s).clone(), slopes.get(s)) for s in numbers]


def put_held(register: Register, rows: Plan, row: int, states: Iterable[Held]) -> None:
    """Put values in the place of states that are `held`, and of the slopes that are known there.

    Raises:
        ValueError: a state that is not held, or another shape.
    """
    known = register.known_slopes()
    for state in states:
        if not row <= state.s < row + rows.steps:
            raise ValueError(f"state {state.s} is not held: the march holds {row} … {row + rows.steps - 1}")
        if state.x.shape != register.state(state.s).shape:
            raise ValueError(f"x has shape {tuple(state.x.shape)}, the state {tuple(register.state(state.s).shape)}")
        register.put(state.s, state.x)
        if state.slope is not None and state.s in known:
            register.put_slope(state.s, state.slope)
