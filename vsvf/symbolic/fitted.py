"""The error of formulas that are exact on other functions than monomials.

Let phi_0 … phi_m be the functions made exact, and L = d^{m+1} + p_m d^m + … + p_0 the operator that annihilates them (their
Wronskian does not vanish at s_0). Write x_bar = sum c_i phi_i + y with y vanishing at s_0 together with m derivatives; then
y^{(m+1)}(s_0) = L x_bar(s_0), and the residual of x_bar is that of y. As the steps shrink, the coefficients tend to those of
the formula of the same pattern that is exact for 1, sigma_bar, …, sigma_bar^m, whose residual has the coefficient K. So

    tau_i = K L x_bar(s_0) + O(h^{m+2}).
"""

from __future__ import annotations

from collections.abc import Sequence

from sympy import Expr, Integer, Matrix, Rational, diff

from vsvf.symbolic.rational import ClashError, Field, solve
from vsvf.symbolic.symbols import SIGMA_BAR


def annihilator(basis: Sequence[Expr]) -> tuple[tuple[int, Expr], ...] | None:
    """(n, weight) of the non-zero terms of L, the leading (m+1, 1) last; None where the Wronskian vanishes identically."""
    order = len(basis)
    derivatives = [list(basis)]
    for _ in range(order):
        derivatives.append([diff(f, SIGMA_BAR) for f in derivatives[-1]])
    matrix = [[derivatives[n][i] for n in range(order)] for i in range(order)]
    right = [-derivatives[order][i] for i in range(order)]
    field = Field([*(e for row in derivatives for e in row)], 1)
    try:
        solution, free = solve(field, matrix, right)
        weights = [field.expr(field.reduce(entry[-1])) for entry in solution] if not free else None
    except (ClashError, ZeroDivisionError):
        return None
    if weights is None:
        return None
    return (*((n, weight) for n, weight in enumerate(weights) if weight != 0), (order, Integer(1)))


def independent(basis: Sequence[Expr]) -> bool:
    """Whether the Wronskian differs from zero, by its value at three points with 50 digits."""
    order = len(basis)
    rows = [[diff(f, SIGMA_BAR, n) for n in range(order)] for f in basis]
    letters = sorted({s for f in basis for s in f.free_symbols}, key=str)
    for point in range(3):
        place = {s: Rational(7 + 4 * n + 3 * point, 5 + n) for n, s in enumerate(letters)}
        values = [[entry.subs(place).evalf(50) for entry in row] for row in rows]
        if all(v.is_real and v.is_finite for row in values for v in row):
            scale = max(abs(v) for row in values for v in row) ** order
            if abs(Matrix(values).det()) > scale * Rational(1, 10**30):
                return True
    return False
