"""A Runge-Kutta method stepped by hand: `vsvf.integrate` as a conversation that the caller answers, up or down."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from vsvf.engine.floating import FloatRegister
from vsvf.engine.iteration import Iteration
from vsvf.engine.march import Question, questions
from vsvf.engine.register import Held, held, put_held
from vsvf.engine.run import Scale
from vsvf.engine.watch import Watch
from vsvf.starter import starter_by_name

Array = np.ndarray


class Walk:
    """`vsvf.integrate` by hand: a Runge-Kutta method along nodes, up or down, which asks for one slope at a time.

    Args:
        scale: gives alpha and the model's time. x: (B, …) at nodes[0]. nodes: strictly monotone sigma_bar.
        method: "ddim", "heun", "rk4", "ees25". dtype: of the states.
    """

    def __init__(self, scale: Scale, x: torch.Tensor, nodes: Array, method: str, dtype: torch.dtype) -> None:
        rows = starter_by_name(method).plan(np.asarray(nodes, dtype=np.float64))
        self._rows, self._scale, self._row = rows.rescaled(scale.alpha(rows.node)), scale, 0
        self._register = FloatRegister(self._rows, x.to(dtype).expand(rows.steps, *x.shape), dtype)
        self._watch = Watch()
        self._conversation = questions(self._rows, self._register, Iteration(1.0, 1), self._watch, self._done)
        self._question: Question | None = None
        self.nfe = 0
        self._advance(None)

    def _done(self, m: int) -> None:
        self._row = m + 1

    @torch.no_grad()
    def _advance(self, slope: torch.Tensor | None) -> None:
        try:
            self._question = next(self._conversation) if slope is None else self._conversation.send(slope)
        except StopIteration:
            self._question = None
            self._watch.check()

    @property
    def done(self) -> bool:
        """Whether every row is formed."""
        return self._question is None

    @property
    def x(self) -> torch.Tensor:
        """The state whose slope is asked for, or at the end the last; a copy."""
        if self._question is not None:
            return self._question.x.clone()
        return self._register.state(self._rows.rows + self._rows.steps - 1).clone()

    @property
    def sigma_bar(self) -> float:
        """The level of `x`."""
        return float(self._rows.position[-1]) if self._question is None else self._question.sigma_bar

    def give(self, slope: torch.Tensor) -> None:
        """Answer: eps at `x`."""
        self.nfe += 1
        self._advance(slope)

    def replace(self, x: torch.Tensor) -> None:
        """Put another value in the place of the state whose slope is asked for."""
        assert self._question is not None
        self._register.put(self._question.s, x)

    def held(self) -> list[Held]:
        """The states that the next row reads, copied, the oldest first."""
        return held(self._register, self._rows, self._row)

    def put(self, states: Iterable[Held]) -> None:
        """Put other values in the place of some of these."""
        put_held(self._register, self._rows, self._row, states)
