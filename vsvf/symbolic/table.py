"""Local errors in x = alpha x_bar of the methods in Table 1 of Wang et al., derived, beside what the table prints."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr, factor

from vsvf.symbolic import symbols
from vsvf.symbolic.coupled import coupled_error
from vsvf.symbolic.derivation import Derivation, derive
from vsvf.symbolic.known import known
from vsvf.symbolic.render import derivative, plain

INDEX_NOTE = (
    "same power of the steps; the table prints alpha_i where definition and corollary 1 give alpha_{i-1}, which is larger "
    "by alpha_{i-1}/alpha_i = 1 + O(h)"
)
EDICT_NOTE = (
    "one power of h_i more than printed: divided by the printed bound the error is O(sqrt(alpha_{i-1}) h_i), which tends to 0. "
    "The printed bound is not attained as the steps shrink"
)
PRINTED_EDICT_NOTE = (
    "the network sees the intermediate state in the next node's scale, which adds terms in kappa, of the same power: the "
    "printed bound is loose for this form too"
)


@dataclass(frozen=True)
class LocalError:
    """One line of the table.

    Attributes:
        method: for instance "bdia", or "edict, state X".
        printed: the bound in Table 1, "-" where the method is not in it.
        printed_power: its power of the steps, None where there is none.
        power: the derived power p + 1.
        coefficient: the leading term of e_i = alpha_{i-1} tau_i is coefficient times `derivatives`.
        derivatives: the derivative of x_bar it multiplies, or "1" where the coefficient contains x'', J and e itself.
        agrees: the powers are equal.
        note: what differs.
        assumptions: for coupled methods.
    """

    method: str
    printed: str
    printed_power: int | None
    power: int
    coefficient: Expr
    derivatives: str
    agrees: bool | None
    note: str
    assumptions: tuple[str, ...] = ()

    def __str__(self) -> str:
        tail = "" if self.derivatives == "1" else f" {self.derivatives}"
        verdict = {True: "agrees", False: "disagrees, the bound is loose", None: "not in the table"}[self.agrees]
        return f"{self.method}: e_i = {plain(self.coefficient)}{tail} + O(h^{self.power + 1}); printed {self.printed}: {verdict}"


def local_errors() -> tuple[LocalError, ...]:
    """DDIM, EDICT (in x_bar and as printed in (9)), BDIA, O-BELM and McCallum-Foster.

    The letters of the coupled methods are those of `coupled.py`: e = eps_bar, J its Jacobian, x'' the second derivative of
    x_bar at s_1.
    """
    lines = [
        _one_row("ddim", known("ddim"), "O(α_i h_i^2)", 2),
        *_coupled("edict", "O(√α_{i-1} h_i)", 1, EDICT_NOTE),
        *_coupled("edict_as_printed", "O(√α_{i-1} h_i)", 1, PRINTED_EDICT_NOTE),
        _one_row("bdia", known("bdia"), "O(α_i (h_i + h_{i+1})^2)", 2),
        _one_row("belm(2)", derive(steps=2), "O(α_i (h_i + h_{i+1})^3)", 3),
        *_coupled("mccallum_foster", "-", None, ""),
    ]
    return tuple(lines)


def text() -> str:
    """The table as text, with assumptions and notes."""
    lines = ["Local errors e_i = α_{i-1} τ_i, leading terms, against Table 1 of Wang et al. (BELM, 2024)", ""]
    for line in local_errors():
        lines += [str(line), *(f"    assumes {a}" for a in line.assumptions), *([f"    {line.note}"] if line.note else [])]
    for name in ("edict", "mccallum_foster"):
        error = coupled_error(name)
        lines.append(
            f"{name}: the difference of the two states is multiplied by {plain(error.gap_factor)} per step and settles at "
            f"{plain(error.gap)} + O(h^3)"
        )
    return "\n".join(lines)


def _one_row(method: str, d: Derivation, printed: str, printed_power: int) -> LocalError:
    coefficient = factor(symbols.alpha(0) * d.residual)
    power = d.order + 1
    return LocalError(method, printed, printed_power, power, coefficient, derivative(power), power == printed_power, INDEX_NOTE)


def _coupled(name: str, printed: str, printed_power: int | None, note: str) -> list[LocalError]:
    error = coupled_error(name)
    lines = []
    for state, value in error.errors.items():
        power = error.order + 1
        agrees = None if printed_power is None else power == printed_power
        lines.append(
            LocalError(
                f"{name}, state {state}",
                printed,
                printed_power,
                power,
                symbols.alpha(0) * value,
                "1",
                agrees,
                note,
                error.assumptions,
            )
        )
    return lines
