"""The published methods, each one function that returns its coefficients as data.

`by_name("belm(2)")` reads the names that formulas carry; `METHODS` lists a representative of every family, which tests,
tables and plots run through.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from vsvf.formula import Formula
from vsvf.formulas import names
from vsvf.formulas.adams import adams_bashforth, adams_moulton, ddim, deis
from vsvf.formulas.bdf import bdf
from vsvf.formulas.bdia import bdia
from vsvf.formulas.belm import belm
from vsvf.formulas.choosing import recommended
from vsvf.formulas.corrected import corrected
from vsvf.formulas.coupled import edict, mccallum_foster
from vsvf.formulas.dpm_solver import dpm_solver_pp
from vsvf.formulas.power_fitted import power_fitted_belm
from vsvf.formulas.predictor_corrector import pec_belm
from vsvf.formulas.root_placed import coarse_belm, root_placed_belm, stable_belm
from vsvf.formulas.unipc import unipc

CONSTRUCTORS: dict[str, Callable[..., Formula]] = {
    "ddim": ddim,
    "adams_bashforth": adams_bashforth,
    "deis": deis,
    "adams_moulton": adams_moulton,
    "bdf": bdf,
    "dpm_solver_pp": dpm_solver_pp,
    "unipc": unipc,
    "belm": belm,
    "bdia": bdia,
    "edict": edict,
    "mccallum_foster": mccallum_foster,
    "root_placed_belm": root_placed_belm,
    "stable_belm": stable_belm,
    "coarse_belm": coarse_belm,
    "power_fitted_belm": power_fitted_belm,
    "corrected": corrected,
    "pec_belm": pec_belm,
}

METHODS: tuple[str, ...] = (
    "ddim",
    *(f"adams_bashforth({k})" for k in (2, 3, 4)),
    *(f"deis({k})" for k in (2, 3)),
    *(f"adams_moulton({k})" for k in (1, 2, 3)),
    *(f"bdf({k})" for k in (1, 2, 3, 4, 5, 6)),
    "dpm_solver_pp(2)",
    "dpm_solver_pp(3)",
    "dpm_solver_pp(3, True)",
    "unipc(2)",
    "unipc(3)",
    "belm(2)",
    "belm(3)",
    "bdia(1)",
    "bdia(0.5)",
    "edict(0.93)",
    "mccallum_foster(1)",
    "mccallum_foster(0.999)",
    "root_placed_belm((-1,),0)",
    *(f"stable_belm({k})" for k in (2, 3, 4, 5, 6)),
    "power_fitted_belm(0.6, 5/6, 2.25, 0.85)",
    "power_fitted_belm(0.6, (1/3, 1), 1, 0.9)",
    "power_fitted_belm(0.7, (0.29, 0.86), 1.43, 1.06)",
    "corrected(stable_belm(3), 0.7, 4)",
    "corrected(power_fitted_belm(0.95, 0.877, 0.94, 0.52), 0.6, 2)",
    "pec_belm",
    "pec_belm(0.82, 0.56, (0.32, 1), 0.38, 0.87)",
)


def by_name(name: str) -> Formula:
    """The formula of a name such as "ddim", "belm(2)", "corrected(stable_belm(3), 0.7, 4)"; a bare family name takes its default.

    Raises:
        ValueError: an unknown family, or arguments that the family refuses.
    """
    family, text = names.split(name, CONSTRUCTORS)
    return _build(names.Call(family, names.arguments(text, name)), name)


def _build(call: names.Call, name: object) -> Formula:
    if call.family not in CONSTRUCTORS:
        raise ValueError(
            f"formula {str(name)[:80]!r}: the arguments in parentheses must be numbers or formulas, and {call.family!r} is "
            "neither a number nor a formula"
        )
    make = CONSTRUCTORS[call.family]
    arguments = [_build(value, name) if isinstance(value, names.Call) else value for value in call.arguments]
    signature = inspect.signature(make, eval_str=False)
    try:
        signature.bind(*arguments)
        return make(*arguments)
    except TypeError:
        wanted = ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default}" for p in signature.parameters.values())
        raise ValueError(
            f"formula {name!r} does not fit {call.family}({wanted}): write for instance {_example(call.family)!r}"
        ) from None


def _example(family: str) -> str:
    return next((method for method in METHODS if method.split("(")[0] == family), family)


__all__ = [
    "CONSTRUCTORS",
    "METHODS",
    "adams_bashforth",
    "adams_moulton",
    "bdf",
    "bdia",
    "belm",
    "by_name",
    "coarse_belm",
    "corrected",
    "ddim",
    "deis",
    "dpm_solver_pp",
    "edict",
    "mccallum_foster",
    "pec_belm",
    "power_fitted_belm",
    "recommended",
    "root_placed_belm",
    "stable_belm",
    "unipc",
]
