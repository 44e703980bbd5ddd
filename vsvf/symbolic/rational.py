"""Exact arithmetic on rational functions of the steps: fields, factoring into distances of nodes, linear systems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sympy import Dummy, Expr, Integer, Mul, Pow, Rational, Symbol, exp, factor_list
from sympy.polys.domains import ZZ
from sympy.polys.matrices import DomainMatrix

from vsvf.symbolic import symbols


class Field:
    """Q(letters): rational functions in the symbols that some expressions contain, with roots, logarithms and the like
    replaced by letters of their own.

    Attributes:
        domain: sympy's field of fractions.
        atoms: stand-in -> the expression it stands for.
    """

    def __init__(self, expressions: Iterable[Expr], steps: int, extra: Iterable[Symbol] = ()) -> None:
        self.steps = steps
        self._stand_ins: dict[Expr, Symbol] = {}
        letters = set(extra) | {symbols.h(j) for j in range(steps)}
        for expression in expressions:
            letters |= self._rational(expression).free_symbols
        for original in self._stand_ins:
            letters |= original.free_symbols
        self.atoms = {letter: original for original, letter in self._stand_ins.items()}
        gens = sorted(letters, key=lambda s: (s not in self.atoms, s.name, s.sort_key()))
        self.domain = ZZ.frac_field(*gens)
        self.ring = self.domain.field.ring
        self._relations = [
            self.ring.from_expr(letter**original.exp.q - original.base)
            for letter, original in self.atoms.items()
            if original.is_Pow and original.exp.is_Rational and original.base.is_polynomial(*original.free_symbols)
        ]
        self._distances = [
            self.ring.from_expr(symbols.distance(n + 1) - symbols.distance(m)) for m in range(steps) for n in range(m, steps)
        ]

    def element(self, expression: Expr) -> Any:
        """The expression as an element of the field."""
        return self.domain.from_sympy(self._rational(expression))

    def reduce(self, element: Any) -> Any:
        """The element with powers of roots reduced, so that (sqrt x)^2 - x is zero."""
        if not self._relations or not element:
            return element
        numerator, denominator = (part.rem(self._relations) for part in (element.numer, element.denom))
        if not denominator:
            raise ZeroDivisionError("a denominator vanishes")
        return self.domain.field.new(numerator, denominator)

    def vanishes(self, expression: Expr) -> bool:
        """Whether the expression is identically zero."""
        return not self.reduce(self.element(expression))

    def expr(self, element: Any) -> Expr:
        """An element as a sympy expression, factored: distances s_n - s_m are divided out, short remainders factored."""
        if not element:
            return Integer(0)
        factors: list[Expr] = []
        numerator, denominator = element.numer, element.denom
        for distance in self._distances:
            numerator, above = _divide_out(numerator, distance)
            denominator, below = _divide_out(denominator, distance)
            if above != below:
                factors.append(Pow(distance.as_expr(), above - below))
        top, bottom = _factored(numerator), _factored(denominator)
        result = Mul(*top, *factors, *(Pow(f, -1) for f in bottom))
        return result.xreplace(self.atoms)

    def _rational(self, expression: Expr) -> Expr:
        """The expression with every non-rational part replaced by a letter."""
        if expression.is_Rational or expression.is_Symbol:
            return expression
        if expression.is_Add or expression.is_Mul:
            return expression.func(*(self._rational(argument) for argument in expression.args))
        if expression.is_Pow and expression.exp.is_Integer:
            return self._rational(expression.base) ** expression.exp
        if expression.is_Pow and expression.exp.is_Rational:  # r = base^(1/q), so that base^(p/q) = r^p
            root = Pow(expression.base, Rational(1, expression.exp.q))
            return self._letter(root) ** expression.exp.p
        if isinstance(expression, exp):  # one letter for e^{x}, e^{-x}, e^{2x}, …
            content, rest = expression.args[0].primitive()
            sign = -1 if rest.could_extract_minus_sign() else 1
            return self._letter(exp(sign * rest / content.q)) ** (sign * content.p)
        return self._letter(expression)

    def _letter(self, original: Expr) -> Symbol:
        return self._stand_ins.setdefault(original, Dummy(f"z{len(self._stand_ins)}"))


def _divide_out(polynomial: Any, factor: Any) -> tuple[Any, int]:
    times = 0
    while True:
        quotient, remainder = divmod(polynomial, factor)
        if remainder:
            return polynomial, times
        polynomial, times = quotient, times + 1


def _factored(polynomial: Any) -> list[Expr]:
    expression = polynomial.as_expr()
    if len(polynomial.terms()) == 1 or len(polynomial.terms()) > 12:
        return [expression]
    constant, factors = factor_list(expression)
    return [constant, *(Pow(f, m) for f, m in factors)]


class ClashError(Exception):
    """The rows of `rows` contradict each other."""

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(str(rows))
        self.rows = tuple(rows)


def solve(field: Field, matrix: Sequence[Sequence[Expr]], right: Sequence[Expr]) -> tuple[list[dict[int, Any]], list[int]]:
    """Solve M u = r by fraction-free elimination.

    Returns:
        Per unknown a map {column: weight}: the unknown is the sum of weight times u_column over free columns, plus the
        entry under -1, the constant; and the list of free columns.

    Raises:
        ClashError: the system has no solution; `rows` are equations that contradict each other.
    """
    count = len(matrix[0])
    rows = []
    for row, value in zip(matrix, right):
        elements = [field.element(entry) for entry in (*row, value)]
        common = field.ring.one
        for element in elements:
            common = common.lcm(element.denom)
        rows.append([(element * common).numer for element in elements])
    system = DomainMatrix(rows, (len(rows), count + 1), field.ring.to_domain())
    reduced, denominator, pivots = system.to_sparse().rref_den()
    if count in pivots:
        raise ClashError(_clashing(rows, count, field))
    entries = reduced.to_dense().to_list()
    free = [column for column in range(count) if column not in pivots]
    new = field.domain.field
    solution: list[dict[int, Any]] = [{column: field.domain.one} for column in range(count)]
    for line, column in enumerate(pivots):
        solution[column] = {-1: new.new(entries[line][count], denominator)}
        for other in free:
            if entries[line][other]:
                solution[column][other] = new.new(-entries[line][other], denominator)
    return solution, free


def _clashing(rows: list[list[Any]], count: int, field: Field) -> list[int]:
    """Equations whose combination reads 0 = non-zero, within the shortest prefix of the system that has no solution."""
    domain = field.ring.to_domain()
    for length in range(1, len(rows) + 1):
        prefix = DomainMatrix(rows[:length], (length, count + 1), domain).to_field()
        if count not in prefix.rref()[1]:
            continue
        combinations = prefix[:, :count].transpose().nullspace().to_list()
        right = [row[count] for row in prefix.to_list()]
        for combination in combinations:
            if sum((weight * value for weight, value in zip(combination, right)), prefix.domain.zero):
                return [n for n, weight in enumerate(combination) if weight]
    raise ArithmeticError("the system has a solution")
