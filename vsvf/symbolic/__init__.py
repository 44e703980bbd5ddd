"""Symbolic derivation of variable-step multistep formulas: Taylor expansion, order conditions, solution, error, code.

    from vsvf import symbolic
    d = symbolic.derive(steps=3)            # or a name, or a Pattern of your own
    print(d)                                # the derivation; d.latex(), d.python(), d.json(), d.formula()

Needs sympy, which `import vsvf` alone does not load.
"""

from vsvf.symbolic import patterns
from vsvf.symbolic.conditions import Condition
from vsvf.symbolic.coupled import CoupledError, coupled_error
from vsvf.symbolic.derivation import Derivation, derive, expand
from vsvf.symbolic.known import known
from vsvf.symbolic.pattern import Pattern
from vsvf.symbolic.table import local_errors

__all__ = [
    "Condition",
    "CoupledError",
    "Derivation",
    "Pattern",
    "coupled_error",
    "derive",
    "expand",
    "known",
    "local_errors",
    "patterns",
]
