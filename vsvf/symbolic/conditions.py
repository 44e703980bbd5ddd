"""The residual of a row, expanded at sigma_bar_{i-1}: order conditions and exactness on other functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sympy import Expr, Integer, Pow, Rational, diff, factorial

from vsvf.symbolic import symbols
from vsvf.symbolic.pattern import Pattern


@dataclass(frozen=True)
class Condition:
    """One equation `expression` = 0 on the coefficients.

    Attributes:
        label: which function it makes exact, for instance "sigma_bar^2".
        expression: for a monomial the coefficient of x_bar^{(n)} in the residual; for another function phi the residual of
            x_bar = phi.
    """

    label: str
    expression: Expr

    def __str__(self) -> str:
        return f"{self.label}: {self.expression} = 0"


def taylor(a: Sequence[Expr], b: Sequence[Expr], n: int) -> Expr:
    """Coefficient of x_bar^{(n)}(s_0) in the residual x_bar(s_0) - row, unsimplified:

    C_n = [n = 0] - sum_{j>=1} a_j S_j^n/n! - sum_{j>=0} b_j h_{i-1+j} S_j^{n-1}/(n-1)!,    S_j = s_j - s_0.
    """
    total: Expr = Integer(1 if n == 0 else 0)
    for j, weight in enumerate(a, start=1):
        total -= weight * Pow(symbols.distance(j), n) / factorial(n)
    if n > 0:
        for j, weight in enumerate(b):
            total -= weight * symbols.step(j) * Pow(symbols.distance(j), n - 1) * Rational(1, factorial(n - 1))
    return total


def function_residual(a: Sequence[Expr], b: Sequence[Expr], function: Expr) -> Expr:
    """The residual of x_bar = function(sigma_bar): function(s_0) - sum a_j function(s_j) - sum b_j h function'(s_j)."""
    variable = symbols.SIGMA_BAR
    slope = diff(function, variable)
    total = function
    for j, weight in enumerate(a, start=1):
        total -= weight * function.subs(variable, variable + symbols.distance(j))
    for j, weight in enumerate(b):
        if weight != 0:
            total -= weight * symbols.step(j) * slope.subs(variable, variable + symbols.distance(j))
    return total


def of_pattern(pattern: Pattern) -> tuple[Condition, ...]:
    """The conditions that a pattern imposes, in its unknowns."""
    if pattern.basis is not None:
        return tuple(Condition(str(f), function_residual(pattern.a, pattern.b, f)) for f in pattern.basis)
    count = pattern.conditions or 0
    return tuple(Condition(monomial(n), taylor(pattern.a, pattern.b, n)) for n in range(count))


def monomial(n: int) -> str:
    """How the condition on the n-th monomial is called."""
    return "1" if n == 0 else "sigma_bar" if n == 1 else f"sigma_bar^{n}"
