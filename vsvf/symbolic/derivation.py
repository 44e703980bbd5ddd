"""From a pattern to its formula: expand the residual, collect the conditions, solve, and find the local truncation error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sympy import Expr, Integer, Symbol

from vsvf.symbolic import asymptotics, code, patterns, render, symbols
from vsvf.symbolic.closed import closed_form
from vsvf.symbolic.conditions import Condition, monomial, of_pattern, taylor
from vsvf.symbolic.fitted import annihilator, independent
from vsvf.symbolic.parse import expression
from vsvf.symbolic.pattern import Pattern
from vsvf.symbolic.rational import ClashError, Field, solve
from vsvf.symbolic.row import Row

if TYPE_CHECKING:
    from vsvf.formula import LinearMultistep

SOLUTIONS = ("auto", "elimination", "closed")


class Derivation(Row):
    """A row of (12) with its proof: the record, and what can be done with it."""

    def checked(self) -> tuple[Expr, ...]:
        """Every condition with the solution inserted, reduced: zeros, by exact arithmetic."""
        inserted = [c.expression.xreplace(self.solution) for c in self.conditions]
        field = Field(inserted, self.steps)
        return tuple(field.expr(field.element(e)) for e in inserted)

    def substitute(self, **values: Any) -> Derivation:
        """The same formula with free or other parameters set, for instance a2=0 or gamma=1, and its error re-derived."""
        names = {symbols.code_names(self.steps).get(n, Symbol(n)): (n, v) for n, v in values.items()}
        for symbol, (name, _) in names.items():
            if symbol not in (*self.free, *self.parameters):
                accepted = ", ".join(map(symbols.code_name, (*self.free, *self.parameters))) or "none"
                raise ValueError(f"{name} is not a parameter of {self.name}; it has {accepted}")
        spelt = symbols.code_names(self.steps)
        place = {symbol: expression(value, spelt, name) for symbol, (name, value) in names.items()}
        label = f"{self.name} with " + ", ".join(f"{name}={value}" for name, value in values.items())
        a = [e.xreplace(place) for e in self.a]
        return expand(a, [e.xreplace(place) for e in self.b], name=label)

    def latex(self) -> str:
        """The formula, its coefficients and its error as a LaTeX align* environment."""
        return render.latex(self)

    def python(self) -> str:
        """Source of a module with one function, nodes -> (a, b); needs numpy, and mpmath where there are logarithms or roots."""
        return code.source(self)

    def formula(self, **values: float) -> LinearMultistep:
        """The formula as data, ready for the engine. Free and other parameters are given by name, for instance gamma=1.0.

        Raises:
            ValueError: a parameter is missing or unknown.
        """
        return code.compiled(self, values)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data, expressions as text in the code spelling; what `json` prints."""
        return render.as_dict(self)

    def json(self) -> str:
        """`as_dict` as JSON."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        return render.text(self)


def derive(pattern: Pattern | str | None = None, *, steps: int | None = None, method: str = "auto") -> Derivation:
    """Derive a formula.

    Args:
        pattern: a `Pattern`, or a name such as "adams_bashforth(3)"; default the LTE-minimising BELM formula.
        steps: k, for the default pattern or a family's bare name.
        method: "elimination" solves the linear system; "closed" uses the closed form of BELM, BDF, Adams and root-placed
            formulas; "auto" eliminates up to 3 steps and where there is no closed form. Both give the same formula
            (`hermite.prove`).

    Returns:
        The derivation; kept in memory, so that asking again costs nothing.

    Raises:
        ValueError: a bad argument, or conditions that no choice of the unknowns satisfies; they are named.
    """
    if pattern is None or isinstance(pattern, str):
        pattern = patterns.by_name(pattern or "belm", steps)
    elif not isinstance(pattern, Pattern):
        raise ValueError(f"pattern must be a Pattern or a name, got {pattern!r}")
    elif steps is not None and steps != pattern.steps:
        raise ValueError(f"steps={steps} contradicts the pattern's {pattern.steps}")
    if method not in SOLUTIONS:
        raise ValueError(f"method={method!r} is not known; choose one of {', '.join(SOLUTIONS)}")
    closed = closed_form(pattern)  # a function, nothing is computed yet
    if method == "closed" and closed is None:
        raise ValueError(f"method='closed' applies to belm, bdf and rows with given a's, not to {pattern.name}")
    if method == "auto":
        method = "closed" if closed is not None and pattern.steps >= 4 else "elimination"
    return _derive(pattern, pattern.name, method)


@lru_cache(maxsize=64)
def _derive(pattern: Pattern, name: str, method: str) -> Derivation:
    conditions = of_pattern(pattern)
    unknowns = pattern.unknown_symbols
    closed = closed_form(pattern) if method == "closed" else None
    if closed is not None:
        a, b, residual = closed()
        order = (pattern.conditions or 0) - 1
        operator: tuple[tuple[int, Expr], ...] = ((order + 1, Integer(1)),)
        free: tuple[Symbol, ...] = ()
        if residual.has(symbols.SIGMA_BAR) or Field([residual], pattern.steps).vanishes(residual):
            order, residual, operator = _error(a, b, pattern.steps, pattern.conditions or 0)
    else:
        values, free = _solve(pattern, conditions, unknowns)
        a = tuple(e.xreplace(values) for e in pattern.a)
        b = tuple(e.xreplace(values) for e in pattern.b)
        order, residual, operator = _fitted_error(pattern, a, b, free) or _error(a, b, pattern.steps, pattern.conditions or 0)
    used = set().union(*(e.free_symbols for e in (*a, *b)))
    parameters = _parameters(used - set(free), pattern.steps)
    return Derivation(name, pattern.steps, a, b, order, residual, operator, conditions, unknowns, free, parameters, method, pattern)


def expand(a: Sequence[Any], b: Sequence[Any], name: str = "given row") -> Derivation:
    """The order and the error of a row that is given completely.

    Args:
        a: a_1 … a_k. b: b_0 … b_k. Text (code spelling), numbers or sympy expressions.
        name: for reports.

    Raises:
        ValueError: lengths that do not match, an expression that cannot be read, or a row that is not consistent (it does
            not even reproduce constants as the steps shrink).
    """
    k = len(a)
    if not 1 <= k or len(b) != k + 1:
        raise ValueError(f"b must have one entry more than a (b_0 … b_k for a_1 … a_k), got {len(b)} and {k}")
    names = symbols.code_names(k)
    first = tuple(expression(e, names, f"a{j}") for j, e in enumerate(a, start=1))
    second = tuple(expression(e, names, f"b{j}") for j, e in enumerate(b))
    order, residual, operator = _error(first, second, k, 0)
    if order < 0:
        raise ValueError(f"{name}: the row is not consistent, the residual of a constant is {residual}")
    conditions = tuple(Condition(monomial(n), taylor(first, second, n)) for n in range(order + 1))
    used = set().union(*(e.free_symbols for e in (*first, *second)))
    return Derivation(name, k, first, second, order, residual, operator, conditions, (), (), _parameters(used, k), "given")


def _solve(
    pattern: Pattern, conditions: Sequence[Condition], unknowns: Sequence[Symbol]
) -> tuple[dict[Symbol, Expr], tuple[Symbol, ...]]:
    if pattern.basis is not None and not independent(pattern.basis):
        functions = ", ".join(map(str, pattern.basis))
        raise ValueError(f"basis: the functions {functions} are linearly dependent, or not defined for sigma_bar > 0")
    nothing = dict.fromkeys(unknowns, Integer(0))
    matrix = [[-c.expression.coeff(u) for u in unknowns] for c in conditions]
    right = [c.expression.xreplace(nothing) for c in conditions]
    field = Field([*(e for row in matrix for e in row), *right], pattern.steps)
    try:
        solution, free_columns = solve(field, matrix, right)
    except ClashError as clash:
        raise ValueError(_clash_message(pattern, [conditions[n] for n in clash.rows], unknowns)) from None
    values: dict[Symbol, Expr] = {}
    for column, unknown in enumerate(unknowns):
        total: Expr = Integer(0)
        for other, weight in solution[column].items():
            total += field.expr(weight) * (unknowns[other] if other >= 0 else 1)
        values[unknown] = total
    return values, tuple(unknowns[column] for column in free_columns)


def _clash_message(pattern: Pattern, rows: Sequence[Condition], unknowns: Sequence[Symbol]) -> str:
    what = "basis" if pattern.basis is not None else "conditions"
    if len(rows) == 1 and not rows[0].expression.free_symbols & set(unknowns):
        return f"{what}: the condition on {rows[0].label} reads {rows[0].expression} = 0, which no unknown can change"
    labels = " and ".join(", ".join(c.label for c in rows).rsplit(", ", 1))
    return f"{what}: those on {labels} clash, no choice of {', '.join(map(symbols.code_name, unknowns))} satisfies them together"


def _error(a: Sequence[Expr], b: Sequence[Expr], k: int, known: int) -> tuple[int, Expr, tuple[tuple[int, Expr], ...]]:
    """Order, residual and operator; `known` conditions on monomials hold already."""
    field = Field([*a, *b], k)
    if all(_homogeneous(field.element(e), k) for e in (*a, *b)) and not field.atoms:
        n = known
        while not (value := field.element(taylor(a, b, n))):
            n += 1
            if n > 4 * k + 4:
                raise ValueError("the row reproduces every polynomial tried, which no multistep row can")
        return n - 1, field.expr(value), ((n, Integer(1)),)
    power, terms = asymptotics.leading(lambda n: taylor(a, b, n), [*a, *b], k)
    residual = terms[-1][1]
    ratios = Field([value for _, value in terms], k)
    last = ratios.element(residual)
    return power - 1, residual, tuple((n, ratios.expr(ratios.element(value) / last)) for n, value in terms)


def _fitted_error(
    pattern: Pattern, a: Sequence[Expr], b: Sequence[Expr], free: Sequence[Symbol]
) -> tuple[int, Expr, tuple[tuple[int, Expr], ...]] | None:
    """The error by `fitted.py`, or None where its premises do not hold (monomials leave other unknowns free)."""
    if pattern.basis is None:
        return None
    count = len(pattern.basis)
    operator = annihilator(pattern.basis)
    try:
        polynomial = derive(Pattern(pattern.steps, pattern.unknown, dict(pattern.fixed), count, name=pattern.name))
    except ValueError:
        return None
    if operator is None or polynomial.order != count - 1 or polynomial.free != tuple(free) or len(polynomial.operator) > 1:
        return None
    return count - 1, polynomial.residual, operator


def _homogeneous(element: Any, k: int) -> bool:
    """Of degree 0 in the steps and free of sigma_bar."""
    gens = [str(s) for s in element.numer.ring.symbols]
    if str(symbols.SIGMA_BAR) in gens:
        return False
    steps = [n for n, s in enumerate(gens) if s in {str(symbols.h(j)) for j in range(k)}]
    degrees = {sum(m[n] for n in steps) for part in (element.numer, element.denom) for m in part.monoms()}
    return len(degrees) <= 1 or not element


def _parameters(used: set[Symbol], k: int) -> tuple[Symbol, ...]:
    known = {symbols.SIGMA_BAR, *(symbols.h(j) for j in range(k)), *(symbols.alpha(j) for j in range(k + 1))}
    return tuple(sorted(used - known, key=str))
