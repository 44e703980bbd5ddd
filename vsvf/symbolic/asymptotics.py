"""Leading behaviour as the steps shrink: h_j -> t h_j, t -> 0, by Laurent series with exact coefficients.

Needed where a coefficient is not homogeneous in the steps (logarithms, roots, sigma_bar itself): there the condition on a
monomial does not hold identically but up to a power of t, and that power is what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sympy import Dummy, Expr, diff, factorial, simplify

from vsvf.symbolic import symbols
from vsvf.symbolic.rational import Field

T = Dummy("t")
MOST_TERMS = 24


@dataclass(frozen=True)
class Laurent:
    """t^valuation (c_0 + c_1 t + …), known to len(coefficients) terms; c_0 may be zero."""

    valuation: int
    coefficients: tuple[Any, ...]

    def trimmed(self) -> Laurent:
        """Leading zeros removed."""
        lead = 0
        while lead < len(self.coefficients) and not self.coefficients[lead]:
            lead += 1
        return Laurent(self.valuation + lead, self.coefficients[lead:])


class Expansion:
    """Expands expressions in h, sigma_bar and parameters into Laurent series of a given number of terms."""

    def __init__(self, expressions: Iterable[Expr], steps: int, terms: int) -> None:
        self.terms = terms
        self._scale = {symbols.h(j): T * symbols.h(j) for j in range(steps)}
        self._series: dict[Expr, list[Expr]] = {}
        for expression in expressions:
            self._collect(expression)
        values = [value for series in self._series.values() for value in series]
        rational = [e for e in expressions if not self._atoms(e)]
        self.field = Field([*values, *rational, symbols.SIGMA_BAR], steps, self._letters(expressions))
        self._known: dict[Expr, Laurent] = {}

    def __call__(self, expression: Expr) -> Laurent:
        """The series of an expression."""
        if expression not in self._known:
            self._known[expression] = self._expand(expression)
        return self._known[expression]

    def _expand(self, e: Expr) -> Laurent:
        one, zero = self.field.domain.one, self.field.domain.zero
        if e in self._series:
            return Laurent(0, tuple(self.field.element(value) for value in self._series[e])).trimmed()
        if e in self._scale:
            return Laurent(1, (self.field.element(e),) + (zero,) * (self.terms - 1))
        if e.is_Add:
            return self._sum([self(argument) for argument in e.args])
        if e.is_Mul:
            product = Laurent(0, (one,) + (zero,) * (self.terms - 1))
            for argument in e.args:
                product = self._times(product, self(argument))
            return product
        if e.is_Pow and e.exp.is_Integer:
            base = self(e.base) if e.exp > 0 else self._inverse(self(e.base))
            power = base
            for _ in range(abs(int(e.exp)) - 1):
                power = self._times(power, base)
            return power
        return Laurent(0, (self.field.element(e),) + (zero,) * (self.terms - 1)).trimmed()

    def _sum(self, parts: Sequence[Laurent]) -> Laurent:
        valuation = min(part.valuation for part in parts)
        stop = min(part.valuation + len(part.coefficients) for part in parts)
        total = [self.field.domain.zero] * max(stop - valuation, 0)
        for part in parts:
            for n, value in enumerate(part.coefficients[: stop - part.valuation]):
                total[part.valuation - valuation + n] += value
        return Laurent(valuation, tuple(map(self.field.reduce, total))).trimmed()

    def _times(self, left: Laurent, right: Laurent) -> Laurent:
        length = min(len(left.coefficients), len(right.coefficients))
        product = [self.field.domain.zero] * length
        for n in range(length):
            if left.coefficients[n]:
                for m in range(length - n):
                    if right.coefficients[m]:
                        product[n + m] += left.coefficients[n] * right.coefficients[m]
        return Laurent(left.valuation + right.valuation, tuple(map(self.field.reduce, product))).trimmed()

    def _inverse(self, series: Laurent) -> Laurent:
        if not series.coefficients:
            raise ArithmeticError("a divisor vanishes to the number of terms kept")
        first = 1 / series.coefficients[0]
        inverse = [first]
        for n in range(1, len(series.coefficients)):
            inverse.append(-first * sum((series.coefficients[m] * inverse[n - m] for m in range(1, n + 1)), 0 * first))
        return Laurent(-series.valuation, tuple(inverse))

    def _collect(self, expression: Expr) -> None:
        for atom in self._atoms(expression):
            if atom not in self._series:
                scaled = atom.xreplace(self._scale)
                series = []
                for n in range(self.terms):
                    series.append(simplify(scaled.subs(T, 0)) / factorial(n) if n < 2 else scaled.subs(T, 0) / factorial(n))
                    scaled = diff(scaled, T)
                self._series[atom] = series

    def _atoms(self, e: Expr) -> list[Expr]:
        """Outermost parts that are not rational operations, and depend on the steps."""
        if e.is_Add or e.is_Mul:
            return [atom for argument in e.args for atom in self._atoms(argument)]
        if e.is_Pow and e.exp.is_Integer:
            return self._atoms(e.base)
        if e.is_Symbol or not e.free_symbols & set(self._scale):
            return []
        return [e]

    def _letters(self, expressions: Iterable[Expr]) -> set[Any]:
        return {symbol for expression in expressions for symbol in expression.free_symbols}


def leading(coefficient: Callable[[int], Expr], letters: Iterable[Expr], steps: int) -> tuple[int, list[tuple[int, Expr]]]:
    """The leading power of t in a residual sum_n C_n x_bar^{(n)}, and the terms that have it.

    Args:
        coefficient: n -> C_n; C_n is O(t^n), so no term beyond the power found is looked at.
        letters: expressions that contain every letter and every non-rational part of the C_n.
        steps: k.

    Returns:
        The power, and (n, value) with C_n = t^power value + …, value factored.

    Raises:
        ArithmeticError: no term of the series differs from zero, as with functions that are linearly dependent.
    """
    letters = list(letters)
    for terms in range(steps + 4, MOST_TERMS + 1, 1):
        expansion = Expansion(letters, steps, terms)
        found: list[tuple[int, Laurent]] = []
        lowest = MOST_TERMS
        n = 0
        try:
            while n <= lowest:
                series = expansion(coefficient(n))
                if series.coefficients:
                    lowest = min(lowest, series.valuation)
                elif series.valuation <= min(lowest, 2 * steps + 1):
                    raise ArithmeticError("the series is too short")
                found.append((n, series))
                n += 1
        except ArithmeticError:
            continue
        return lowest, [
            (n, expansion.field.expr(series.coefficients[0]))
            for n, series in found
            if series.coefficients and series.valuation == lowest
        ]
    raise ArithmeticError(f"no leading term within {MOST_TERMS} terms of the series")
