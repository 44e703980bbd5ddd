"""The march of `vsvf.sample` and `vsvf.invert`, turned inside out: it asks for one slope at a time and waits.

diffusers calls the network itself and hands its output to a scheduler. So the rows of a plan are run here up to the next state
whose slope some row needs; that state goes out, its slope comes in. Same plans, same registers, same order: same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vsvf.engine.floating import FLOATS, FloatRegister, name_of
from vsvf.engine.integers import FixedRegister, quantised
from vsvf.engine.register import Register
from vsvf.errors import NonFiniteError, StateFileError
from vsvf.fixed import Fixed, plan_bits
from vsvf.formula import Formula
from vsvf.grid import Grid
from vsvf.plan import Plan
from vsvf.schedule import Schedule
from vsvf.starter import LOWER_ORDER, Starter, lower_order_plan, starter_by_name
from vsvf.state import Record, State

Array = np.ndarray


@dataclass(frozen=True)
class Phase:
    """One run of the engine: the starter's rows, or the formula's.

    Attributes:
        rows: in marching order, in the scale of the states.
        script: what happens in which order, ("slope", s) for a slope that is needed and ("row", m) for a row that is formed.
        targets: which of the states, in order, make the next phase's first window.
    """

    rows: Plan
    script: tuple[tuple[str, int], ...]
    targets: tuple[int, ...] = ()

    @property
    def asked(self) -> list[int]:
        """The states whose slopes are needed, in order."""
        return [n for kind, n in self.script if kind == "slope"]


def script_of(rows: Plan, known: set[int]) -> tuple[tuple[str, int], ...]:
    """The order in which `march` takes slopes and forms rows, when the slopes of the states `known` are there already."""
    known = set(known)
    script: list[tuple[str, int]] = []
    for m in range(rows.rows):
        for j in range(rows.steps, 0, -1):
            s = rows.steps + m - j
            if rows.c[m, j] != 0.0 and s not in known:
                script.append(("slope", s))
                known.add(s)
        script.append(("row", m))
    return tuple(script)


class SteppedMarch:
    """Sampling or inversion along a whole grid, one evaluation of the network at a time.

    Args:
        formula, grid, schedule: as in `vsvf.sample`; the schedule gives alpha, the scale of the states.
        inverse: march from data to noise.
        starter: as in `vsvf.sample`; not used with `given`, nor by one-step and coupled methods.
        given: the k states to go on from, instead of one state and a starter.
        arithmetic: of the states, "float16", "bfloat16", "float32", "float64" or "fixed"; None: that of the first state (or of
            the given ones).

    Raises:
        ValueError: a formula that cannot be stepped with one evaluation at a time, an unknown arithmetic, or one that differs
            from the given states'. StateFileError: `given` is another plan's.
    """

    def __init__(
        self,
        formula: Formula,
        grid: Grid,
        schedule: Schedule,
        *,
        inverse: bool = False,
        starter: str | Starter = "ddim",
        given: State | None = None,
        arithmetic: str | None = None,
    ) -> None:
        have = given.record.arithmetic if given is not None else None
        if arithmetic is not None and arithmetic not in (*FLOATS, "fixed"):
            raise ValueError(f"arithmetic={arithmetic!r} is not known; choose one of {', '.join(FLOATS)}, fixed")
        if have is not None and arithmetic not in (None, have):
            raise ValueError(f"the state holds {have} numbers, arithmetic={arithmetic!r} would change them")
        self.formula, self.grid, self.schedule, self.inverse, self.given = formula, grid, schedule, inverse, given
        self.arithmetic = arithmetic or have
        self.plan = plan = formula.plan(grid)
        check_steppable(plan, inverse)
        if given is not None and given.record.fingerprint != plan.fingerprint:
            raise StateFileError(
                f"the state belongs to {given.record.formula} on another grid or with other parameters, not to {plan.name} on "
                f"{grid}: take the number of steps, the formula and the spacing that made it"
            )
        self.window = given.record.window if given is not None else (plan.rows if inverse else 0)  # in sampling order
        rows = plan.inverse().between(plan.rows - self.window, plan.rows) if inverse else plan.between(self.window, plan.rows)
        self.starter = ""
        self.phases: list[Phase] = []
        known: set[int] = set()
        if given is None and not np.all(rows.position[: rows.steps] == rows.position[0]):
            first = self._starting_phase(rows.position[: rows.steps], starter)
            known = {first.targets.index(s) for s in first.asked if s in first.targets}
            self.phases.append(first)
        elif given is None and rows.steps > 1:
            self.starter = "copy"
        rows = rows.rescaled(schedule.alpha_at(rows.node))
        self.phases.append(Phase(rows, script_of(rows, known)))
        self.levels = np.array([phase.rows.node[s] for phase in self.phases for s in phase.asked])
        self._plan_bits()
        self.nfe = 0
        self.phase = -1
        self.register: Register | None = None

    def _plan_bits(self) -> None:
        """In fixed-point arithmetic, the scales of all states."""
        self.bits = None
        if self.arithmetic == "fixed":
            alpha = self.schedule.alpha_at(self.plan.node)
            extra: dict[str, Any] = {} if self.given is None else self.given.record.extra
            self.fixed = Fixed(extra.get("fraction_bits"), extra.get("data_range", 1.0))
            self.whole = self.plan.rescaled(alpha)
            self.bits = plan_bits(self.whole, alpha, self.fixed)

    def _starting_phase(self, positions: Array, starter: str | Starter) -> Phase:
        """As in `vsvf.sample`: the starter's plan, and which of its states make the first window."""
        count = len(positions)
        if starter == LOWER_ORDER:
            if self.inverse:
                raise ValueError("starter='lower_order' starts sampling only; choose 'ddim', 'heun' or 'rk4'")
            plan = lower_order_plan(self.formula, positions, self.grid.alpha[::-1][:count])
            targets, self.starter = [count - 2 + n for n in range(count)], LOWER_ORDER
        else:
            chosen = starter_by_name(starter)
            plan = chosen.plan(positions)
            targets, self.starter = [plan.steps - 1 + chosen.evaluations * n for n in range(count)], chosen.name
        plan = plan.rescaled(self.schedule.alpha_at(plan.node))
        return Phase(plan, script_of(plan, set()), tuple(targets))

    # ---- where it stands -----------------------------------------------------------------------------------

    @property
    def begun(self) -> bool:
        """Whether the first state is there."""
        return self.register is not None

    @property
    def done(self) -> bool:
        """Whether every row is formed."""
        return self.phase == len(self.phases) - 1 and self.at == len(self.phases[-1].script)

    @property
    def level(self) -> float:
        """sigma_bar at the state whose slope is asked for."""
        return float(self.levels[self.nfe])

    @property
    def x(self) -> torch.Tensor:
        """The state whose slope is asked for, or at the end the image (or noise); a copy, x = alpha x_bar."""
        assert self.register is not None
        return self.state().x.clone() if self.done else self.register.state(self._asked).clone()

    @property
    def _asked(self) -> int:
        return self.phases[self.phase].script[self.at][1]

    # ---- moving --------------------------------------------------------------------------------------------

    def begin(self, x: torch.Tensor | None = None) -> None:
        """Take the first state (B, …), x = alpha x_bar, or the given ones, and run up to the first slope that is needed."""
        if self.given is not None:
            values = self.given.values.flip(0) if self.inverse else self.given.values
        else:
            assert x is not None
            self.arithmetic = self.arithmetic or name_of(x.dtype)
            values = self._rounded(x.to(self.dtype), 0).expand(self.phases[0].rows.steps, *x.shape)
        self._enter(0, values)
        self._run()

    @property
    def dtype(self) -> torch.dtype:
        """Of the states, as the network sees them."""
        return FLOATS.get(str(self.arithmetic), torch.float64)

    def _rounded(self, x: torch.Tensor, n: int) -> torch.Tensor:
        """As in `vsvf.sample`: in fixed-point arithmetic a first state is rounded at once, so that slopes belong to it."""
        if self.bits is None:
            return x
        return quantised(x, float(self.bits.exponents[self.window + (self.plan.steps - 1 - n if self.inverse else n)]))

    def replace(self, x: torch.Tensor) -> None:
        """Put another value in the place of the state whose slope is asked for (a pipeline that edits its latents)."""
        assert self.register is not None
        self.register.put(self._asked, x)
        self._keep(self._asked)

    def give(self, slope: torch.Tensor) -> None:
        """Take the slope asked for, and run up to the next one, or to the end.

        Raises:
            NonFiniteError: a slope, or at the end a state, that is not finite.
        """
        assert self.register is not None
        if not bool(torch.isfinite(slope).all()):
            raise NonFiniteError(
                f"{self.plan.name}: the prediction at sigma_bar = {self.level:.6g} (evaluation {self.nfe + 1}) is not finite"
            )
        s = self._asked
        self.register.put_slope(s, slope)
        targets = self.phases[self.phase].targets
        if s in targets:
            self.slopes[targets.index(s)] = slope.clone()
        self.nfe += 1
        self.at += 1
        self._run()
        if self.done and not bool(torch.isfinite(self._window()).all()):
            why = "see vsvf.stability(formula, grid)"
            raise NonFiniteError(f"{self.plan.name}: the states overflowed {self.arithmetic}; {why}")

    def _enter(self, phase: int, first: torch.Tensor) -> None:
        self.phase, self.at = phase, 0
        if self.bits is not None and phase == len(self.phases) - 1:
            low, high = (0, self.window) if self.inverse else (self.window, self.plan.rows)
            tape = {} if self.given is None else self.given.tape
            self.register = FixedRegister(self.whole, self.bits, low, high, first, not self.inverse, tape)
        else:
            self.register = FloatRegister(self.phases[phase].rows, first, self.dtype)
        self.kept: dict[int, torch.Tensor] = {}
        self.slopes: dict[int, torch.Tensor] = {}
        self._keep(self.phases[phase].rows.steps - 1)

    def _run(self) -> None:
        assert self.register is not None
        phase = self.phases[self.phase]
        while self.at < len(phase.script) and phase.script[self.at][0] == "row":
            m = phase.script[self.at][1]
            self.register.advance(m)
            self._keep(phase.rows.steps + m)
            self.at += 1
        if self.at == len(phase.script) and self.phase < len(self.phases) - 1:
            first, slopes = torch.stack([self.kept[s] for s in phase.targets]), self.slopes
            self._enter(self.phase + 1, first)
            for s, slope in sorted(slopes.items()):
                self.register.put_slope(s, slope)
            self._run()

    def _keep(self, s: int) -> None:
        targets = self.phases[self.phase].targets
        if s in targets:
            assert self.register is not None
            self.kept[s] = self._rounded(self.register.state(s).clone(), targets.index(s))
            self.register.put(s, self.kept[s])

    # ---- the states ----------------------------------------------------------------------------------------

    def _rows_done(self) -> int:
        return sum(kind == "row" for kind, _ in self.phases[-1].script[: self.at])

    def _window(self) -> torch.Tensor:
        """The k newest states, in sampling order."""
        assert self.register is not None
        values = self.register.window(self._rows_done())
        return values.flip(0) if self.inverse else values

    def state(self) -> State:
        """The k newest states, as `vsvf.sample` and `vsvf.invert` return them.

        Raises:
            ValueError: before the starter is done, or within a step of a coupled method.
        """
        plan = self.plan
        if not self.begun or self.phase < len(self.phases) - 1:
            raise ValueError(f"{plan.name} does not have its {plan.steps} states yet: the starter is not done")
        end = self.window - self._rows_done() if self.inverse else self.window + self._rows_done()
        image = plan.first if self.inverse else plan.last
        if (end + image) % plan.rows_per_step:
            raise ValueError(f"{plan.name} stands within a step (row {end}, {plan.rows_per_step} rows a step): step once more")
        record = Record(
            formula=plan.name,
            fingerprint=plan.fingerprint,
            window=end,
            node=self.grid.steps - (end + image) // plan.rows_per_step,
            sigma_bar=float(plan.position[end + image]),
            direction="inversion" if self.inverse else "sampling",
            image=image,
            arithmetic=str(self.arithmetic),
            starter=self.starter,
            nfe=self.nfe,
            extra={} if self.bits is None else self._scales(end),
        )
        return State(self._window(), record, dict(self.register.tape) if isinstance(self.register, FixedRegister) else {})

    def _scales(self, end: int) -> dict[str, Any]:
        assert self.bits is not None
        exponents = self.bits.exponents[end : end + self.plan.steps].tolist()
        return {
            "fraction_bits": self.bits.fraction_bits,
            "data_range": self.fixed.data_range,
            "exponents": exponents,
            "key": self.bits.key,
        }


def check_steppable(plan: Plan, inverse: bool) -> None:
    """Whether a march in this direction evaluates the network once per state, and then only at states that are known.

    Raises:
        ValueError: implicit rows, or an inversion that is iterative.
    """
    if not inverse and not plan.explicit:
        raise ValueError(
            f"{plan.name} is implicit: its steps iterate, which a scheduler cannot do with one evaluation each; use vsvf.sample"
        )
    if inverse and not plan.backward_explicit:
        raise ValueError(
            f"{plan.name} is not backward explicit: its exact inversion iterates, which a scheduler cannot do with one "
            "evaluation per step; use a BELM formula, vsvf.invert, or diffusers' DDIMInverseScheduler (approximate)"
        )
