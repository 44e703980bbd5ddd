"""Uniform steps: the coefficients of the literature (Hairer, Nørsett & Wanner I, tables III.1.1, III.1.2; BELM, section 3)."""

from fractions import Fraction as F

import numpy as np
import pytest

from vsvf import Grid, formulas


def uniform(k):
    return 2.0 + np.arange(k + 1.0)


@pytest.mark.parametrize(
    "k, beta",
    [
        (1, [1]),
        (2, [F(3, 2), F(-1, 2)]),
        (3, [F(23, 12), F(-16, 12), F(5, 12)]),
        (4, [F(55, 24), F(-59, 24), F(37, 24), F(-9, 24)]),
        (5, [F(1901, 720), F(-2774, 720), F(2616, 720), F(-1274, 720), F(251, 720)]),
    ],
)
def test_adams_bashforth(k, beta):
    a, b = formulas.adams_bashforth(k).coefficients(uniform(k))
    assert a.tolist() == [1.0] + [0.0] * (k - 1)
    assert np.allclose(b, [0.0, *(-float(v) for v in beta)], rtol=1e-13)


@pytest.mark.parametrize(
    "k, beta",
    [
        (1, [F(1, 2), F(1, 2)]),
        (2, [F(5, 12), F(8, 12), F(-1, 12)]),
        (3, [F(9, 24), F(19, 24), F(-5, 24), F(1, 24)]),
        (4, [F(251, 720), F(646, 720), F(-264, 720), F(106, 720), F(-19, 720)]),
    ],
)
def test_adams_moulton(k, beta):
    _, b = formulas.adams_moulton(k).coefficients(uniform(k))
    assert np.allclose(b, [-float(v) for v in beta], rtol=1e-13)


@pytest.mark.parametrize(
    "k, a, b",
    [
        (1, [1], 1),
        (2, [F(4, 3), F(-1, 3)], F(2, 3)),
        (3, [F(18, 11), F(-9, 11), F(2, 11)], F(6, 11)),
        (4, [F(48, 25), F(-36, 25), F(16, 25), F(-3, 25)], F(12, 25)),
        (5, [F(300, 137), F(-300, 137), F(200, 137), F(-75, 137), F(12, 137)], F(60, 137)),
        (6, [F(360, 147), F(-450, 147), F(400, 147), F(-225, 147), F(72, 147), F(-10, 147)], F(60, 147)),
    ],
)
def test_bdf(k, a, b):
    found_a, found_b = formulas.bdf(k).coefficients(uniform(k))
    assert np.allclose(found_a, [float(v) for v in a], rtol=1e-12)
    assert np.allclose(found_b, [-float(b)] + [0.0] * k, rtol=1e-13)


@pytest.mark.parametrize(
    "k, a, b",
    [(2, [0, 1], [-2]), (3, [-9, 9, 1], [-6, -6]), (4, [-28, 0, 28, 1], [-12, -36, -12])],
)
def test_belm(k, a, b):
    found_a, found_b = formulas.belm(k).coefficients(uniform(k))
    assert np.allclose(found_a, a, rtol=1e-13, atol=1e-13)
    assert np.allclose(found_b, [0, *b, 0], rtol=1e-13, atol=1e-13)


def test_o_belm_has_the_closed_form_of_the_paper():
    s = np.array([0.3, 0.7, 1.9])
    h0, h1 = 0.7 - 0.3, 1.9 - 0.7
    a, b = formulas.belm(2).coefficients(s)
    assert np.allclose(a, [(h1**2 - h0**2) / h1**2, h0**2 / h1**2], rtol=1e-14)
    assert np.allclose(b, [0.0, -(h0 + h1) / h1, 0.0], rtol=1e-14)


def test_the_three_step_error_constant():
    # the residual of s^5 (value minus formula) is -h0^2 (h0 + h1)^2 (h0 + h1 + h2)
    s = np.array([0.25, 0.75, 1.0, 2.0])
    h0, h1, h2 = np.diff(s)
    a, c = formulas.belm(3).weights(s)
    residual = s[0] ** 5 - a @ s[1:] ** 5 - c[1:] @ (5 * s[1:] ** 4)
    assert residual == pytest.approx(-(h0**2) * (h0 + h1) ** 2 * (h0 + h1 + h2), rel=1e-10)


def test_the_oldest_weight_of_belm_is_a_product_of_squares():
    s = np.array([0.1, 0.3, 0.4, 0.9, 1.1])
    a, _ = formulas.belm(4).weights(s)
    assert a[-1] == pytest.approx(np.prod(((s[0] - s[1:4]) / (s[4] - s[1:4])) ** 2), rel=1e-13)


def test_one_step_members_of_the_families_are_ddim():
    s = np.array([0.2, 0.9])
    a, c = formulas.ddim().weights(s)
    assert a.tolist() == [1.0] and np.allclose(c, [0.0, -0.7])
    for one in (formulas.adams_bashforth(1), formulas.deis(1), formulas.dpm_solver_pp(1)):
        other_a, other_c = one.weights(s)
        assert np.allclose(other_a, a, rtol=1e-15) and np.allclose(other_c, c, rtol=1e-14)


def test_bdf1_and_adams_moulton1():
    s = np.array([0.2, 0.9])
    assert np.allclose(formulas.bdf(1).weights(s)[1], [-0.7, 0.0])
    assert np.allclose(formulas.adams_moulton(1).weights(s)[1], [-0.35, -0.35])


# ---- which rows are invertible, from the zero pattern


def flags(name):
    plan = formulas.by_name(name).plan(Grid.from_sigma_bar(np.linspace(0.2, 1.0, 9) ** 2))
    return plan.explicit, plan.backward_explicit


@pytest.mark.parametrize("name", ["belm(2)", "belm(3)", "bdia(1)", "bdia(0.5)", "edict(0.93)", "mccallum_foster(0.999)"])
def test_exactly_invertible_methods_are_explicit_both_ways(name):
    assert flags(name) == (True, True)


@pytest.mark.parametrize("name", ["ddim", "adams_bashforth(3)", "deis(2)", "dpm_solver_pp(2)", "bdia(0)", "edict(0)"])
def test_methods_without_an_explicit_inverse(name):
    assert flags(name) == (True, False)


@pytest.mark.parametrize("name", ["bdf(2)", "bdf(5)"])
def test_bdf_is_implicit_one_way_and_explicit_the_other(name):
    assert flags(name) == (False, True)


# ---- arguments


@pytest.mark.parametrize(
    "make, argument",
    [
        (formulas.belm, 1),
        (formulas.belm, 2.5),
        (formulas.belm, True),
        (formulas.adams_bashforth, 0),
        (formulas.adams_moulton, -1),
        (formulas.bdf, 0),
        (formulas.deis, 0),
        (formulas.dpm_solver_pp, 4),
        (formulas.bdia, 1.5),
        (formulas.bdia, -0.1),
        (formulas.bdia, float("nan")),
        (formulas.edict, 1.01),
        (formulas.mccallum_foster, 2.0),
    ],
)
def test_arguments_out_of_range_are_refused(make, argument):
    with pytest.raises(ValueError, match=r"must (be|lie)"):
        make(argument)


@pytest.mark.parametrize("text", ["belm(two)", "nothing(2)", "belm(2, 3, 4)", "belm(2", "", "belm(1)", "__import__('os')"])
def test_by_name_refuses_what_it_does_not_know(text):
    with pytest.raises(ValueError):
        formulas.by_name(text)


@pytest.mark.parametrize("name", formulas.METHODS)
def test_names_are_read_back(name):
    formula = formulas.by_name(name)
    assert formulas.by_name(formula.name).name == formula.name
    assert repr(formula) == formula.name
    assert formula.source
