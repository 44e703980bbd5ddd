"""Formulas that are exact on other functions, and the errors of rows with logarithms."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from vsvf import formulas, symbolic
from vsvf.formula import LinearMultistep
from vsvf.symbolic import asymptotics, conditions, derivation, symbols

S, C = symbols.SIGMA_BAR, sympy.Symbol("c")


def residual(formula: LinearMultistep, nodes: np.ndarray, value, slope) -> float:
    a, c = formula.weights(nodes)
    return float(value(nodes[0]) - a @ value(nodes[1:]) - c @ slope(nodes))


def test_gaussian_row_makes_no_error_on_gaussian_data() -> None:
    c = 0.3
    formula = symbolic.derive("gaussian").formula(c=c)
    nodes = np.cumsum(np.r_[0.05, np.geomspace(0.1, 2.0, 9)])
    exact = np.sqrt(nodes**2 + c**2) * 1.7 + 0.4
    slopes = nodes / np.sqrt(nodes**2 + c**2) * 1.7
    windows = np.lib.stride_tricks.sliding_window_view
    a, weights = formula.weights(windows(nodes, 3))
    got = np.sum(a * windows(exact, 3)[:, 1:], axis=1) + np.sum(weights * windows(slopes, 3), axis=1)
    np.testing.assert_allclose(got, exact[:-2], rtol=1e-13)
    plain = formulas.belm(2).weights(windows(nodes, 3))
    other = np.sum(plain[0] * windows(exact, 3)[:, 1:], axis=1) + np.sum(plain[1] * windows(slopes, 3), axis=1)
    assert np.max(np.abs(other - exact[:-2])) > 1e-3


def test_gaussian_row_conditions_and_error() -> None:
    d = symbolic.derive("gaussian")
    values = zip((S, C, symbols.h(0), symbols.h(1)), ("3/7", "2/5", "1/3", "5/4"))
    place = {symbol: sympy.Rational(value) for symbol, value in values}
    for condition in d.conditions:
        value = condition.expression.xreplace(d.solution).subs(place).evalf(60, strict=False)
        assert abs(value) < sympy.Float("1e-50", 60)
    assert d.order == 2
    weights = dict(d.operator)
    assert sympy.simplify(weights[2] - 3 * S / (S**2 + C**2)) == 0 and weights[3] == 1


@pytest.mark.parametrize("name", ["deis(2)", "deis(3)"])
def test_leading_error_is_what_a_smooth_function_shows(name: str) -> None:
    d = symbolic.derive(name)
    formula = d.formula()
    shape = np.array([0.0, 1.0, 2.3, 3.1])[: d.steps + 1]
    ratios = []
    for size in (1e-2, 5e-3):
        nodes = 0.8 + size * shape
        place = {symbols.h(j): sympy.Float(h, 30) for j, h in enumerate(np.diff(nodes))} | {S: sympy.Float(0.8, 30)}
        predicted = d.residual.subs(place) * sum(w.subs(place) * sympy.exp(sympy.Float(0.8, 30)) for _, w in d.operator)
        ratios.append(residual(formula, nodes, np.exp, np.exp) / float(predicted) - 1.0)
    assert abs(ratios[0]) < 0.05
    assert abs(ratios[1] / ratios[0] - 0.5) < 0.05  # what is missing is one order smaller


def test_wronskian_and_series_agree() -> None:
    d = symbolic.derive("deis(2)")
    power, terms = asymptotics.leading(lambda n: conditions.taylor(d.a, d.b, n), [*d.a, *d.b], 2)
    assert power == d.order + 1
    assert [n for n, _ in terms] == [n for n, _ in d.operator]
    for (_, value), (_, weight) in zip(terms, d.operator):
        assert sympy.cancel(value - d.residual * weight) == 0


def test_exponential_basis() -> None:
    d = symbolic.derive(symbolic.Pattern(1, ("b1",), {"a1": 1}, basis="exp(sigma_bar)"))
    h0 = symbols.h(0)
    assert sympy.simplify(d.b[1] - (sympy.exp(-h0) - 1) / h0) == 0
    assert d.order == 1 and dict(d.operator) == {1: -1, 2: 1}


def test_dpm_solver_orders() -> None:
    second, third = symbolic.known("dpm_solver_pp(2)"), symbolic.known("dpm_solver_pp(3)")
    assert second.order == 2 and symbolic.known("dpm_solver_pp(3, True)").order == 3
    # the multistep third-order update weighs its second difference as if it were the second derivative: order 2
    assert third.order == 2
    assert sympy.cancel(third.residual + symbols.h(0) ** 3 / 12) == 0
    assert {n: sympy.cancel(w) for n, w in third.operator} == {2: 2 / S, 3: 1}
    formula = formulas.dpm_solver_pp(3)
    scaled = [residual(formula, 1.0 + size * np.array([0, 1, 2.5, 3.2]), np.exp, np.exp) / size**3 for size in (2e-3, 1e-3)]
    assert 2 * scaled[1] - scaled[0] == pytest.approx(-3 * np.e / 12, rel=1e-3)


def test_limit_at_sigma_bar_zero() -> None:
    nodes = np.array([0.0, 0.4, 1.1])
    got = symbolic.derive("deis(2)").formula().coefficients(nodes)
    expected = formulas.deis(2).coefficients(nodes)
    np.testing.assert_allclose(np.concatenate(got), np.concatenate(expected), rtol=1e-12, atol=1e-12)


def test_no_limit_at_sigma_bar_zero_is_nan() -> None:
    d = symbolic.derive(symbolic.Pattern(2, ("a1", "a2", "b1"), basis="1, sigma_bar, 1/sigma_bar"))
    assert d.order == 2
    a, _ = symbolic.known("dpm_solver_pp(2)").formula().coefficients(np.array([0.0, 0.4, 1.1]))
    assert np.isnan(a).any()


@pytest.mark.parametrize("basis", ["1, sigma_bar, 2*sigma_bar", "1, sin(s)**2, cos(s)**2", "1, s, log(-1 - s**2)"])
def test_inconsistent_basis_is_one_clear_line(basis: str) -> None:
    with pytest.raises(ValueError, match=r"^basis: the functions .* are linearly dependent, or not defined") as caught:
        symbolic.derive(symbolic.Pattern(2, ("a1", "a2", "b1"), basis=basis))
    assert "\n" not in str(caught.value)


def test_error_path_is_shared_by_given_rows() -> None:
    d = symbolic.derive("deis(2)")
    assert derivation.expand(d.a, d.b).order == 2
