"""`sample` and `invert`: what users call. They turn arguments into a plan, a first window and a run of the engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from vsvf import formulas
from vsvf.arithmetic import FLOATS, FloatRegister, all_finite, name_of
from vsvf.determinism import Verified
from vsvf.errors import NonFiniteError, StateFileError, ZeroStabilityWarning
from vsvf.fixed import BitPlan, Fixed, FixedRegister, decoded, encoded, plan_bits
from vsvf.formula import Formula
from vsvf.grid import Grid
from vsvf.iteration import Iteration
from vsvf.march import Evaluator, Step, march
from vsvf.path import invert_path
from vsvf.plan import Plan
from vsvf.predictors.base import Predictor
from vsvf.register import Register
from vsvf.starter import LOWER_ORDER, Starter, lower_order_plan, starter_by_name
from vsvf.state import Record, State
from vsvf.theory.stability import stability

Array = np.ndarray


def sample(
    predictor: Predictor,
    x: torch.Tensor | State,
    grid: Grid,
    formula: Formula | str,
    *,
    starter: str | Starter = "ddim",
    arithmetic: str | Fixed | None = None,
    stop: int = 0,
    tolerance: float | None = None,
    max_iterations: int = 100,
    callback: Callable[[Step], None] | None = None,
    verify: bool = False,
    progress: bool = False,
    warn: bool = True,
) -> State:
    """Sample: march from noise (index N) towards data (index `stop`).

    Args:
        predictor: gives eps and the scale of x.
        x: noise x_N, (B, …), with variance alpha^2 + sigma^2 in the predictor's scale; or a `State` to go on from, such as the
            result of `invert`.
        grid: the nodes.
        formula: a formula or its name, for instance "belm(2)".
        starter: how the other k-1 first states are made from one: "ddim", "heun", "rk4", sub-stepped "rk4:8", or "lower_order"
            (the same family's formulas with fewer steps). Not used when x is a `State`, or by one-step and coupled methods.
        arithmetic: "float16", "bfloat16", "float32" or "float64" for states and slopes, whatever the predictor computes in;
            "fixed" (or a `Fixed`) for integers, with which inversion returns every bit; default: that of x.
        stop: node index to stop at; 0 is the data end. (The first k states reach k-1 nodes down already.)
        tolerance: relative change at which implicit rows count as solved; default 1e-10, or 16 units of rounding of the
            state's or the predictor's precision where that is more.
        max_iterations: cap of their fixed-point iteration.
        callback: called with a `Step` after every row (after every sweep, of `max_iterations`, where the path is swept).
        verify: evaluate eps twice at every state and compare the bits: exactness needs a deterministic predictor.
        progress: show a progress bar.
        warn: examine the formula on the grid and warn, once, if it amplifies perturbations without bound.

    Returns:
        A `State`: `.x` the image (B, …), `.nfe` the number of evaluations of eps, and the k states that exact inversion needs.

    Raises:
        ValueError, TypeError: an argument that does not fit, named.
        NonFiniteError, ConvergenceError, FixedPointOverflowError, DeterminismError: while marching, with the step.
    """
    run = _Run(predictor, x, grid, formula, "sampling", arithmetic, stop, tolerance, max_iterations, starter)
    if warn:
        _warn_if_unsafe(run)
    return run.march(starter, callback, verify, progress)


def invert(
    predictor: Predictor,
    x: torch.Tensor | State,
    grid: Grid,
    formula: Formula | str,
    *,
    starter: str | Starter = "ddim",
    arithmetic: str | Fixed | None = None,
    stop: int | None = None,
    tolerance: float | None = None,
    max_iterations: int = 100,
    nodes_per_call: int | None = None,
    callback: Callable[[Step], None] | None = None,
    verify: bool = False,
    progress: bool = False,
    warn: bool = True,
) -> State:
    """Invert: march from data (index 0) towards noise (index `stop`, default N), along the relations that sampling used.

    A backward explicit formula is inverted exactly, row by row. A one-step formula that is not (DDIM, the trapezoidal rule) is
    inverted by a fixed-point iteration per row; any other by sweeps over the whole path (`vsvf.path`), which hold N states
    and may not converge.

    Args:
        x: an image x_0, (B, …), in the predictor's scale; or a `State` that `sample` returned: its k states are then the first,
            and a bidirectionally explicit formula retraces its steps. (A single image leaves k-1 states to the starter.)
        starter: as in `sample`, here from the image upwards; for an inversion by sweeps, the starter that sampling would use.
        nodes_per_call: in sweeps, how many states are given to the network at once; default all N.
        predictor, grid, formula, arithmetic, stop, tolerance, max_iterations, callback, verify, progress, warn:
            as in `sample`.

    Returns:
        A `State` at the noise end: `.x` the noise, `.record.residual` the last relative change where an iteration was needed.

    Raises:
        ValueError, TypeError: an argument that does not fit, named.
        NonFiniteError: a prediction that is not finite. ConvergenceError: the iteration did not reach its tolerance.
    """
    _check_types(predictor, grid)
    stop = grid.steps if stop is None else stop
    run = _Run(predictor, x, grid, formula, "inversion", arithmetic, stop, tolerance, max_iterations, starter)
    if run.by_sweeps:
        return run.sweep(starter, nodes_per_call, callback, progress)
    if warn:
        _warn_if_unsafe(run)
    return run.march(starter, callback, verify, progress)


def integrate(
    predictor: Predictor,
    x: torch.Tensor,
    nodes: Any,
    method: str | Starter = "ddim",
    *,
    arithmetic: str | None = None,
    progress: bool = False,
) -> tuple[torch.Tensor, int]:
    """Integrate the ODE along `nodes`, up or down, with a Runge-Kutta method: no multistep formula, no inversion of one.

    Upwards with "ddim" this is "DDIM inversion", equation (8) of the paper, x_bar_i = x_bar_{i-1} + h_i eps_bar_{i-1}: another
    relation than the one DDIM samples with, hence inexact. With "rk4:4" on a fine grid it gives reference solutions.

    Args:
        predictor: gives eps and the scale of x.
        x: (B, …) at nodes[0], in the predictor's scale.
        nodes: values of sigma_bar, strictly monotone, for instance `grid.sigma_bar` (upwards) or `grid.sigma_bar[::-1]`.
        method: "ddim", "heun", "rk4", or one of these with sub-steps per interval ("rk4:4").
        arithmetic: as in `sample`. progress: show a progress bar.

    Returns:
        x at nodes[-1], and the number of evaluations of eps.
    """
    _check_types(predictor)
    if not isinstance(x, torch.Tensor) or x.ndim < 2 or not x.is_floating_point() or x.numel() == 0:
        raise ValueError("x must be a floating tensor (B, …) that is not empty")
    if not all_finite(x):
        raise ValueError("x has entries that are not finite")
    positions = np.asarray(nodes, dtype=np.float64)
    moves = np.diff(positions)
    if positions.ndim != 1 or len(positions) < 2 or not (np.all(moves > 0) or np.all(moves < 0)):
        raise ValueError("nodes must be at least 2 values of sigma_bar, strictly increasing or strictly decreasing")
    arithmetic = name_of(x.dtype) if arithmetic is None else arithmetic
    if arithmetic not in FLOATS:
        raise ValueError(f"arithmetic={arithmetic!r} is not known; choose one of {', '.join(FLOATS)}")
    rows = starter_by_name(method).plan(positions)
    rows = rows.rescaled(predictor.alpha(rows.node))
    register = FloatRegister(rows, x.expand(rows.steps, *x.shape), FLOATS[arithmetic])
    evaluate = Evaluator(predictor, rows)
    with _bar(rows.rows, f"{rows.name}", progress) as bar:
        march(rows, register, evaluate, Iteration(1.0, 1), lambda s: bar.update() if bar is not None else None)
    return register.state(rows.rows + rows.steps - 1).clone(), evaluate.nfe


def _check_types(predictor: Any, grid: Any = None) -> None:
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


_examined: set[tuple[str, str]] = set()
_warned: set[tuple[str, str]] = set()


def _warn_if_unsafe(run: _Run) -> None:
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


class _Run:
    """One call of `sample` or `invert`, its arguments checked."""

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
        _check_types(predictor, grid)
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

    def march(
        self, starter: str | Starter, callback: Callable[[Step], None] | None, verify: bool, progress: bool
    ) -> State:
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
        with _bar(rows.rows, f"{self.formula.name} {self.direction}", progress) as bar:

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
        with _bar(self.iteration.cap, f"{plan.name} inversion, sweeps", progress) as bar:

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
def _bar(total: int, label: str, shown: bool) -> Iterator[Any]:
    """A tqdm progress bar, or None."""
    if not shown:
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=label, leave=False) as bar:
        yield bar
