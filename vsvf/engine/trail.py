"""Where a backward pass finds the states of a march again, newest first: kept with their graphs, retraced, or recomputed.

A trail sees the march go by, and then gives the states back in the opposite order, each with the slope there and its graph. All
trails give the same bits where the states that they find have the same bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from vsvf.engine.floating import FloatRegister
from vsvf.engine.integers import FixedRegister
from vsvf.engine.iteration import Iteration
from vsvf.engine.march import Question, march, questions
from vsvf.engine.register import Register
from vsvf.engine.run import Run
from vsvf.engine.watch import Watch
from vsvf.errors import RetraceWarning
from vsvf.plan import Plan

EXPLICIT = Iteration(1.0, 1)  # of rows that iterate nothing
DRIFT = 1e-2
"""Relative error of retraced states above which a gradient is warned of."""
SAMPLED = 1024  # entries of each state of the first window that are kept to see it


class Evaluated(NamedTuple):
    """A state as a leaf of a graph of its own, and eps there, which hangs on it."""

    leaf: torch.Tensor
    slope: torch.Tensor


Evaluate = Callable[[Question], Evaluated]


@dataclass(frozen=True)
class Snapshot:
    """Where a march stands before one of its rows, so that it can go on from there.

    Attributes:
        row: of the march. window: the K states row … row + K - 1, as the register gives them. slopes: known ones, by state.
        tape: of a fixed-point march.
    """

    row: int
    window: torch.Tensor
    slopes: dict[int, torch.Tensor] = field(default_factory=dict)
    tape: dict[int, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, register: Register, row: int, base: int = 0, slopes: dict[int, torch.Tensor] | None = None) -> Snapshot:
        """Of a register that counts its states from `base` on, before row `row` of the march."""
        tape = dict(register.tape) if isinstance(register, FixedRegister) else {}
        return cls(row, register.window(row - base), dict(slopes or {}), tape)


class Ground:
    """The main plan's rows in marching order, and registers that march on them, from anywhere and in both directions.

    Args:
        run: the march. watch: of the backward pass.
    """

    def __init__(self, run: Run, watch: Watch) -> None:
        self.rows: Plan = run.plans[-1]
        self.request, self.watch = run.request, watch
        self.bits = run.bits
        self.whole, self.span = (run.whole, run.span) if run.bits is not None else (run.request.plan, (0, 0))

    def _fixed(self, lo: int, hi: int, first: torch.Tensor, sampling: bool, tape: dict[int, torch.Tensor]) -> FixedRegister:
        assert self.bits is not None
        low, high = self.span
        start, stop = (low + lo, low + hi) if self.request.sampling else (high - hi, high - lo)
        return FixedRegister(self.whole, self.bits, start, stop, first, sampling, self.watch, tape)

    def onward(self, snapshot: Snapshot, stop: int) -> tuple[Plan, Register]:
        """Rows snapshot.row … stop - 1 of the march and a register that stands before them; both count from there."""
        rows = self.rows.between(snapshot.row, stop)
        register: Register
        if self.bits is not None:
            register = self._fixed(snapshot.row, stop, snapshot.window, self.request.sampling, snapshot.tape)
        else:
            register = FloatRegister(rows, snapshot.window, self.request.dtype)
        for s, slope in sorted(snapshot.slopes.items()):
            register.put_slope(s - snapshot.row, slope)
        return rows, register

    def backward(self, final: torch.Tensor, tape: dict[int, torch.Tensor]) -> tuple[Plan, Register]:
        """The march's rows solved for their oldest states, and a register at its last window, (K, …) in marching order."""
        rows = self.rows.inverse()
        if self.bits is not None:
            return rows, self._fixed(0, self.rows.rows, final.flip(0), not self.request.sampling, tape)
        return rows, FloatRegister(rows, final.flip(0), self.request.dtype)

    def shown(self, window: torch.Tensor, row: int, s: int) -> torch.Tensor:
        """State s of the march as the predictor sees it, from the window that begins at state `row`."""
        if self.bits is None:
            return window[s - row]
        register = self._fixed(row, row, window, self.request.sampling, {})
        return register.state(s - row)


class Trail:
    """What all trails have: they are told of the march as it goes by, and are then asked for its states, newest first."""

    def __init__(self, ground: Ground, evaluate: Evaluate) -> None:
        self.ground, self.evaluate = ground, evaluate
        self.steps = ground.rows.steps

    def entered(self, register: Register) -> None:
        """The march's first window stands in the register."""

    def met(self, s: int, found: Evaluated) -> None:
        """The slope of state s was taken."""

    def passed(self, register: Register, row: int) -> None:
        """Rows 0 … row - 1 are formed."""

    def begin(self, final: torch.Tensor, tape: dict[int, torch.Tensor]) -> None:
        """The way back begins at the last window, (K, …) in marching order, as a register gives it."""

    def back(self, s: int) -> Evaluated:
        """State s and the slope there; s falls from call to call."""
        raise NotImplementedError

    def end(self) -> None:
        """The way back is done."""

    def at(self, x: torch.Tensor, s: int) -> Evaluated:
        """The evaluation at state s of the main plan."""
        return self.evaluate(Question(x, s, self.ground.rows))


class Stored(Trail):
    """Every evaluation is kept with its graph: memory grows with the march."""

    def __init__(self, ground: Ground, evaluate: Evaluate) -> None:
        super().__init__(ground, evaluate)
        self.kept: dict[int, Evaluated] = {}

    def entered(self, register: Register) -> None:
        self.first = register.window(0)

    def met(self, s: int, found: Evaluated) -> None:
        self.kept[s] = found

    def back(self, s: int) -> Evaluated:
        if s not in self.kept:  # a state of the first window, whose slope the starter had taken
            self.kept[s] = self.at(self.ground.shown(self.first, 0, s), s)
        return self.kept[s]


class Checkpoints(Trail):
    """Snapshots at one half, three quarters, seven eighths … of the way; each gap is marched again, with snapshots in it likewise.

    Memory grows with log2 N windows, evaluations with N log2(N) / 2.
    """

    def entered(self, register: Register) -> None:
        self.taken = [Snapshot.of(register, 0)]
        self.wanted = self._places(0, self.ground.rows.rows)
        self.recent: dict[int, torch.Tensor] = {}

    def _places(self, start: int, stop: int) -> set[int]:
        places = set()
        while stop - start > self.steps:
            start = (start + stop + 1) // 2
            places.add(start)
        return places

    def met(self, s: int, found: Evaluated) -> None:
        self.recent = {n: slope for n, slope in self.recent.items() if n > s - self.steps}
        self.recent[s] = found.slope.detach()

    def passed(self, register: Register, row: int) -> None:
        self._take(register, row, 0)

    def _take(self, register: Register, row: int, base: int) -> None:
        if row in self.wanted:
            slopes = {s: slope for s, slope in self.recent.items() if s >= row}
            self.taken.append(Snapshot.of(register, row, base, slopes))

    def back(self, s: int) -> Evaluated:
        while self.taken[-1].row > s:
            self.taken.pop()
        if s >= self.taken[-1].row + self.steps:
            self._march_to(s)
        last = self.taken[-1]
        return self.at(self.ground.shown(last.window, last.row, s), s)

    def _march_to(self, s: int) -> None:
        """Go on from the last snapshot until state s is the newest, with snapshots on the way and there."""
        last, stop = self.taken[-1], s - self.steps + 1
        rows, register = self.ground.onward(last, stop)
        self.wanted = self._places(last.row, stop) | {stop}
        self.recent = dict(last.slopes)

        def answer(question: Question) -> torch.Tensor:
            found = self.at(question.x, last.row + question.s)
            self.met(last.row + question.s, found)
            return found.slope.detach()

        def after(m: int) -> None:
            self._take(register, last.row + m + 1, last.row)

        march(questions(rows, register, EXPLICIT, self.ground.watch, after), answer)

    def end(self) -> None:
        self.recent = {}


class Reversible(Trail):
    """The march is retraced by its inverse rows: one evaluation per state serves the retracing and the derivative.

    Memory is that of a march, whatever its length. A sample of the first window's entries is kept, so that a retracing that
    misses it is noticed.
    """

    def entered(self, register: Register) -> None:
        self.sample = self._sampled(register.window(0))

    def _sampled(self, window: torch.Tensor) -> torch.Tensor:
        flat = window.reshape(self.steps, -1)
        return flat[:, :: max(1, flat.shape[1] // SAMPLED)].clone()

    def begin(self, final: torch.Tensor, tape: dict[int, torch.Tensor]) -> None:
        rows, self.register = self.ground.backward(final, tape)
        self.newest = rows.rows + rows.steps - 1
        self.conversation = questions(rows, self.register, EXPLICIT, self.ground.watch)
        self.answers: dict[int, torch.Tensor] = {}  # slopes that the inverse rows have not asked for yet
        self.asked: int | None = None
        self._go_on(None)

    @torch.no_grad()
    def _go_on(self, slope: torch.Tensor | None) -> None:
        try:
            question = next(self.conversation) if slope is None else self.conversation.send(slope)
            self.asked = self.newest - question.s
        except StopIteration:
            self.asked = None

    def back(self, s: int) -> Evaluated:
        while self.asked is not None and self.asked > s:
            self._go_on(self.answers.pop(self.asked))
        found = self.at(self.register.state(self.newest - s), s)
        self.answers[s] = found.slope.detach()
        return found

    def end(self) -> None:
        while self.asked is not None:
            self._go_on(self.answers.pop(self.asked))
        found = self._sampled(self.register.window(self.newest + 1 - self.steps).flip(0))
        error, size = (float(x.abs().max()) for x in ((found - self.sample).double(), self.sample.double()))
        del self.register, self.conversation
        if not error <= DRIFT * max(size, 1e-300):
            request = self.ground.request
            far = f"{error / max(size, 1e-300):.2g} (relative)"
            warnings.warn(
                f"{request.plan.name}: the retraced states end {far} away from where the march began, so the gradient is not that "
                "of the march; use arithmetic='fixed', float64, a formula that is stable both ways, or gradient='checkpoint'",
                RetraceWarning,
                stacklevel=2,
            )


TRAILS: dict[str, type[Trail]] = {"reversible": Reversible, "stored": Stored, "checkpoint": Checkpoints}
