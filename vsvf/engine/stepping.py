"""Stepping by hand: the march asks, the caller answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from vsvf.engine.arguments import Request
from vsvf.engine.march import Question, march
from vsvf.engine.register import Held
from vsvf.engine.run import Run, Scale, Snapshot
from vsvf.engine.watch import Watch
from vsvf.state import State


class Steps:
    """A march that waits for one slope at a time (see `vsvf.steps`).

        while not march.done:
            march.give(network(march.x, march.t))

    Attributes:
        nfe: slopes given so far. request: the checked arguments.
    """

    def __init__(
        self,
        request: Request,
        scale: Scale,
        every: int | None = None,
        resume: tuple[Snapshot, int] | None = None,
        warn: bool = True,
    ) -> None:
        request.steppable()
        self.request, self._scale = request, scale
        self._run = Run(request, scale, Watch(every))
        if warn:
            self._run.look_at_movement()
        self.nfe = 0
        if resume is not None:
            self._run.resume(resume[0])
            self.nfe = resume[1]
        self._conversation = self._run.conversation()
        self._question: Question | None = None
        self._advance(None)

    @torch.no_grad()
    def _advance(self, slope: torch.Tensor | None) -> None:
        try:
            self._question = next(self._conversation) if slope is None else self._conversation.send(slope)
        except StopIteration:
            self._question = None
            self._run.state(self.nfe)  # which says what was noticed on the way
            self._run.warn_of_movement(stacklevel=3)

    @property
    def done(self) -> bool:
        """Whether every row is formed."""
        return self._question is None

    @property
    def x(self) -> torch.Tensor:
        """The state whose slope is asked for, x = alpha x_bar (B, …), or at the end the image (or noise); a copy."""
        return self.state().x.clone() if self._question is None else self._question.x.clone()

    @property
    def sigma_bar(self) -> float:
        """The level of `x`."""
        return self.state().record.sigma_bar if self._question is None else self._question.sigma_bar

    @property
    def t(self) -> float:
        """The model's time at `sigma_bar`."""
        return float(self._scale.time(np.asarray(self.sigma_bar)))

    def give(self, slope: torch.Tensor) -> None:
        """Answer: eps at `x`, (B, …). The march goes on to the next question, or to its end.

        Raises:
            ValueError: nothing is asked any more, or another shape. NonFiniteError, FixedPointOverflowError: at the end, naming the
            first state at which it happened.
        """
        if self._question is None:
            raise ValueError("the march is done: no slope is asked for")
        if slope.shape != self._question.x.shape:
            raise ValueError(f"the slope has shape {tuple(slope.shape)}, the state {tuple(self._question.x.shape)}")
        self.nfe += 1
        self._advance(slope)

    def replace(self, x: torch.Tensor) -> None:
        """Put another value in the place of the state whose slope is asked for: an edit. Exactness then begins here.

        Raises:
            ValueError: nothing is asked any more, or another shape.
        """
        if self._question is None:
            raise ValueError("the march is done: there is no state to replace")
        if x.shape != self._question.x.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}, the state {tuple(self._question.x.shape)}")
        self._run.replace(self._question.s, x)
        self._question = self._question._replace(x=self._run.register.state(self._question.s))  # type: ignore[union-attr]

    def held(self) -> list[Held]:
        """The K states that the march goes on from, copied, the oldest first."""
        return self._run.held()

    def put(self, states: Iterable[Held]) -> None:
        """Put other values in the place of some of the states that are `held`, and of the slopes known there: an edit that
        leaves no state behind. Exactness then begins here.

        Raises:
            ValueError: a state that the march does not hold, or another shape.
        """
        self._run.put(states)
        if self._question is not None:
            self._question = self._question._replace(x=self._run.register.state(self._question.s))  # type: ignore[union-attr]

    def snapshot(self) -> tuple[Snapshot, int]:
        """Where the march stands, for `Steps(…, resume=…)` with the same arguments."""
        return self._run.snapshot(), self.nfe

    def state(self) -> State:
        """The k newest states, as `vsvf.sample` and `vsvf.invert` return them.

        Raises:
            ValueError: before the starter is done, or within a step of a coupled method.
        """
        return self._run.state(self.nfe)


def levels(request: Request, scale: Scale) -> tuple[list[float], list[float]]:
    """sigma_bar at every question of a march, in order: the march itself, run on a single zero.

    Returns:
        those of the starter, and those of the formula's rows.
    """
    zero = torch.zeros((1, 1), dtype=request.dtype)
    if request.given is None:
        small = request.with_x(zero)
    else:
        values = torch.zeros((len(request.given.values), 1, 1), dtype=request.given.values.dtype)
        small = request.with_x(replace(request.given, values=values, tape={}))
    run = Run(small, scale, Watch())
    found: tuple[list[float], list[float]] = ([], [])

    def answer(question: Question) -> torch.Tensor:
        found[1 if run.phase == len(run.phases) - 1 else 0].append(question.sigma_bar)
        return torch.zeros_like(question.x)

    march(run.conversation(), answer)
    return found
