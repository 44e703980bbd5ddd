"""vsvf: diffusion-model ODE solvers as data.

A formula, compiled on a grid, is a plan: a list of linear rows. One engine runs any plan, in both directions.

Names are imported when they are first used: schedules, grids, formulas, plans and the symbolic part need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsvf import formulas, predictors, symbolic
    from vsvf.convergence.examine import examine
    from vsvf.convergence.order import order
    from vsvf.engine.march import Step
    from vsvf.errors import (
        ConvergenceError,
        DeterminismError,
        FixedPointOverflowError,
        LowestStepWarning,
        NonFiniteError,
        OtherAlphaWarning,
        RetraceWarning,
        SpuriousModeWarning,
        StateFileError,
        TrainingModeWarning,
        VsvfError,
        ZeroStabilityWarning,
    )
    from vsvf.fixed import Fixed, bits
    from vsvf.formula import Formula, LinearMultistep
    from vsvf.grid import Grid
    from vsvf.plan import Plan
    from vsvf.schedule import Schedule
    from vsvf.solve import integrate, invert, sample, steps
    from vsvf.stability import stability
    from vsvf.starter import Starter
    from vsvf.state import State

__version__ = "0.1.0"

_SUBPACKAGES = ("formulas", "predictors", "symbolic")
_HOMES = {
    "ConvergenceError": "errors",
    "DeterminismError": "errors",
    "Fixed": "fixed",
    "FixedPointOverflowError": "errors",
    "Formula": "formula",
    "Grid": "grid",
    "LinearMultistep": "formula",
    "LowestStepWarning": "errors",
    "OtherAlphaWarning": "errors",
    "NonFiniteError": "errors",
    "Plan": "plan",
    "RetraceWarning": "errors",
    "Schedule": "schedule",
    "SpuriousModeWarning": "errors",
    "Starter": "starter",
    "State": "state",
    "StateFileError": "errors",
    "Step": "engine.march",
    "TrainingModeWarning": "errors",
    "VsvfError": "errors",
    "ZeroStabilityWarning": "errors",
    "bits": "fixed",
    "examine": "convergence.examine",
    "integrate": "solve",
    "invert": "solve",
    "order": "convergence.order",
    "sample": "solve",
    "steps": "solve",
    "stability": "stability",
}

__all__ = [
    "ConvergenceError",
    "DeterminismError",
    "Fixed",
    "FixedPointOverflowError",
    "Formula",
    "Grid",
    "LinearMultistep",
    "LowestStepWarning",
    "NonFiniteError",
    "OtherAlphaWarning",
    "Plan",
    "RetraceWarning",
    "Schedule",
    "SpuriousModeWarning",
    "Starter",
    "State",
    "StateFileError",
    "Step",
    "TrainingModeWarning",
    "VsvfError",
    "ZeroStabilityWarning",
    "bits",
    "examine",
    "formulas",
    "integrate",
    "invert",
    "order",
    "predictors",
    "sample",
    "stability",
    "steps",
    "symbolic",
]


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name in _SUBPACKAGES:
            return importlib.import_module(f"vsvf.{name}")
        if name in _HOMES:
            value = getattr(importlib.import_module(f"vsvf.{_HOMES[name]}"), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module 'vsvf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
