"""States with their graph by the weights of the rows: for derivatives by a formula's own numbers, of short marches."""

from __future__ import annotations

import torch


class GraphRegister:
    """States and slopes of a march with their graph, by weights that carry one (see `vsvf.engine.register.Register`).

    Args:
        a, c: (M, K), (M, K + 1) weights of the rows. first: the first window's states, (K, …).
    """

    def __init__(self, a: torch.Tensor, c: torch.Tensor, first: torch.Tensor) -> None:
        self.a, self.c, self.steps = a, c, a.shape[1]
        self.states = dict(enumerate(first))
        self.slopes: dict[int, torch.Tensor] = {}

    def put(self, s: int, value: torch.Tensor) -> None:
        self.states[s] = value

    def state(self, s: int) -> torch.Tensor:
        return self.states[s]

    def copied(self, s: int) -> torch.Tensor:
        return self.states[s].clone()

    def has_slope(self, s: int) -> bool:
        return s in self.slopes

    def put_slope(self, s: int, value: torch.Tensor) -> None:
        self.slopes[s] = value

    def known_slopes(self) -> dict[int, torch.Tensor]:
        return dict(self.slopes)

    def advance(self, m: int) -> None:
        newest = m + self.steps
        with torch.enable_grad():
            self.states[newest] = sum(
                (self.a[m, j - 1] * self.states[newest - j] for j in range(1, self.steps + 1)), torch.zeros_like(self.states[m])
            )
            for j in range(1, self.steps + 1):
                if newest - j in self.slopes:
                    self.states[newest] = self.states[newest] + self.c[m, j] * self.slopes[newest - j]

    def window(self, start: int) -> torch.Tensor:
        return torch.stack([self.states[s] for s in range(start, start + self.steps)])
