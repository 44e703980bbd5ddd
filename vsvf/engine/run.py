"""One march, from its arguments to its state: a starter and a plan joined to one conversation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from vsvf.engine.arguments import Request, same_scales
from vsvf.engine.floating import FloatRegister
from vsvf.engine.integers import FixedRegister, decoded, encoded
from vsvf.engine.march import Questions, questions
from vsvf.engine.register import Held, Register, held, put_held
from vsvf.engine.spurious import Movement, has_spurious_modes
from vsvf.engine.watch import Watch
from vsvf.errors import FixedPointOverflowError, NonFiniteError, SpuriousModeWarning, StateFileError
from vsvf.fixed import BitPlan, plan_bits
from vsvf.plan import Plan
from vsvf.schedule import Schedule
from vsvf.starter import LOWER_ORDER, Starter, lower_order_plan, starter_by_name
from vsvf.state import Record, Scales, State

Array = np.ndarray


class Scale(Protocol):
    """What a march must know of a predictor: the scale of its states, its times, and the schedule they come from."""

    schedule: Schedule

    def alpha(self, sigma_bar: Array) -> Array:
        """alpha at sigma_bar: states are x = alpha x_bar."""

    def time(self, sigma_bar: Array) -> Array:
        """The model's time at sigma_bar."""


@dataclass(frozen=True)
class Phase:
    """Rows to be formed, in marching order and in the scale of the states.

    Attributes:
        rows: the plan.
        targets: for a starter, which of its states make the main plan's first window, in marching order; () for the main plan.
    """

    rows: Plan
    targets: tuple[int, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """Where a run stands: its phase and row, the K states there, slopes that are known, and what its starter has found."""

    phase: int
    row: int
    states: torch.Tensor
    known: dict[int, torch.Tensor]
    window: dict[int, torch.Tensor]
    slopes: dict[int, torch.Tensor]
    tape: dict[int, torch.Tensor]


class Run:
    """A march that can be asked for its questions, and for its state where it stands.

    Args:
        request: the checked arguments. scale: the predictor or what stands for it.
        watch: what is noticed on the way.

    Raises:
        StateFileError: the given state was made under another schedule. ValueError: a starter that does not fit.
    """

    def __init__(self, request: Request, scale: Scale, watch: Watch) -> None:
        self.request, self.watch = request, watch
        plan, start, end = request.plan, request.start, request.end
        low, high = min(start, end), max(start, end)
        rows = plan.between(low, high)
        rows = rows if request.sampling else rows.inverse()
        self.schedule = scale.schedule.fingerprint
        given = request.given
        if given is not None and given.record.schedule not in ("", self.schedule):
            raise StateFileError(
                f"the state of {plan.name} was made under another schedule (another alpha or another time at the same "
                "sigma_bar): a state only marches on with the predictor that made it"
            )
        self.bits: BitPlan | None = None
        if request.fixed is not None:
            alpha = scale.alpha(plan.node)
            self.whole, self.span = plan.rescaled(alpha), (low, high)
            self.bits = plan_bits(self.whole, alpha, request.fixed)
            if given is not None:
                same_scales(given, self.bits, plan)
        self.alpha = scale.alpha(rows.node)  # of the states of `rows`
        main = Phase(rows.rescaled(self.alpha))
        self.starter = ""
        self.phases = [main]
        positions = main.rows.position[: plan.steps]
        if given is None and np.all(positions == positions[0]):
            self.starter = "" if plan.steps == 1 else "copy"
        elif given is None:
            first, targets, self.starter = starter_plan(request, positions)
            self.phases.insert(0, Phase(first.rescaled(scale.alpha(first.node)), tuple(targets)))
        self.after: Callable[[int], None] | None = None  # called with m when row m of the main plan is done,
        self.entered: Callable[[Register], None] | None = None  # and with its register before its first row
        self.phase = -1
        self.row = 0
        self.register: Register | None = None
        self.window: dict[int, torch.Tensor] = {}  # of the main plan, as the starter finds it,
        self.slopes: dict[int, torch.Tensor] = {}  # and the slopes taken there

    @property
    def plans(self) -> list[Plan]:
        """The plans whose states will be asked for."""
        return [phase.rows for phase in self.phases]

    # ---- the conversation ----------------------------------------------------------------------------------

    def conversation(self) -> Questions[None]:
        """All questions of the starter and the plan, from where the run stands."""
        if self.register is None:
            self._begin()
        while True:
            phase, register = self.phases[self.phase], self.register
            assert register is not None
            asked = questions(phase.rows, register, self.request.iteration, self.watch, self._done, self.row)
            yield from self._overheard(asked, phase) if phase.targets else asked
            if phase is self.phases[-1]:
                break
            self._enter(self.phase + 1, [self.window[n] for n in range(len(self.window))])
            self.window = {}  # the register has copies
        self.watch.check()

    def _overheard(self, asked: Questions[None], phase: Phase) -> Questions[None]:
        """The questions of a starter, whose slopes at the first window's states are kept for the main plan."""
        try:
            question = next(asked)
            while True:
                slope = yield question
                for n, target in enumerate(phase.targets):
                    if target == question.s and self._shown_alike(n, target):
                        self.slopes[n] = slope.clone()
                question = asked.send(slope)
        except StopIteration:
            return

    def _begin(self) -> None:
        request = self.request
        if request.given is not None:
            values = request.given.values
            self._enter(0, values if request.sampling else values.flip(0))
            return
        x = request.tensor.to(request.dtype)
        self._enter(0, x.expand(self.phases[0].rows.steps, *x.shape))
        if self.phases[0].targets:
            self._keep(self.phases[0].rows.steps - 1)

    def _enter(self, phase: int, first: torch.Tensor | Sequence[torch.Tensor]) -> None:
        self.phase, self.row = phase, 0
        rows, request = self.phases[phase].rows, self.request
        if self.bits is not None and phase == len(self.phases) - 1:
            tape = {} if request.given is None else request.given.tape
            self.register = FixedRegister(self.whole, self.bits, *self.span, first, request.sampling, self.watch, tape)
        else:
            self.register = FloatRegister(rows, first, request.dtype)
        for n, slope in sorted(self.slopes.items()):
            self.register.put_slope(n, slope)
        self.slopes = {}
        if self.entered is not None and phase == len(self.phases) - 1:
            self.entered(self.register)

    def _done(self, m: int) -> None:
        self.row = m + 1
        phase = self.phases[self.phase]
        if phase.targets:
            self._keep(phase.rows.steps + m)
        elif self.after is not None:
            self.after(m)

    # ---- spurious modes --------------------------------------------------------------------------------------

    def look_at_movement(self) -> None:
        """Let the watch look for spurious modes, to be called before the march begins.

        Only in sampling, of formulas that have such modes, and not where states go back that an inversion found: these carry what
        its starter left, and give it back.
        """
        rows, given = self.phases[-1].rows, self.request.given
        own = given is None or given.record.starter == "given" or given.record.direction == self.request.direction
        if self.request.sampling and own and has_spurious_modes(rows):
            self.watch.movement = Movement(rows, self.alpha)

    def warn_of_movement(self, stacklevel: int) -> None:
        """Warn, once, with the step, if the states moved in a way that their slopes do not explain; waits for the device."""
        movement, self.watch.movement = self.watch.movement, None
        found = movement.first() if movement is not None else None
        if found is None:
            return
        plan, steps = self.request.plan, self.phases[-1].rows.steps
        warnings.warn(
            f"{plan.name}: at row {max(found.s - steps + 1, 0)} of {self.phases[-1].rows.rows} (sigma_bar = {found.sigma_bar:.4g}) "
            f"{found.size:.2g} of the state moved in a way that no slope explains, and on such steps a solution leaves less than "
            f"{found.limit:.2g}: spurious modes have grown on this predictor, and the result may be far off; take more steps or "
            "another formula (vsvf.formulas.recommended), and see vsvf.examine(predictor, x, grid, formula)",
            SpuriousModeWarning,
            stacklevel=stacklevel + 1,
        )

    # ---- the first window ----------------------------------------------------------------------------------

    def _exponent(self, n: int) -> float | None:
        """Fractional bits of state n of the first window, in marching order."""
        if self.bits is None:
            return None
        request = self.request
        return float(self.bits.exponents[request.start + (n if request.sampling else request.plan.steps - 1 - n)])

    def _shown_alike(self, n: int, target: int) -> bool:
        """Whether the starter showed the predictor the very numbers that state n of the window has."""
        targets = self.phases[0].targets
        newest = len(targets) - 1 - targets[::-1].index(target)
        return self._exponent(n) == self._exponent(newest)

    def _keep(self, s: int) -> None:
        """State s of the starter is found: keep it as the main march will, and let the starter go on from those numbers."""
        register = self.register
        assert register is not None
        found = None
        for n, target in enumerate(self.phases[self.phase].targets):
            if target == s:
                found = register.state(s).clone() if found is None else found
                exponent = self._exponent(n)
                if exponent is None:
                    self.window[n] = found
                else:
                    try:
                        self.window[n] = encoded(found, exponent, f"{self.request.plan.name}: state {n} of the march")
                    except FixedPointOverflowError:
                        self.watch.check()  # a slope that was not finite is the first thing to be said
                        raise
                    register.put(s, decoded(self.window[n], exponent))

    def replace(self, s: int, x: torch.Tensor) -> None:
        """Put other numbers in the place of state s, whose slope is being asked for."""
        assert self.register is not None
        self.watch.movement = None  # an edit moves a state without a slope
        self.register.put(s, x)
        self._keep(s)

    def held(self) -> list[Held]:
        """The states that the next row reads, copied."""
        assert self.register is not None
        return held(self.register, self.phases[self.phase].rows, self.row)

    def put(self, states: Iterable[Held]) -> None:
        """Put other numbers in the place of some of these."""
        assert self.register is not None
        self.watch.movement = None
        states = list(states)
        put_held(self.register, self.phases[self.phase].rows, self.row, states)
        for state in states:
            self._keep(state.s)

    # ---- interrupted and taken up again --------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """All that the march needs to go on from here, as plain tensors and numbers."""
        assert self.register is not None
        self.watch.check()
        register = self.register
        states = register.window(self.row)
        tape = dict(register.tape) if isinstance(register, FixedRegister) else {}
        return Snapshot(self.phase, self.row, states, register.known_slopes(), dict(self.window), dict(self.slopes), tape)

    def resume(self, at: Snapshot) -> None:
        """Stand where a run of the same arguments stood."""
        self._enter(at.phase, at.states)
        register = self.register
        assert register is not None
        for n, state in enumerate(at.states):
            register.put(at.row + n, state)
        for s, slope in at.known.items():
            register.put_slope(s, slope)
        if isinstance(register, FixedRegister):
            register.tape = dict(at.tape)
        self.row, self.window, self.slopes = at.row, dict(at.window), dict(at.slopes)

    # ---- where it stands -----------------------------------------------------------------------------------

    def state(self, nfe: int) -> State:
        """The K newest states, in sampling order.

        Raises:
            ValueError: the starter is not done, or a coupled method stands within a step.
            NonFiniteError: they overflowed. What `Watch.check` raises: something that was noticed on the way.
        """
        request, plan = self.request, self.request.plan
        if self.phase < len(self.phases) - 1 or self.register is None:
            raise ValueError(f"{plan.name} does not have its {plan.steps} states yet: the starter is not done")
        window = request.start + (self.row if request.sampling else -self.row)
        scales = None
        if self.bits is not None and request.fixed is not None:
            exponents = tuple(self.bits.exponents[window : window + plan.steps].tolist())
            scales = Scales(request.fixed.fraction_bits, request.fixed.data_range, exponents, self.bits.key)
        record = Record.of(
            plan,
            window,
            request.direction,
            request.arithmetic,
            schedule=self.schedule,
            starter=self.starter,
            nfe=nfe,
            scales=scales,
        )
        self.watch.check()
        values = self.register.window(self.row)
        if values.is_floating_point():
            self.watch.finite(values, self._overflow)
            self.watch.check()
        tape = dict(self.register.tape) if isinstance(self.register, FixedRegister) else {}
        return State(values if request.sampling else values.flip(0), record, tape)

    def _overflow(self) -> Exception:
        request = self.request
        return NonFiniteError(
            f"{request.plan.name}: the states overflowed {request.arithmetic} during {request.direction}; see "
            "vsvf.stability(formula, grid)"
        )


def starter_plan(request: Request, positions: Array) -> tuple[Plan, list[int], str]:
    """The starter's plan, the numbers of its states that make the first window, and its name.

    Args:
        positions: sigma_bar of the first window's states, in marching order. Equal neighbours are one state of the starter.
    """
    if request.starter == LOWER_ORDER:
        if not request.sampling and not request.by_sweeps:
            raise ValueError("starter='lower_order' starts sampling only; choose 'ddim', 'heun' or 'rk4'")
        count = len(positions)
        plan = lower_order_plan(request.formula, positions, request.grid.alpha[::-1][:count])
        return plan, [count - 2 + n for n in range(count)], LOWER_ORDER
    chosen: Starter = starter_by_name(request.starter)
    moves = np.concatenate([[0], np.cumsum(np.diff(positions) != 0.0)])
    plan = chosen.plan(positions[np.concatenate([[True], np.diff(positions) != 0.0])])
    return plan, [plan.steps - 1 + chosen.evaluations * int(n) for n in moves], chosen.name
