"""The published one-row methods by name: derived where a pattern determines them, expanded where they are given."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from sympy import Expr, Integer, Rational, log

from vsvf import formulas
from vsvf.formulas import names
from vsvf.symbolic import patterns, symbols
from vsvf.symbolic.derivation import Derivation, derive, expand
from vsvf.symbolic.pattern import Pattern


def known(name: str) -> Derivation:
    """The derivation of a method by its name in `vsvf.formulas`, for instance "belm(3)", "bdia(0.5)", "dpm_solver_pp(2)".

    DDIM, Adams, BDF, BELM (root-placed too), BDIA and DEIS come from their patterns; DPM-Solver++ is a given row that is
    expanded. EDICT and McCallum-Foster couple two states: see `coupled_error`.

    Raises:
        ValueError: an unknown name, a coupled method, a formula derived in another variable, or a root-placed formula whose modes
            are not in sigma_bar itself.
    """
    family, text = names.split(name, formulas.CONSTRUCTORS)
    if family in ("edict", "mccallum_foster"):
        raise ValueError(f"{name} couples two states and is not one row of (12); see symbolic.coupled_error({family!r})")
    if family in ("power_fitted_belm", "corrected", "pec_belm"):
        raise ValueError(
            f"{name} is derived in z = x_bar/sigma_bar^p: see symbolic.patterns.power_fitted, corrector and pec_corrector"
        )
    if family not in ("dpm_solver_pp", "root_placed_belm", "bdia"):
        return derive(patterns.by_name(name))
    arguments = names.numbers(text, name)
    try:
        if family == "dpm_solver_pp":
            return dpm_solver_pp(*arguments)
        if family == "root_placed_belm":
            return derive(_root_placed(name, *arguments))
        return derive(patterns.bdia(*(str(Rational(str(value))) for value in arguments)))
    except TypeError:
        raise ValueError(f"{name!r}: the arguments in parentheses must be what vsvf.formulas.{family} takes") from None


def _root_placed(name: str, roots: Any, exponent: float = 1.0, mode_rho: float = 1.0, slope_rho: int = 1) -> Pattern:
    """From numerical roots: the recursion's coefficients are those of the real polynomial in floating point."""
    formulas.root_placed_belm(roots, exponent, mode_rho, slope_rho)  # which refuses what no formula can have
    if mode_rho != 1.0:
        raise ValueError(
            f"{name}: rows with mode_rho = {mode_rho:g} are not derived symbolically; "
            "with mode_rho = 1 they have the same leading error"
        )
    product = np.real(np.poly(np.atleast_1d(np.asarray(roots, dtype=np.complex128))))
    recursion = [-Rational(*float(value).as_integer_ratio()) for value in product[1:]]
    return patterns.root_placed(recursion, Rational(str(exponent)), name.strip(), slope_rho)


@lru_cache(maxsize=8)
def dpm_solver_pp(order: int = 2, corrected: bool = False) -> Derivation:
    """Multistep DPM-Solver++ 1, 2M or 3M as a row of (12).

    With data predictions m_j = x_bar_j - s_j eps_bar_j, lambda = -log sigma_bar, h = lambda(s_0) - lambda(s_1),
    r_0 = log(s_2/s_1)/h, r_1 = log(s_3/s_2)/h and weights w_j of the m_j, the row is a_1 = s_0/s_1 + w_1, a_j = w_j,
    c_j = -w_j s_j. Only 1 and sigma_bar are reproduced exactly. 3M weighs its second difference, about h^2 m''/2, with
    the function that belongs to h^2 m'' and is of order 2; `corrected` doubles that term. Source: Lu et al., 2022.

    Raises:
        ValueError: another order.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"order must be 1, 2 or 3, got {order!r}")
    node = [symbols.SIGMA_BAR + symbols.distance(j) for j in range(order + 1)]
    logs = [log(s) for s in node]
    h = logs[1] - logs[0]
    decay = node[0] / node[1]
    gain = 1 - decay
    w: list[Expr] = [gain, *[Integer(0)] * (order - 1)]
    if order == 2:
        shift = gain * h / (2 * (logs[2] - logs[1]))
        w = [gain + shift, -shift]
    elif order == 3:
        r0, r1 = (logs[2] - logs[1]) / h, (logs[3] - logs[2]) / h
        newer, older = (1 / r0, -1 / r0, Integer(0)), (Integer(0), 1 / r1, -1 / r1)
        phi1 = (decay - 1) / h + 1
        phi2 = (decay - 1 + h) / h**2 - Rational(1, 2)
        for j in range(3):
            difference = newer[j] - older[j]
            w[j] += phi1 * (newer[j] + r0 / (r0 + r1) * difference) - (2 if corrected else 1) * phi2 * difference / (r0 + r1)
    a = [w[0] + decay, *w[1:]]
    b = [Integer(0), *(-w[j] * node[j + 1] / symbols.step(j + 1) for j in range(order))]
    return expand(a, b, name=f"dpm_solver_pp({order}{', True' if corrected else ''})")
