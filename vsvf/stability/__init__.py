"""Numbers on plans: zero-stability in both directions, growth of spurious modes, regions, bounds, and the search for formulas.

    vsvf.stability(formula, grid)

The function has the name of the package that it stands in, so the package itself can be called: the name means the same
whether a submodule was imported before or not.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from vsvf.stability.report import Refinement, StabilityReport, Verdict, refine, stability

__all__ = ["Refinement", "StabilityReport", "Verdict", "refine", "stability"]


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> StabilityReport:
        return stability(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
