"""The BELM formula in closed form, for any k, and the proof that it is what the order conditions give.

Exactness for all polynomials of degree <= 2k-2 means: the row is Hermite extrapolation to s_0 of values at s_1 … s_k and
slopes at s_1 … s_{k-1}. With multiplicities m_j = 2 (j < k), m_k = 1,

    W_j(x) = prod_{m != j} ((x - s_m)/(s_j - s_m))^{m_m},      L_j = W_j'(s_j) = sum_{m != j} m_m/(s_j - s_m),
    a_j: P_j(x) = W_j(x) (1 - (x - s_j) L_j) for j < k,  P_k = W_k;      c_j: Q_j(x) = (x - s_j) W_j(x),

evaluated at x = s_0; b_j = c_j / h_{i-1+j}. The error for x_bar = prod_j (x - s_j)^{m_j} is that polynomial at s_0, since
everything that the row reads of it vanishes: the residual's coefficient is that value over (2k-1)!.
"""

from __future__ import annotations

from math import factorial

from sympy import Expr, Integer, Mul, Pow, Rational, Symbol, cancel, diff, expand

from vsvf.symbolic import symbols


def coefficients(k: int) -> tuple[tuple[Expr, ...], tuple[Expr, ...], Expr]:
    """a_1 … a_k, b_0 … b_k and the residual's coefficient of the LTE-minimising k-step BELM formula, factored."""
    a, b = [], [Integer(0)]
    for j in range(1, k + 1):
        weight = _weight(k, j)
        if j < k:
            b.append(weight * _gap(0, j) / symbols.step(j))
            a.append(weight * _slope_factor(k, j))
        else:
            a.append(weight)
    b.append(Integer(0))
    residual = Mul(*(Pow(_gap(0, m), _multiplicity(k, m)) for m in range(1, k + 1)))
    return tuple(a), tuple(b), Rational(1, factorial(2 * k - 1)) * residual


def prove(k: int) -> dict[str, bool]:
    """Check, symbolically and for this k, the steps of the proof that `coefficients(k)` solves the order conditions, and
    that nothing else does.

    Let E(x) = sum_j P_j(x) p(s_j) + sum_j Q_j(x) p'(s_j) - p(x) for a polynomial p of degree <= 2k-2. Once P_j and Q_j have
    degree <= 2k-2 and the values and slopes at the nodes that make them a dual basis, E has degree <= 2k-2 and, counted with
    multiplicity, 2k-1 zeros: it vanishes identically, in x = s_0 and in every node. The dual basis also shows that the 2k-1
    functionals p(s_j), p'(s_j) are linearly independent, so no other coefficients do the same.

    Returns:
        statement -> whether it holds identically; all are true.
    """
    x = Symbol("x")
    nodes = [Symbol(f"s_{j}") for j in range(k + 1)]
    values, slopes = _dual_basis(k, x, nodes)
    degree = 2 * k - 2
    steps = dict.fromkeys(("degrees", "values", "slopes", "coefficients"), True)
    for kind, functions in (("values", values), ("slopes", slopes)):
        for j, function in functions.items():
            steps["degrees"] &= _degree(function, x) <= degree
            for m in range(1, k + 1):
                expected = int(kind == "values" and m == j)
                steps[kind] &= cancel(function.subs(x, nodes[m]) - expected) == 0
                if m < k:
                    expected = int(kind == "slopes" and m == j)
                    steps[kind] &= cancel(diff(function, x).subs(x, nodes[m]) - expected) == 0
    place = {nodes[j]: symbols.distance(j) for j in range(k + 1)} | {x: Integer(0)}
    a, b, _ = coefficients(k)
    for j, function in values.items():
        steps["coefficients"] &= cancel(function.subs(place, simultaneous=True) - a[j - 1]) == 0
    for j, function in slopes.items():
        steps["coefficients"] &= cancel(function.subs(place, simultaneous=True) - b[j] * symbols.step(j)) == 0
    return steps


def _multiplicity(k: int, m: int) -> int:
    return 2 if m < k else 1


def _gap(j: int, m: int) -> Expr:
    """s_j - s_m as a sign times a sum of steps, so that products of gaps stay factored with their sign in front."""
    if j < m:
        return Mul(-1, symbols.distance(m) - symbols.distance(j), evaluate=False)
    return symbols.distance(j) - symbols.distance(m)


def _weight(k: int, j: int) -> Expr:
    """W_j(s_0)."""
    others = [m for m in range(1, k + 1) if m != j]
    return Mul(*(Pow(_gap(0, m) / _gap(j, m), _multiplicity(k, m)) for m in others))


def _slope_factor(k: int, j: int) -> Expr:
    """1 - (s_0 - s_j) L_j over its common denominator."""
    others = [m for m in range(1, k + 1) if m != j]
    common = Mul(*(_gap(j, m) for m in others))
    total = common
    for m in others:
        rest = Mul(*(_gap(j, n) for n in others if n != m))
        total -= _gap(0, j) * _multiplicity(k, m) * rest
    return expand(total) / common


def _dual_basis(k: int, x: Symbol, nodes: list[Symbol]) -> tuple[dict[int, Expr], dict[int, Expr]]:
    """P_1 … P_k and Q_1 … Q_{k-1} in free nodes."""
    values, slopes = {}, {}
    for j in range(1, k + 1):
        others = [m for m in range(1, k + 1) if m != j]
        weight = Mul(*(((x - nodes[m]) / (nodes[j] - nodes[m])) ** _multiplicity(k, m) for m in others))
        values[j] = weight
        if j < k:
            slope = sum((_multiplicity(k, m) / (nodes[j] - nodes[m]) for m in others), Integer(0))
            values[j] = weight * (1 - (x - nodes[j]) * slope)
            slopes[j] = (x - nodes[j]) * weight
    return values, slopes


def _degree(function: Expr, x: Symbol) -> int:
    """Degree in x of a product of powers of factors that are linear in x."""
    degree = 0
    for factor in Mul.make_args(function):
        base, exponent = factor.as_base_exp()
        if base.has(x):
            if diff(base, x, 2) != 0 or not exponent.is_Integer or exponent < 0:
                raise ArithmeticError(f"{factor} is not a power of a linear factor")
            degree += int(exponent)
    return degree
