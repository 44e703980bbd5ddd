"""EDICT and McCallum-Foster: two coupled states, as two-step rows, and the local error of each state.

A coupled row reads slopes at states that are not on the solution, so the residual is more than a functional of x_bar: it
contains the Jacobian J = d eps_bar/d x_bar. Everything is expanded about the solution at s_1 = sigma_bar_i with

    eps_bar(x + u, s_1 + v) = e + J u + D v + O(u^2 + v^2),      D = d eps_bar/d sigma_bar = x_bar'' - J e.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sympy import Expr, Integer, Symbol, expand, factor

from vsvf.symbolic import symbols

H = symbols.h(0)
X, E, J, SECOND = Symbol("x"), Symbol("e"), Symbol("J"), Symbol("x''")
P, COUPLING, KAPPA = Symbol("p"), Symbol("l"), Symbol("kappa")

COUPLED = ("edict", "edict_as_printed", "mccallum_foster")


@dataclass(frozen=True)
class CoupledError:
    """Local errors of a coupled method over one step from s_1 to s_0, to leading order in h = h_i.

    Attributes:
        name: "edict", "edict_as_printed" or "mccallum_foster".
        assumptions: what the errors assume.
        rows: per row of the interleaved sequence (newest first) the weights a (2), and c/h (3) of the slopes.
        errors: state -> x_bar(s_0) - state when both states start on the solution, in h, x'' (the second
            derivative of x_bar), J, e = eps_bar, x and parameters.
        order: p, errors are O(h^{p+1}).
        gap_factor: the difference of the states is multiplied by this per step, to leading order.
        gap: where the difference (second state minus first) settles on a uniform grid, to leading order.
    """

    name: str
    assumptions: tuple[str, ...]
    rows: tuple[tuple[tuple[Expr, ...], tuple[Expr, ...]], ...]
    errors: dict[str, Expr]
    order: int
    gap_factor: Expr
    gap: Expr


def coupled_error(name: str) -> CoupledError:
    """The local errors of a coupled method.

        edict              X' = X - h eps(Y), Y' = Y - h eps(X'), X'' = p X' + (1-p) Y', Y'' = p Y' + (1-p) X'', slopes at s_1
        edict_as_printed   the same, but eps(rho X'), rho = alpha_{i-1}/alpha_i: equation (9) of the paper, whose network sees
                           the intermediate state in the scale of the next node. rho = 1 + kappa h + …
        mccallum_foster    Y' = l Y + (1-l) Z - h eps(Z, s_1), Z' = Z - h eps(Y', s_0)

    Sources: Wallace, Gokul & Naik, CVPR 2023; McCallum & Foster 2024.

    Raises:
        ValueError: another name.
    """
    if name not in COUPLED:
        raise ValueError(f"coupled method {name!r} is not known; choose from {', '.join(COUPLED)}")
    gap = Symbol("g")  # second state minus first, at the start of the step
    start = Integer(0)  # states are written as deviations from x_bar(s_1)
    common: tuple[str, ...] = (
        "both states start on the solution: X = Y = x_bar(s_1)",
        "eps_bar is twice differentiable; h is small against the scale on which eps_bar changes",
    )
    if name == "mccallum_foster":
        errors, _ = _mccallum_foster(start, start)
        first, second = _mccallum_foster(start, gap, second_is_coupled=True)[1]
        rows: tuple[Any, ...] = (((1 - COUPLING, COUPLING), _slopes(-1)), ((Integer(0), Integer(1)), _slopes(-1)))
        assumptions = common
    else:
        rho = 1 + KAPPA * H if name == "edict_as_printed" else Integer(1)
        errors, _ = _edict(start, start, rho)
        first, second = _edict(start, gap, rho)[1]
        update, mix = ((Integer(0), Integer(1)), _slopes(-1)), ((1 - P, P), _slopes(0))
        rows = (update, update, mix, mix)
        assumptions = common + (() if rho == 1 else ("kappa = -d log alpha/d sigma_bar at s_1, sigma_bar/(1 + sigma_bar^2) if VP",))
    new_gap = expand(second - first)
    factor_zero = _truncate(new_gap.coeff(gap, 1), 0)
    settled = _truncate(new_gap.subs(gap, 0), 2) / (1 - factor_zero)
    return CoupledError(name, assumptions, rows, errors, 1, factor(factor_zero), factor(settled))


def _edict(x: Expr, y: Expr, rho: Expr) -> tuple[dict[str, Expr], tuple[Expr, Expr]]:
    """Errors and new states, from deviations x, y of the two states from x_bar(s_1)."""
    x1 = x - H * _slope(y)
    y1 = y - H * _slope(rho * (X + x1) - X)
    x2 = P * x1 + (1 - P) * y1
    y2 = P * y1 + (1 - P) * x2
    return _errors({"X": x2, "Y": y2}), (x2, y2)


def _mccallum_foster(z: Expr, y: Expr, second_is_coupled: bool = False) -> tuple[dict[str, Expr], tuple[Expr, Expr]]:
    y1 = COUPLING * y + (1 - COUPLING) * z - H * _slope(z)
    z1 = z - H * _slope(y1, -H)
    return _errors({"Y": y1, "Z": z1}), (z1, y1)


def _slope(u: Expr, v: Expr | int = 0) -> Expr:
    return E + J * u + (SECOND - J * E) * v


def _errors(states: dict[str, Expr]) -> dict[str, Expr]:
    solution = -H * E + H**2 * SECOND / 2  # x_bar(s_0) - x_bar(s_1)
    return {name: _by_differentials(_truncate(solution - state, 2)) for name, state in states.items()}


def _by_differentials(error: Expr) -> Expr:
    """h^2 times a sum over x'', J e and J x, each with its factored weight."""
    inside = expand(error / H**2)
    total = inside.coeff(SECOND) * SECOND
    total += sum((factor(inside.coeff(J * v)) * J * v for v in (E, X)), Integer(0))
    return H**2 * total


def _truncate(expression: Expr, power: int) -> Expr:
    """Terms up to h^power."""
    expanded = expand(expression)
    return sum((expanded.coeff(H, n) * H**n for n in range(power + 1)), Integer(0))


def _slopes(weight: int) -> tuple[Expr, ...]:
    return (Integer(0), Integer(weight), Integer(0))
