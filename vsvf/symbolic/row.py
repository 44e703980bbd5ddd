"""A derived row as a plain record: what deriving makes, and what rendering and generated code read."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr, Symbol

from vsvf.symbolic import symbols
from vsvf.symbolic.conditions import Condition
from vsvf.symbolic.pattern import Pattern


@dataclass(frozen=True)
class Row:
    """A row of (12) with its proof.

    Attributes:
        name, steps: as in the pattern.
        a: a_1 … a_k; b: b_0 … b_k, sympy expressions in h_i, h_{i+1}, …, sigma_bar and parameters. b_j multiplies
            h_{i-1+j} eps_bar_{i-1+j}; b_0 multiplies h_i.
        order: p. The residual x_bar(s_0) - row is O(h^{p+1}).
        residual: coefficient of x_bar^{(p+1)}(s_0) in the leading term of x_bar(s_0) - row. Exact where the coefficients
            are homogeneous in the steps, else to leading order in h.
        operator: (n, weight) of all derivatives that enter the leading term residual * sum weight x_bar^{(n)}(s_0);
            ((p+1, 1),) for formulas that are exact for monomials.
        conditions: the equations, in the unknowns.
        unknowns: the symbols solved for.
        free: those of them that the conditions leave free.
        parameters: other letters of the coefficients, such as gamma.
        method: "elimination", "closed" (form) or "given" (see `expand`).
        basis: the functions made exact, where they are not monomials.
    """

    name: str
    steps: int
    a: tuple[Expr, ...]
    b: tuple[Expr, ...]
    order: int
    residual: Expr
    operator: tuple[tuple[int, Expr], ...]
    conditions: tuple[Condition, ...]
    unknowns: tuple[Symbol, ...]
    free: tuple[Symbol, ...]
    parameters: tuple[Symbol, ...]
    method: str
    pattern: Pattern | None = None

    @property
    def basis(self) -> tuple[Expr, ...] | None:
        return None if self.pattern is None else self.pattern.basis

    @property
    def solution(self) -> dict[Symbol, Expr]:
        """Unknown -> its value (itself where free)."""
        values = {symbols.a(j): v for j, v in enumerate(self.a, start=1)}
        values |= {symbols.b(j): v for j, v in enumerate(self.b)}
        return {unknown: values[unknown] for unknown in self.unknowns}
