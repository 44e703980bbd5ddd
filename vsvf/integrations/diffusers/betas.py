"""What a config with a beta schedule says of a march: the formula's name, the nodes, where they end, what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vsvf.grid import FINALS, Grid
from vsvf.integrations.diffusers.config import read
from vsvf.schedule import Schedule

REFUSED = ("use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas", "use_dynamic_shifting")
FINAL_TYPES = {"zero": "zero", "sigma_min": "smallest"}


def formula_name(formula: Any, steps: int | None, parameters: Sequence[float] | None) -> str:
    """("belm", 2, None) to "belm(2)"."""
    if not isinstance(formula, str):
        raise TypeError(f"formula must be a name, which a config can hold, got {type(formula).__name__}")
    arguments = ([] if steps is None else [steps]) + list(parameters or [])
    if not arguments:
        return formula
    if "(" in formula:
        raise ValueError(f"formula={formula!r} has its arguments already: leave steps and parameters out")
    return f"{formula}({', '.join(repr(a) for a in arguments)})"


def check(config: Mapping[str, Any]) -> None:
    """Warns of clipping, which is left out.

    Raises:
        ValueError: a config without betas, or one that asks for nodes which are not implemented.
    """
    read(config)
    asked = [key for key in REFUSED if config.get(key)]
    if asked:
        raise ValueError(f"{asked[0]}=True is not implemented: give the nodes by set_timesteps(sigmas=…) and leave it out")
    clipped = [key for key in ("clip_sample", "thresholding") if config.get(key)]
    if clipped:
        warnings.warn(
            f"{' and '.join(clipped)} in the config will not be applied: a clipped prediction cannot be inverted", stacklevel=3
        )


def final_of(config: Mapping[str, Any]) -> str:
    """Where sampling ends, "zero" or "smallest" as in `Grid.from_schedule`.

    Raises:
        ValueError: an unknown `final_sigmas_type`.
    """
    asked = config["final_sigmas_type"]
    if asked is None:
        return FINALS[0] if config["set_alpha_to_one"] else FINALS[1]
    if asked not in FINAL_TYPES:
        raise ValueError(f"final_sigmas_type={asked!r} is not known; choose 'zero', 'sigma_min' or None")
    return FINAL_TYPES[asked]


def beta_grid(
    schedule: Schedule,
    config: Mapping[str, Any],
    steps: int | None,
    sigmas: Sequence[float] | None,
    timesteps: Sequence[int] | None,
) -> Grid:
    """The nodes for N steps as the config draws them, or those at sigma_bar or times that are given, noise first.

    Raises:
        ValueError: times that do not decrease or end too low, or a schedule that is infinite where it would begin.
    """
    if sigmas is not None:
        nodes = np.asarray(sigmas, dtype=np.float64)[::-1]
        return Grid(nodes, schedule.alpha_at(nodes), None, "given sigmas")
    if timesteps is not None:
        return _at_times(schedule, final_of(config), timesteps)
    assert steps is not None
    return _drawn(schedule, config, steps)


def _drawn(schedule: Schedule, config: Mapping[str, Any], steps: int) -> Grid:
    spacing = str(config["timestep_spacing"])
    if config["use_karras_sigmas"]:
        spacing = "karras"
    elif config["use_exponential_sigmas"]:
        spacing = "log_snr"
    offset = int(config["steps_offset"]) if spacing == "leading" else 0
    try:
        return Grid.from_schedule(schedule, steps, spacing, final_of(config), steps_offset=offset)
    except ValueError as error:
        if np.isfinite(schedule.sigma_bar_max) or "finite" not in str(error):
            raise
        last = int(schedule.table or 0) - 2
        raise ValueError(
            f"rescale_betas_zero_snr makes sigma_bar infinite at timestep {last + 1}, where no formula in sigma_bar can "
            f"start: use timestep_spacing='leading', or set_timesteps(timesteps=[{last}, …])"
        ) from error


def _at_times(schedule: Schedule, final: str, timesteps: Sequence[int]) -> Grid:
    times = np.asarray(timesteps, dtype=np.float64)[::-1]
    if times.ndim != 1 or len(times) == 0 or np.any(np.diff(times) <= 0.0) or times[0] < 0.0:
        raise ValueError("timesteps must decrease strictly and be at least 0 (they are given from noise to data)")
    if final == "smallest" and times[0] == 0.0:
        raise ValueError("timesteps must end above 0, since sampling ends at t = 0 by itself (set_alpha_to_one=False)")
    times = np.concatenate([[-1.0 if final == "zero" else 0.0], times])
    nodes = schedule.sigma_bar(times)
    return Grid(nodes, schedule.alpha_at(nodes), times, "given timesteps")
