"""Rows in z = x_bar / sigma_bar^p, derived symbolically, against the numerical ones of `vsvf.formulas`."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from vsvf import formulas, symbolic
from vsvf.formulas import powers
from vsvf.symbolic import patterns, symbols


def in_x(nodes: np.ndarray, new: float, a: np.ndarray, c: np.ndarray, p: float) -> tuple[np.ndarray, np.ndarray]:
    """A row for z, with slopes dz/d sigma_bar, as a row for x_bar."""
    ratio = (new / nodes) ** p
    return ratio * a - p * ratio * c / nodes, ratio * c


@pytest.mark.parametrize(("k", "p"), [(3, sympy.Rational(3, 5)), (3, sympy.Rational(1, 4)), (4, sympy.Rational(1, 2))])
def test_the_power_fitted_row(k: int, p: sympy.Rational) -> None:
    derivation = symbolic.derive(patterns.power_fitted(k, p))
    alpha = np.array([0.3, -0.9, 0.4])[: k - 1]
    formula = derivation.formula(**{f"w{j}": float(alpha[j - 2]) for j in range(2, k + 1)})
    nodes = np.array([0.4, 0.9, 1.3, 2.2, 2.9])[: k + 1]
    a, c = formula.weights(nodes)
    expected = powers.row(nodes[0], nodes[1:], np.r_[1.0 - alpha.sum(), alpha], float(p), powers.exponents(k - 1))
    found_a, found_c = in_x(nodes[1:], nodes[0], a, c[1:], float(p))
    np.testing.assert_allclose(found_a, expected[0], rtol=1e-10)
    np.testing.assert_allclose(found_c[:-1], expected[1], rtol=1e-10)
    assert found_c[-1] == 0.0


def test_the_power_stays_a_letter() -> None:
    derivation = symbolic.derive(patterns.power_fitted())
    assert sympy.Symbol("p", positive=True) in derivation.b[1].free_symbols
    assert derivation.order == 2
    w2, w3 = sympy.symbols("w2 w3")
    h0, h1, h2 = (symbols.h(j) for j in range(3))
    # the leading residual is that of the polynomial formula with the same a: all such functions look like 1, s, s^2 on short steps
    expected = w2 * h1**3 / 12 + w3 * (h1**3 / 12 - h1 * h2**2 / 4 - h2**3 / 6) - h0**3 / 6 - h0**2 * h1 / 4
    assert sympy.expand(derivation.residual - expected) == 0


@pytest.mark.parametrize("p", [sympy.Rational(7, 10), sympy.Rational(1, 3)])
def test_the_corrector_row(p: sympy.Rational) -> None:
    derivation = symbolic.derive(patterns.corrector(3, p))
    formula = formulas.corrected(formulas.stable_belm(3), float(p), 4.0)
    nodes = np.array([0.03, 0.22, 0.33])
    a, c = derivation.formula(M=4).weights(nodes)
    np.testing.assert_allclose(a, [-3.0, 4.0])
    found_a, found_c = in_x(nodes, nodes[0], np.r_[0.0, a], c, float(p))
    expected_a, expected_c = formula.correction(nodes)
    np.testing.assert_allclose(found_a, expected_a, rtol=1e-10)
    np.testing.assert_allclose(found_c[:2], expected_c, rtol=1e-10)
    assert found_c[2] == 0.0


@pytest.mark.parametrize(("k", "p"), [(2, sympy.Rational(1, 2)), (3, sympy.Rational(7, 10)), (3, sympy.Rational(1, 4))])
def test_the_rows_of_a_predictor_corrector(k: int, p: sympy.Rational) -> None:
    formula = formulas.pec_belm(float(p), 1 if k == 2 else 0.55, 0.4 if k == 2 else (0.4, 1), 1.2, 0.9)
    nodes = np.array([0.03, 0.22, 0.33, 0.52])[: k + 1]
    found_a, found_c = formula.rows(nodes, np.linspace(0.0, 1.0, k + 1))
    ratio = (nodes[0] / nodes) ** float(p)
    placed = found_a[1, 1::2] / ratio[1:]  # weights of the corrected states in z
    derivation = symbolic.derive(patterns.pec_corrector(k, p))
    a, c = derivation.formula(**{f"w{j}": float(placed[j - 1]) for j in range(2, k + 1)}).weights(nodes)
    np.testing.assert_allclose(placed, a, rtol=1e-10)
    np.testing.assert_allclose(found_c[1, 1::2], (ratio * c)[:-1], rtol=1e-10)
    np.testing.assert_allclose(found_a[1, 0::2], (-float(p) * ratio * c / nodes)[:-1], rtol=1e-10)
    if k > 2:
        derivation = symbolic.derive(patterns.power_fitted(k, p))
        a, c = derivation.formula(**{f"w{j}": 0.0 for j in range(2, k + 1)}).weights(nodes)
        np.testing.assert_allclose(found_c[0, 2:-1:2], (ratio * c)[1:-1], rtol=1e-10)


@pytest.mark.parametrize(
    "name",
    ["power_fitted_belm(0.6, 5/6, 2.25, 0.85)", "corrected(stable_belm(3), 0.7, 4)", "pec_belm(0.82, 0.56, (0.32, 1), 0.38, 0.87)"],
)
def test_they_are_not_derived_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"derived in z = x_bar/sigma_bar\^p"):
        symbolic.known(name)
