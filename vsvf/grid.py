"""Grids: the nodes sigma_bar_0 < … < sigma_bar_N, index 0 at the data end, as in the paper."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vsvf.errors import LowestStepWarning
from vsvf.schedule import Schedule

Array = np.ndarray

SPACINGS = ("leading", "linspace", "trailing", "karras", "log_snr", "sigma_bar")
FINALS = ("zero", "smallest")
TINY = (
    0.3,
    0.1,
)  # of a lowest interval: below this fraction of the next (leading has 0.03 to 0.3, trailing 0.9), and below this itself


@dataclass(frozen=True)
class Grid:
    """Nodes of a march. Sampling goes from index N (noise) to 0 (data), inversion from 0 to N.

    Attributes:
        sigma_bar: (N+1,) float64, strictly increasing, finite, sigma_bar[0] >= 0.
        alpha: (N+1,) float64, alpha at the nodes (only BDIA's coefficients depend on it).
        timesteps: (N+1,) float64 model times of the nodes, where a schedule made them. In a table of timesteps, -1
            stands for sigma_bar = 0 (the empty product of alphas).
        name: how it was made, for reports.
    """

    sigma_bar: Array
    alpha: Array
    timesteps: Array | None = field(default=None)
    name: str = "own nodes"

    def __post_init__(self) -> None:
        nodes = np.array(self.sigma_bar, dtype=np.float64)
        if nodes.ndim != 1 or len(nodes) < 2:
            raise ValueError(f"sigma_bar must be a sequence of at least 2 nodes, got shape {nodes.shape}")
        if not np.all(np.isfinite(nodes)):
            where = int(np.flatnonzero(~np.isfinite(nodes))[0])
            raise ValueError(
                f"sigma_bar[{where}] = {nodes[where]} is not finite: a schedule with zero terminal SNR has no finite "
                "sigma_bar at its last timestep, start the grid below it"
            )
        if nodes[0] < 0.0:
            raise ValueError(f"sigma_bar must be >= 0, got sigma_bar[0] = {nodes[0]}")
        if np.any(np.diff(nodes) <= 0.0):
            where = int(np.flatnonzero(np.diff(nodes) <= 0.0)[0])
            raise ValueError(
                f"sigma_bar must increase strictly (index 0 is the data end): sigma_bar[{where}] = {nodes[where]:.6g}, "
                f"sigma_bar[{where + 1}] = {nodes[where + 1]:.6g}"
            )
        alpha = np.array(self.alpha, dtype=np.float64)
        if alpha.shape != nodes.shape or not np.all(np.isfinite(alpha)) or np.any(alpha <= 0.0):
            raise ValueError("alpha must be positive and finite with one entry per node")
        nodes.setflags(write=False)
        alpha.setflags(write=False)
        object.__setattr__(self, "sigma_bar", nodes)
        object.__setattr__(self, "alpha", alpha)
        if self.timesteps is not None:
            times = np.array(self.timesteps, dtype=np.float64)
            if times.shape != nodes.shape:
                raise ValueError("timesteps must have one entry per node")
            times.setflags(write=False)
            object.__setattr__(self, "timesteps", times)

    def __len__(self) -> int:
        return len(self.sigma_bar)

    def __repr__(self) -> str:
        return f"Grid({self.name}, N={self.steps}, sigma_bar {self.sigma_bar[0]:.4g} to {self.sigma_bar[-1]:.4g})"

    @property
    def steps(self) -> int:
        """N, the number of steps."""
        return len(self.sigma_bar) - 1

    @property
    def h(self) -> Array:
        """(N,) steps h_i = sigma_bar_i - sigma_bar_{i-1}; entry i-1 holds h_i."""
        return np.diff(self.sigma_bar)

    def warn_if_lowest_step_is_tiny(self) -> None:
        """Warn before an image is inverted on a grid that ends at sigma_bar = 0 with an interval far shorter than the next.

        An image is no exact solution at sigma_bar = 0, and a starter's first slope reaches only over h_1: O-BELM, which weighs
        states by the squares of their steps, multiplies what is wrong by (h_2/h_1)^2.
        """
        if self.sigma_bar[0] == 0.0 and self.steps > 1 and self.h[0] < min(TINY[0] * self.h[1], TINY[1]):
            warnings.warn(
                f"{self}: the lowest step is {self.h[0]:.3g} long and the next {self.h[1]:.3g}, so that inverting an image "
                "finds noise that is too large; take spacing='trailing' or final='smallest'",
                LowestStepWarning,
                stacklevel=3,
            )

    @classmethod
    def from_sigma_bar(cls, nodes: Any, alpha: Any | None = None) -> Grid:
        """Own nodes, increasing. `alpha` defaults to 1/sqrt(1 + sigma_bar^2), the variance-preserving one."""
        sigma_bar = np.asarray(nodes, dtype=np.float64)
        return cls(sigma_bar, 1.0 / np.sqrt(1.0 + sigma_bar**2) if alpha is None else alpha)

    @classmethod
    def from_schedule(
        cls,
        schedule: Schedule,
        steps: int,
        spacing: str = "trailing",
        final: str = "zero",
        *,
        steps_offset: int = 0,
        rho: float = 7.0,
        sigma_bar_max: float | None = None,
    ) -> Grid:
        """N = `steps` steps over a schedule's range.

        Args:
            schedule: the noise schedule.
            steps: N >= 1.
            spacing: which N nodes are drawn above the last one:
                "leading": t = j * (T // N) + steps_offset, "linspace": N timesteps from 0 to T-1 rounded, "trailing":
                t = round(T - j T/N) - 1 — the timesteps of diffusers' schedulers of the same names;
                "karras": uniform in sigma_bar^(1/rho); "log_snr": uniform in log sigma_bar; "sigma_bar": uniform.
            final: where sampling ends. "zero": sigma_bar_0 = 0, clean data (a node of its own below the N drawn ones).
                "smallest": sigma_bar_0 = the schedule's smallest. A spacing that reaches the smallest by itself
                (leading without offset, linspace, karras, log_snr) is then drawn with N+1 nodes, so that there are N
                steps and none of length zero; leading then means t = floor(j T/(N+1)).
            steps_offset: added to leading timesteps (Stable Diffusion's configuration has 1).
            rho: exponent of the Karras spacing.
            sigma_bar_max: start below the schedule's largest (needed where that is infinite); continuous spacings only.

        Raises:
            ValueError: an unknown spacing or final, steps < 1, or more steps than the table has.
        """
        if spacing not in SPACINGS:
            raise ValueError(f"spacing={spacing!r} is not known; choose one of {', '.join(SPACINGS)}")
        if final not in FINALS:
            raise ValueError(f"final={final!r} is not known; choose 'zero' or 'smallest'")
        if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
            raise ValueError(f"steps must be a positive integer, got {steps!r}")
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule must be a vsvf.Schedule, such as vsvf.Schedule.linear(), got {type(schedule).__name__}")
        if isinstance(steps_offset, bool) or not isinstance(steps_offset, (int, np.integer)) or steps_offset < 0:
            raise ValueError(f"steps_offset must be an integer from 0 on, got {steps_offset!r}")
        rho = _positive("rho", rho)
        name = f"{schedule.name}, {spacing}, final {final}"
        if spacing in ("leading", "linspace", "trailing"):
            if sigma_bar_max is not None:
                raise ValueError(f"sigma_bar_max does not go with spacing={spacing!r}, whose nodes are timesteps")
            times = _table_timesteps(schedule, int(steps), spacing, final, int(steps_offset))
            nodes = schedule.sigma_bar(times)
        else:
            largest = schedule.sigma_bar_max if sigma_bar_max is None else _positive("sigma_bar_max", sigma_bar_max)
            if not np.isfinite(largest):
                raise ValueError(f"{schedule} has no finite largest sigma_bar: give sigma_bar_max")
            nodes = _continuous_nodes(schedule.sigma_bar_min, largest, int(steps), spacing, final, rho)
            times = schedule.timestep(nodes)
            times = np.where(nodes == 0.0, -1.0 if schedule.table is not None else 0.0, times)
        return cls(nodes, schedule.alpha_at(nodes), times, name)


def _table_timesteps(schedule: Schedule, steps: int, spacing: str, final: str, steps_offset: int) -> Array:
    if schedule.table is None:
        raise ValueError(f"spacing={spacing!r} needs a schedule with a table of timesteps; {schedule.name} has none")
    if steps_offset and spacing != "leading":
        raise ValueError(f"steps_offset goes with spacing='leading', not {spacing!r}")
    times = _drawn_timesteps(schedule.table, steps, spacing, steps_offset)
    if times[-1] >= schedule.table:
        raise ValueError(f"steps_offset={steps_offset} leads beyond the table: timestep {times[-1]:.0f} of {schedule.table - 1}")
    if final == "zero":
        return np.concatenate([[-1.0], times])
    if times[0] > 0.0:
        return np.concatenate([[0.0], times])
    if spacing == "leading":  # not T // (N+1), which for large N would leave out half of the range
        if steps + 1 > schedule.table:
            raise ValueError(f"a table of {schedule.table} timesteps is too short for {steps + 1} different ones: take fewer steps")
        return np.floor(np.arange(steps + 1) * (schedule.table / (steps + 1)))
    return _drawn_timesteps(schedule.table, steps + 1, spacing, steps_offset)


def _drawn_timesteps(table: int, count: int, spacing: str, steps_offset: int) -> Array:
    """`count` increasing timesteps, those of diffusers' DDIMScheduler."""
    if count > table:
        raise ValueError(f"a table of {table} timesteps is too short for {count} different ones: take fewer steps")
    if spacing == "leading":
        return np.arange(count) * (table // count) + float(steps_offset)
    if spacing == "linspace":
        return np.round(np.linspace(0.0, table - 1.0, count))
    return np.sort(np.round(np.arange(table, 0, -table / count)) - 1.0)[-count:]


def _continuous_nodes(low: float, high: float, steps: int, spacing: str, final: str, rho: float) -> Array:
    if not low < high:
        raise ValueError(f"sigma_bar_max={high} must exceed the schedule's smallest sigma_bar {low}")
    if spacing == "sigma_bar":
        return np.linspace(0.0 if final == "zero" else low, high, steps + 1)
    drawn = steps + 1 if final == "smallest" else steps
    fraction = np.linspace(0.0, 1.0, drawn) if drawn > 1 else np.ones(1)
    if spacing == "karras":
        with np.errstate(all="ignore"):
            ends = np.array([low, high]) ** (1.0 / rho)
            nodes = (ends[0] + fraction * (ends[1] - ends[0])) ** rho
        if not np.all(np.isfinite(nodes)) or np.any(np.diff(nodes) <= 0.0):
            raise ValueError(f"rho={rho:g} is out of range: {drawn} nodes from {low:g} to {high:g} are not distinct finite numbers")
    else:
        nodes = low * (high / low) ** fraction
    if fraction[0] == 0.0:
        nodes[0] = low
    nodes[-1] = high
    return np.concatenate([[0.0], nodes]) if final == "zero" else nodes


def _positive(name: str, value: Any) -> float:
    """`value` as a positive finite float, or a ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    if not 0.0 < value <= sys.float_info.max:
        raise ValueError(f"{name} must be a positive finite number, got {value!r}")
    return float(value)
