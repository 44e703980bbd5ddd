"""vsvf: diffusion-model ODE solvers as data.

A formula, compiled on a grid, is a plan: a list of linear rows. One engine runs any plan, in both directions.
"""

from __future__ import annotations

from vsvf import formulas, predictors
from vsvf.errors import (
    ConvergenceError,
    DeterminismError,
    FixedPointOverflowError,
    NonFiniteError,
    StateFileError,
    VsvfError,
    ZeroStabilityWarning,
)
from vsvf.fixed import Fixed
from vsvf.formula import Formula, LinearMultistep
from vsvf.grid import Grid
from vsvf.march import Step
from vsvf.plan import Plan
from vsvf.schedule import Schedule
from vsvf.solve import integrate, invert, sample
from vsvf.starter import Starter
from vsvf.state import State
from vsvf.theory.order import order

__version__ = "0.1.0"

__all__ = [
    "ConvergenceError",
    "DeterminismError",
    "Fixed",
    "FixedPointOverflowError",
    "Formula",
    "Grid",
    "LinearMultistep",
    "NonFiniteError",
    "Plan",
    "Schedule",
    "Starter",
    "State",
    "StateFileError",
    "Step",
    "VsvfError",
    "ZeroStabilityWarning",
    "formulas",
    "integrate",
    "invert",
    "order",
    "predictors",
    "sample",
]
