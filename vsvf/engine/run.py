"""One call of `sample` or `invert`: arguments checked, turned into a plan, a first window and a run of the engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from vsvf import formulas
from vsvf.engine.determinism import Verified
from vsvf.engine.floating import FLOATS, FloatRegister, all_finite, name_of
from vsvf.engine.integers import FixedRegister, decoded, encoded
from vsvf.engine.iteration import Iteration
from vsvf.engine.march import Evaluator, Step, march
from vsvf.engine.path import invert_path
from vsvf.engine.register import Register
from vsvf.errors import NonFiniteError, StateFileError, ZeroStabilityWarning
from vsvf.fixed import BitPlan, Fixed, plan_bits
from vsvf.formula import Formula
from vsvf.grid import Grid
from vsvf.plan import Plan
from vsvf.predictors.base import Predictor
from vsvf.stability.report import stability
from vsvf.starter import LOWER_ORDER, Starter, lower_order_plan, starter_by_name
from vsvf.state import Record, State

Array = np.ndarray

_examined: set[tuple[str, str]] = set()
_warned: set[tuple[str, str]] = set()


def warn_if_unsafe(run: Run) -> None:
    """Examine a formula and a grid once; warn once per formula and direction when a march amplifies perturbations without bound."""
    name, direction = run.formula.name, run.direction
    key = (run.plan.fingerprint, direction)
    if key in _examined or (name, direction) in _warned:
        return
    _examined.add(key)
    report = stability(run.formula, run.grid)
    if report.unsafe(direction):
        _warned.add((name, direction))
        warnings.warn(f"{name} on {run.grid}: {report.sentence}", ZeroStabilityWarning, stacklevel=3)


def check_types(predictor: Any, grid: Any = None) -> None:
    if not isinstance(predictor, Predictor):
        raise TypeError(
            f"predictor must be a vsvf.predictors.Predictor, got {type(predictor).__name__}; wrap a callable(x, t) as "
            "Predictor(callable, schedule, kind=…)"
        )
    if grid is not None and not isinstance(grid, Grid):
        raise TypeError(f"grid must be a vsvf.Grid, got {type(grid).__name__}")


def default_tolerance(dtype: torch.dtype, predictor_dtype: torch.dtype | None) -> float:
    """1e-10, or 16 units of rounding of the coarser of the two precisions where that is more."""
    coarsest = max(torch.finfo(d).eps for d in (dtype, predictor_dtype or dtype))
    return max(1e-10, 16.0 * coarsest)


class Run:
    """One call of `sample` or `invert`, its arguments checked (they are those of the two functions)."""

    def __init__(
        self,
        predictor: Predictor,
        x: torch.Tensor | State,
        grid: Grid,
        formula: Formula | str,
        direction: str,
        arithmetic: str | Fixed | None,
        stop: int,
        tolerance: float | None,
        max_iterations: int,
        starter: str | Starter,
    ) -> None:
        check_types(predictor, grid)
        self.formula = formulas.by_name(formula) if isinstance(formula, str) else formula
        if not isinstance(self.formula, Formula):
            raise TypeError(f"formula must be a formula or its name, got {type(formula).__name__}")
        self.predictor, self.grid, self.direction = predictor, grid, direction
        self.sampling = direction == "sampling"
        self.plan = self.formula.plan(grid)
        self.given = x if isinstance(x, State) else None
        tensor = x.values if isinstance(x, State) else x
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"x must be a tensor or a State, got {type(x).__name__}")
        if self.given is None and (tensor.ndim < 2 or not tensor.is_floating_point() or tensor.numel() == 0):
            raise ValueError(
                f"x must be a floating tensor (B, …) that is not empty, got {tensor.dtype} of shape {tuple(tensor.shape)}"
            )
        if not all_finite(tensor):
            raise ValueError("x has entries that are not finite")
        self.tensor = tensor
        self._set_arithmetic(arithmetic)
        if tolerance is None:
            tolerance = default_tolerance(self.dtype, predictor.dtype)
        if not tolerance > 0.0:
            raise ValueError(f"tolerance must be positive, got {tolerance}")
        if max_iterations < 1:
            raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
        self.iteration = Iteration(float(tolerance), int(max_iterations))
        self.stop = stop
        self._set_windows()
        if starter != LOWER_ORDER:
            starter_by_name(starter)  # checked even where none is needed

    def _set_arithmetic(self, arithmetic: str | Fixed | None) -> None:
        """The number format: that asked for, else that of the state or of x. A state is never converted."""
        asked = "fixed" if isinstance(arithmetic, Fixed) else arithmetic
        have = self.given.record.arithmetic if self.given is not None else None
        self.arithmetic = asked or have or name_of(self.tensor.dtype)
        if self.arithmetic not in (*FLOATS, "fixed"):
            raise ValueError(f"arithmetic={self.arithmetic!r} is not known; choose one of {', '.join(FLOATS)}, fixed")
        if have is not None and have != self.arithmetic:
            raise ValueError(f"the state holds {have} numbers, arithmetic={self.arithmetic!r} would change them: leave it out")
        wanted = FLOATS.get(self.arithmetic, torch.int64)
        if have is not None and self.tensor.dtype != wanted:
            raise ValueError(
                f"the state's values are {name_of(self.tensor.dtype)}, but a state of {have} numbers holds {name_of(wanted)}: "
                "they were converted; take the state as it was returned or loaded"
            )
        self.fixed = arithmetic if isinstance(arithmetic, Fixed) else Fixed() if self.arithmetic == "fixed" else None
        if self.given is not None and self.fixed is not None:
            kept = Fixed(self.given.record.extra["fraction_bits"], self.given.record.extra["data_range"])
            asked_bits = self.fixed.fraction_bits
            same = asked_bits in (None, kept.fraction_bits) and self.fixed.data_range == kept.data_range
            if isinstance(arithmetic, Fixed) and not same:
                raise ValueError(f"the state was made with {kept}, not {arithmetic}: leave arithmetic out")
            self.fixed = kept
        self.dtype = FLOATS.get(self.arithmetic, torch.float64)

    @property
    def by_sweeps(self) -> bool:
        """Whether this inversion has no row-by-row form."""
        if self.plan.backward_explicit or (self.plan.steps == 1 and self.plan.backward_solvable):
            return False
        if not np.any(self.plan.c[:, -1]):
            raise ValueError(
                f"{self.plan.name} cannot be inverted: a_{self.plan.steps} = 0, its rows forget their oldest state (take gamma > 0 "
                "in BDIA, p > 0 in EDICT, coupling > 0 in McCallum-Foster)"
            )
        return True

    def _set_windows(self) -> None:
        """The windows (K consecutive states, numbered along sampling) where the march starts and stops."""
        plan, steps = self.plan, self.grid.steps
        if isinstance(self.stop, bool) or not isinstance(self.stop, (int, np.integer)) or not 0 <= self.stop <= steps:
            raise ValueError(f"stop must be a node index from 0 to {steps}, got {self.stop!r}")
        offset = plan.last if self.sampling else plan.first
        self.end = plan.rows_per_step * (steps - int(self.stop)) - offset
        self.start = 0 if self.sampling else plan.rows
        if self.given is not None:
            record = self.given.record
            if record.fingerprint != plan.fingerprint:
                raise StateFileError(
                    f"the state belongs to {record.formula} on another grid or with other parameters, not to {plan.name} on "
                    f"{self.grid}: a state only marches on with the formula and the nodes that made it"
                )
            if len(self.given.values) != plan.steps:
                raise StateFileError(f"the state holds {len(self.given.values)} states, {plan.name} needs {plan.steps}")
            self.start = record.window
        if self.sampling:
            self.end = max(self.end, self.start) if self.given is None else self.end
            wrong = self.end < self.start
        else:
            self.end = min(self.end, self.start) if self.given is None else self.end
            wrong = self.end > self.start
        if wrong:
            stands = self.given.record.node if self.given is not None else self.start
            raise ValueError(f"stop={self.stop} lies behind the state, which stands at node {stands}")

    # ---- marching ------------------------------------------------------------------------------------------

    def march(self, starter: str | Starter, callback: Callable[[Step], None] | None, verify: bool, progress: bool) -> State:
        plan, steps = self.plan, self.plan.steps
        low, high = min(self.start, self.end), max(self.start, self.end)
        rows = plan.between(low, high)
        if not self.sampling:
            rows = rows.inverse()
        rows = rows.rescaled(self.predictor.alpha(rows.node))
        slopes: dict[int, torch.Tensor] = {}
        bits = None
        if self.fixed is not None:
            alpha = self.predictor.alpha(plan.node)
            whole = plan.rescaled(alpha)
            bits = plan_bits(whole, alpha, self.fixed)
            if self.given is not None and not self._same_scale(self.given.record, bits):
                raise StateFileError(
                    f"the state's integers have another scale than {plan.name} has here: they were made under another schedule "
                    "(another alpha), or by another version; a state only marches on with the predictor that made it"
                )
        if self.given is not None:
            first, used, nfe = self._in_marching_order(self.given.values), "", 0
        else:
            exponents = None if bits is None else bits.exponents[self.start : self.start + steps][:: 1 if self.sampling else -1]
            first, slopes, used, nfe = self._start(rows, starter, exponents, verify)
        register: Register
        if bits is None:
            register = FloatRegister(rows, first, self.dtype)
        else:
            kept = {} if self.given is None else self.given.tape
            register = FixedRegister(whole, bits, low, high, first, self.sampling, kept)
        for s, slope in sorted(slopes.items()):
            register.put_slope(s, slope)
        evaluator = Evaluator(self.predictor, rows, nfe)
        evaluate = Verified(evaluator) if verify else evaluator
        with progress_bar(rows.rows, f"{self.formula.name} {self.direction}", progress) as bar:

            def after(s: int) -> None:
                if callback is not None:
                    done = s - steps + 1
                    callback(Step(done, rows.rows, float(rows.position[s]), register.state(s), evaluate.nfe))
                if bar is not None:
                    bar.update()

            march(rows, register, evaluate, self.iteration, after)
        values = self._in_marching_order(register.window(rows.rows))
        if not all_finite(values):
            raise NonFiniteError(
                f"{plan.name}: the states overflowed {self.arithmetic} during {self.direction}; see vsvf.stability(formula, grid)"
            )
        if bits is None or self.fixed is None:
            return self._state(values, used, evaluate.nfe, 0.0)
        extra = {
            "fraction_bits": bits.fraction_bits,
            "data_range": self.fixed.data_range,
            "exponents": bits.exponents[self.end : self.end + steps].tolist(),
            "key": bits.key,
        }
        tape = register.tape if isinstance(register, FixedRegister) else {}
        return self._state(values, used, evaluate.nfe, 0.0, extra, tape)

    def _same_scale(self, record: Record, bits: BitPlan) -> bool:
        """Whether a state's integers mean here what they meant where they were made."""
        exponents = bits.exponents[self.start : self.start + self.plan.steps].tolist()
        return record.extra["exponents"] == exponents and record.extra.get("key", bits.key) == bits.key

    def _in_marching_order(self, values: torch.Tensor) -> torch.Tensor:
        """Windows are kept in sampling order; inversion marches through them backwards."""
        return values if self.sampling else values.flip(0)

    def _start(
        self, rows: Plan, starter: str | Starter, exponents: Array | None, verify: bool = False
    ) -> tuple[torch.Tensor, dict[int, torch.Tensor], str, int]:
        """The first window from one state, the slopes found on the way, the starter's name, and its evaluations.

        With fixed-point exponents of the window, states are rounded as soon as they are found, so that slopes belong to them.
        """
        steps = rows.steps
        positions = rows.position[:steps]

        window: dict[int, torch.Tensor] = {}

        def kept(x: torch.Tensor, n: int) -> torch.Tensor:
            """Keep state n of the window as the march will, and return what it will give to the predictor."""
            if exponents is None:
                window[n] = x
                return x
            window[n] = encoded(x, float(exponents[n]), f"{rows.name}: state {n} of the march")
            return decoded(window[n], float(exponents[n]))

        x = kept(self.tensor.to(self.dtype), 0)
        if np.all(positions == positions[0]):
            return x.expand(steps, *x.shape), {}, "" if steps == 1 else "copy", 0
        plan, targets, name = self._starter_plan(starter, positions)
        plan = plan.rescaled(self.predictor.alpha(plan.node))
        register = FloatRegister(plan, x.expand(plan.steps, *x.shape), self.dtype)
        evaluator = Evaluator(self.predictor, plan)
        checked = Verified(evaluator, f"the starter {name}") if verify else evaluator
        slopes: dict[int, torch.Tensor] = {}

        def evaluate(at: torch.Tensor, s: int) -> torch.Tensor:
            if exponents is not None:
                at = at.clone()  # aligned in memory as the register's states are: some networks' bits depend on it
            slope = checked(at, s)
            if s in targets:
                slopes[targets.index(s)] = slope.clone()
            return slope

        def after(s: int) -> None:
            if s in targets:
                register.put(s, kept(register.state(s).clone(), targets.index(s)))

        march(plan, register, evaluate, self.iteration, after)
        return torch.stack([window[n] for n in range(steps)]), slopes, name, evaluator.nfe

    def _starter_plan(self, starter: str | Starter, positions: Array) -> tuple[Plan, list[int], str]:
        """The starter's plan, the indices of its states that make the first window, and its name."""
        if starter == LOWER_ORDER:
            if not self.sampling and not self.by_sweeps:
                raise ValueError("starter='lower_order' starts sampling only; choose 'ddim', 'heun' or 'rk4'")
            count = len(positions)
            plan = lower_order_plan(self.formula, positions, self.grid.alpha[::-1][:count])
            return plan, [count - 2 + n for n in range(count)], LOWER_ORDER
        chosen = starter_by_name(starter)
        plan = chosen.plan(positions)
        return plan, [plan.steps - 1 + chosen.evaluations * n for n in range(len(positions))], chosen.name

    # ---- sweeping ------------------------------------------------------------------------------------------

    def sweep(
        self,
        starter: str | Starter,
        nodes_per_call: int | None,
        callback: Callable[[Step], None] | None,
        progress: bool,
    ) -> State:
        plan = self.plan
        if self.fixed is not None:
            plan_bits(plan, self.predictor.alpha(plan.node), self.fixed)  # which refuses it, with the reason
        if self.stop != self.grid.steps or self.start != plan.rows:
            raise ValueError(f"{plan.name} is inverted as a whole path: stop must be N = {self.grid.steps}, from the data end")
        if plan.steps > 1:
            starting, _, used = self._starter_plan(starter, plan.position[: plan.steps])
        else:
            starting, used = None, ""
        x = self.given.x if self.given is not None else self.tensor
        with progress_bar(self.iteration.cap, f"{plan.name} inversion, sweeps", progress) as bar:

            def after(sweep: int, noise: torch.Tensor, nfe: int) -> None:
                if callback is not None:
                    callback(Step(sweep, self.iteration.cap, float(plan.position[0]), noise, nfe))
                if bar is not None:
                    bar.update()

            values, nfe, residual = invert_path(
                self.predictor, x, plan, starting, self.iteration, self.dtype, nodes_per_call, after
            )
        return self._state(values, used, nfe, residual)

    def _state(
        self,
        values: torch.Tensor,
        starter: str,
        nfe: int,
        residual: float,
        extra: dict[str, Any] | None = None,
        tape: dict[int, torch.Tensor] | None = None,
    ) -> State:
        plan = self.plan
        image = plan.last if self.sampling else plan.first
        node = self.grid.steps - (self.end + image) // plan.rows_per_step
        record = Record(
            formula=plan.name,
            fingerprint=plan.fingerprint,
            window=self.end,
            node=node,
            sigma_bar=float(plan.position[self.end + image]),
            direction=self.direction,
            image=image,
            arithmetic=self.arithmetic,
            starter=starter,
            nfe=nfe,
            residual=residual,
            extra=extra or {},
        )
        return State(values, record, tape or {})


@contextmanager
def progress_bar(total: int, label: str, shown: bool) -> Iterator[Any]:
    """A tqdm progress bar, or None."""
    if not shown:
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=label, leave=False) as bar:
        yield bar
