"""What `sample`, `invert` and `steps` are asked for, checked. Every way in goes through here and refuses the same."""

from __future__ import annotations

import copy
import functools
import warnings
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vsvf import formulas
from vsvf.engine.floating import FLOATS, all_finite, name_of
from vsvf.engine.iteration import Iteration
from vsvf.errors import OtherAlphaWarning, StateFileError, ZeroStabilityWarning
from vsvf.fixed import BitPlan, Fixed
from vsvf.formula import Formula
from vsvf.grid import Grid
from vsvf.plan import Plan
from vsvf.stability import StabilityReport, stability
from vsvf.starter import LOWER_ORDER, Starter, starter_by_name
from vsvf.state import State

Array = np.ndarray


def whole_number(name: str, value: Any, low: int, high: int | None = None) -> int:
    """`value` as an int.

    Raises:
        TypeError: not a whole number. ValueError: outside low … high.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name} must be {f'from {low} to {high}' if high is not None else f'at least {low}'}, got {value}")
    return int(value)


class Request:
    """One march that is asked for.

    Args:
        x: one state (B, …), or a `State`. grid, formula, starter, arithmetic, stop, tolerance, max_iterations: as in
            `vsvf.sample`; `stop` None is the end of the grid.
        direction: "sampling" or "inversion".
        precision: the predictor's dtype, which bounds what an iteration can reach; None: that of the states.

    Attributes:
        plan: the formula's, in sampling order, for x_bar.
        start, end: the windows (K consecutive states, numbered along sampling) where the march starts and stops.
        dtype: of the states, as the predictor sees them. fixed: the configuration in fixed-point arithmetic, else None.

    Raises:
        ValueError, TypeError: an argument that does not fit, named. StateFileError: another plan's state.
    """

    def __init__(
        self,
        x: torch.Tensor | State,
        grid: Grid,
        formula: Formula | str,
        direction: str,
        *,
        starter: str | Starter = "ddim",
        arithmetic: str | Fixed | None = None,
        stop: int | None = None,
        tolerance: float | None = None,
        max_iterations: int = 100,
        precision: torch.dtype | None = None,
    ) -> None:
        if not isinstance(grid, Grid):
            raise TypeError(f"grid must be a vsvf.Grid, got {type(grid).__name__}")
        self.formula = _named(formula) if isinstance(formula, str) else formula
        if not isinstance(self.formula, Formula):
            raise TypeError(f"formula must be a formula or its name, got {type(formula).__name__}")
        if direction not in ("sampling", "inversion"):
            raise ValueError(f"direction must be 'sampling' or 'inversion', got {direction!r}")
        self.grid, self.direction, self.starter = grid, direction, starter
        self.sampling = direction == "sampling"
        self.plan: Plan = compiled(self.formula, grid)
        self.given = x if isinstance(x, State) else None
        self.tensor = _states(x)
        self._set_arithmetic(arithmetic)
        self.iteration = iteration(tolerance, max_iterations, self.dtype, precision)
        self.stop = whole_number("stop", (0 if self.sampling else grid.steps) if stop is None else stop, 0, grid.steps)
        self._set_windows()
        if starter != LOWER_ORDER:
            starter_by_name(starter)  # checked even where none is needed

    def with_x(self, x: torch.Tensor | State) -> Request:
        """The same request for another x."""
        other = copy.copy(self)
        other.given, other.tensor = (x, x.values) if isinstance(x, State) else (None, x)
        return other

    def _set_arithmetic(self, arithmetic: str | Fixed | None) -> None:
        """The number format: that asked for, else that of the state or of x. A state is never converted."""
        if not isinstance(arithmetic, (str, Fixed, type(None))):
            raise TypeError(f"arithmetic must be a name or a vsvf.Fixed, got {type(arithmetic).__name__}")
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
        self.dtype = FLOATS.get(self.arithmetic, torch.float64)
        self.fixed = arithmetic if isinstance(arithmetic, Fixed) else Fixed() if self.arithmetic == "fixed" else None
        scales = self.given.record.scales if self.given is not None else None
        if scales is not None:
            kept = Fixed(scales.fraction_bits, scales.data_range)
            same = asked != "fixed" or not isinstance(arithmetic, Fixed) or arithmetic in (kept, Fixed(None, kept.data_range))
            if not same:
                raise ValueError(f"the state was made with {kept}, not {arithmetic}: leave arithmetic out")
            self.fixed = kept

    def _set_windows(self) -> None:
        plan = self.plan
        self.start = 0 if self.sampling else plan.rows
        self.end = plan.window_at(self.stop, self.sampling)
        if self.given is None:
            return
        record = self.given.record
        if record.fingerprint != plan.fingerprint:
            raise StateFileError(
                f"the state belongs to {record.formula} on another grid or with other parameters, not to {plan.name} on "
                f"{self.grid}: a state only marches on with the formula and the nodes that made it"
            )
        if len(self.given.values) != plan.steps:
            raise StateFileError(f"the state holds {len(self.given.values)} states, {plan.name} needs {plan.steps}")
        self.start = record.window
        if self.end < self.start if self.sampling else self.end > self.start:
            raise ValueError(
                f"stop={self.stop} lies behind the state, which stands at node {record.node}: its {plan.steps} states reach "
                f"{self.direction} as far as node {plan.node_at(self.start, plan.last if self.sampling else plan.first)} already"
            )

    @property
    def by_sweeps(self) -> bool:
        """Whether this inversion has no row-by-row form.

        Raises:
            ValueError: it has no other form either.
        """
        plan = self.plan
        if self.sampling or plan.backward_explicit or (plan.steps == 1 and plan.backward_solvable):
            return False
        if not np.any(plan.c[:, -1]):
            raise ValueError(
                f"{plan.name} cannot be inverted: a_{plan.steps} = 0, its rows forget their oldest state (take gamma > 0 "
                "in BDIA, p > 0 in EDICT, coupling > 0 in McCallum-Foster)"
            )
        return True

    def steppable(self) -> None:
        """Whether the march evaluates the network once per state, and then only at states that are known.

        Raises:
            ValueError: implicit rows, or an inversion that is iterative.
        """
        plan = self.plan
        if self.sampling and not plan.explicit:
            raise ValueError(
                f"{plan.name} is implicit: its steps iterate, which cannot be done with one evaluation each; use vsvf.sample"
            )
        if not self.sampling and not plan.backward_explicit:
            raise ValueError(
                f"{plan.name} is not backward explicit: its exact inversion iterates, which cannot be done with one evaluation "
                "per step; use a BELM formula, vsvf.invert, or diffusers' DDIMInverseScheduler (approximate)"
            )

    def warn(self, stacklevel: int) -> None:
        """Warn when the march amplifies perturbations without bound, or its errors do."""
        report = _report(self.plan.fingerprint, self.formula, self.grid)
        if report.unsafe(self.direction) or (self.sampling and report.too_coarse):
            warnings.warn(f"{self.formula.name} on {self.grid}: {report.sentence}", ZeroStabilityWarning, stacklevel=stacklevel + 1)

    def warn_of_alpha(self, alpha: Callable[[Array], Array], stacklevel: int) -> None:
        """Warn when the grid's alpha is not the predictor's and the formula's coefficients depend on it."""
        grid, theirs = self.grid, alpha(self.grid.sigma_bar)
        if np.array_equal(grid.alpha, theirs) or np.allclose(grid.alpha, theirs, rtol=1e-6, atol=0.0):  # allclose is slow
            return
        if not np.all((theirs > 0.0) & np.isfinite(theirs)):
            return
        other = self.formula.plan(Grid(grid.sigma_bar, theirs))
        if not (np.allclose(other.a, self.plan.a, rtol=1e-6) and np.allclose(other.c, self.plan.c, rtol=1e-6)):
            warnings.warn(
                f"{self.formula.name} on {grid}: its coefficients depend on alpha, and the grid's alpha is not the predictor's; "
                "make the grid by Grid.from_schedule(predictor.schedule, …), or Grid.from_sigma_bar(nodes, predictor.alpha(nodes))",
                OtherAlphaWarning,
                stacklevel=stacklevel + 1,
            )


class _Keyed:
    """Arguments of a cached function that are compared by another key."""

    def __init__(self, key: str, *values: Any) -> None:
        self.key, self.values = key, values

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and self.key == other.key


def _report(fingerprint: str, formula: Formula, grid: Grid) -> StabilityReport:
    return _examined(_Keyed(fingerprint, formula, grid))


@functools.lru_cache(maxsize=64)
def _examined(what: _Keyed) -> StabilityReport:
    return stability(*what.values)


_named = functools.lru_cache(maxsize=64)(formulas.by_name)
_compiled: deque[tuple[weakref.ref[Formula], weakref.ref[Grid], Plan]] = deque(maxlen=16)


def compiled(formula: Formula, grid: Grid) -> Plan:
    """formula.plan(grid), remembered for the last pairs of frozen objects: a loop over images compiles once."""
    for known_formula, known_grid, plan in tuple(_compiled):  # another thread may add to it
        if known_formula() is formula and known_grid() is grid:
            return plan
    plan = formula.plan(grid)
    parameters = getattr(type(formula), "__dataclass_params__", None)
    if parameters is not None and parameters.frozen:
        _compiled.appendleft((weakref.ref(formula), weakref.ref(grid), plan))
    return plan


def _states(x: Any) -> torch.Tensor:
    tensor = x.values if isinstance(x, State) else x
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"x must be a tensor or a State, got {type(x).__name__}")
    if not isinstance(x, State) and (tensor.ndim < 2 or not tensor.is_floating_point() or tensor.numel() == 0):
        raise ValueError(f"x must be a floating tensor (B, …) that is not empty, got {tensor.dtype} of shape {tuple(tensor.shape)}")
    if not all_finite(tensor):
        raise ValueError("x has entries that are not finite")
    return tensor


def iteration(tolerance: Any, max_iterations: Any, dtype: torch.dtype, precision: torch.dtype | None) -> Iteration:
    """When an iteration stops. The default tolerance is 1e-10, or 16 units of rounding of the coarser precision."""
    if tolerance is None:
        tolerance = max(1e-10, *(16.0 * torch.finfo(d).eps for d in (dtype, precision or dtype)))
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float, np.number)):
        raise TypeError(f"tolerance must be a number, got {tolerance!r}")
    if not tolerance > 0.0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    return Iteration(float(tolerance), whole_number("max_iterations", max_iterations, 1))


def same_scales(given: State, bits: BitPlan, plan: Plan) -> None:
    """A state's integers must mean here what they meant where they were made.

    Raises:
        StateFileError: they do not.
    """
    scales, window = given.record.scales, given.record.window
    exponents = tuple(bits.exponents[window : window + plan.steps].tolist())
    if scales is None or scales.exponents != exponents or scales.key != bits.key:
        raise StateFileError(
            f"the state's integers have another scale than {plan.name} has here: they were made under another schedule "
            "(another alpha), or by another version; a state only marches on with the predictor that made it"
        )
