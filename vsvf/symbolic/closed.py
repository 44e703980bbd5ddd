"""Closed forms where elimination gets slow as k grows: the formulas of interpolation.

    BELM            Hermite extrapolation, see `hermite.py`
    given a_j       with sum a_j = 1 and unknown b_j: x_bar(s_0) - sum a_j x_bar(s_j) = -sum_j a_j int_{s_0}^{s_j} x_bar', so
                    c_m = -sum_j a_j int_{s_0}^{s_j} l_m, l_m the Lagrange basis of the slopes' n nodes, and the error of
                    x_bar' = omega = prod (x - s_m) is -sum_j a_j int omega, its coefficient that over n! (Adams, root placement)
    BDF             l_0'(s_0) x_bar(s_0) + sum_j l_j'(s_0) x_bar(s_j) = eps_bar_0, l_j the Lagrange basis of s_0 … s_k; the
                    error of prod_{j>=0} (x - s_j) is -c_0 prod_{j>=1} (s_0 - s_j), its coefficient that over (k+1)!

Source: Hairer, Nørsett & Wanner I, III.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import factorial

from sympy import Dummy, Expr, Integer, Mul, Poly, Rational

from vsvf.symbolic import hermite, patterns, symbols
from vsvf.symbolic.pattern import Pattern
from vsvf.symbolic.rational import Field

Row = tuple[tuple[Expr, ...], tuple[Expr, ...], Expr]  # a, b, residual


def closed_form(pattern: Pattern) -> Callable[[], Row] | None:
    """A function that makes (a, b, residual) of the pattern, or None where there is no closed form for it."""
    k = pattern.steps
    if k >= 2 and pattern == patterns.belm(k):
        return lambda: hermite.coefficients(k)
    if pattern == patterns.bdf(k):
        return lambda: _bdf(k)
    a = _given_states(pattern)
    if a is None:
        return None
    return lambda: _quadrature(a, [j for j in range(k + 1) if f"b{j}" in pattern.unknown])


def _given_states(pattern: Pattern) -> tuple[Expr, ...] | None:
    """a_1 … a_k where all but one are given and only slopes are unknown besides, with one condition per slope more; the
    remaining one makes their sum 1.
    """
    slopes = [c for c in pattern.unknown if c[0] == "b"]
    states = [c for c in pattern.unknown if c[0] == "a"]
    if not slopes or len(states) > 1 or pattern.basis is not None or pattern.conditions != len(slopes) + 1:
        return None
    if any(c[0] == "b" and value != 0 for c, value in pattern.fixed):
        return None
    a = list(pattern.a)
    if states:
        place = int(states[0][1:]) - 1
        a[place] = 1 - sum((e for j, e in enumerate(a) if j != place), Integer(0))
        return tuple(a)
    field = Field(a, pattern.steps)
    return tuple(a) if field.reduce(field.element(sum(a, Integer(0)) - 1)) == 0 else None


def _quadrature(a: Sequence[Expr], nodes: Sequence[int]) -> Row:
    k = len(a)
    field = Field([], k)
    b: list[Expr] = [Integer(0)] * (k + 1)
    for m in nodes:
        others = [n for n in nodes if n != m]
        below = field.element(Mul(*(symbols.distance(m) - symbols.distance(n) for n in others)) * symbols.step(m))
        for j, weight in enumerate(a, start=1):
            if weight != 0:
                b[m] -= weight * field.expr(field.element(_integral(others, j)) / below)
    residual: Expr = Integer(0)
    for j, weight in enumerate(a, start=1):
        if weight != 0:
            residual -= weight * field.expr(field.element(_integral(nodes, j)) / factorial(len(nodes)))
    return tuple(a), tuple(b), residual


def _integral(nodes: Sequence[int], j: int) -> Expr:
    """int_{s_0}^{s_j} prod_m (x - s_m) dx, with s_0 = 0."""
    x = Dummy("x")
    product = Poly(Mul(*(x - symbols.distance(m) for m in nodes)), x)
    return product.integrate(x).eval(symbols.distance(j))


def _bdf(k: int) -> Row:
    field = Field([], k)
    distances = [field.element(symbols.distance(j)) for j in range(k + 1)]
    newest = field.expr(sum((1 / distance for distance in distances[1:]), field.domain.zero))  # -l_0'(s_0)
    a = []
    for j in range(1, k + 1):
        slope = 1 / distances[j]
        for m in range(1, k + 1):
            if m != j:
                slope *= distances[m] / (distances[m] - distances[j])
        a.append(field.expr(slope) / newest)
    product = Mul(*(symbols.distance(j) for j in range(1, k + 1)))
    residual = Rational((-1) ** k, factorial(k + 1)) * product / newest
    return tuple(a), (-1 / (newest * symbols.h(0)), *[Integer(0)] * k), residual
