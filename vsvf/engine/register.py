"""What the engine asks of the memory of a run. `FloatRegister` and `FixedRegister` are the two number formats."""

from __future__ import annotations

from typing import Protocol

import torch


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
