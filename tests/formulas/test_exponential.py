"""DEIS and DPM-Solver++ against high-precision quadrature of their definitions, in log sigma_bar."""

import mpmath
import numpy as np
import pytest

from vsvf import Grid, Schedule, formulas

WINDOWS = (
    [0.5, 0.8, 1.1, 1.9],
    [1.0, 1.0 + 1e-4, 1.0 + 2.5e-4, 1.0 + 3.1e-4],
    [0.002, 0.01, 0.08, 0.7],
    [20.0, 33.0, 56.0, 157.0],
)


def quadrature(integrand, start, stop):
    points = [start, stop] if start else [0, stop / 10**6, stop / 10**3, stop / 10, stop]
    return mpmath.quad(integrand, points)


def lagrange(u, nodes, j):
    value = mpmath.mpf(1)
    for m, node in enumerate(nodes):
        if m != j:
            value *= (u - node) / (nodes[j] - node)
    return value


def deis_weights(nodes):
    """c_j = integral from s_1 to s_0 of the Lagrange basis in log s."""
    with mpmath.workdps(40):
        s = [mpmath.mpf(float(v)) for v in nodes]
        u = [mpmath.log(v) for v in s[1:]]
        return [float(-quadrature(lambda t, j=j: lagrange(mpmath.log(t), u, j), s[0], s[1])) for j in range(len(u))]


@pytest.mark.parametrize("k", range(1, 5))
@pytest.mark.parametrize("window", WINDOWS)
def test_deis_integrates_the_interpolant_in_log_sigma_bar(window, k):
    nodes = np.array([*window, window[-1] * 1.3])[: k + 1]
    a, c = formulas.deis(k).weights(nodes)
    exact = deis_weights(nodes)
    assert a.tolist() == [1.0] + [0.0] * (k - 1)
    assert c[0] == 0.0
    assert np.allclose(c[1:], exact, rtol=0.0, atol=1e-11 * max(map(abs, exact)))


@pytest.mark.parametrize("k", range(1, 5))
def test_deis_stays_finite_down_to_zero(k):
    nodes = np.array([0.0, 0.3, 0.4, 0.7, 1.0])[: k + 1]
    assert np.allclose(formulas.deis(k).weights(nodes)[1][1:], deis_weights(nodes), rtol=1e-12)


def test_deis_is_accurate_on_a_fine_grid():
    s = Grid.from_schedule(Schedule.linear(), 999, "linspace", "smallest").sigma_bar
    for i in (0, 1, 10, 300, 700, 990):
        exact = deis_weights(s[i : i + 4])
        found = formulas.deis(3).weights(s[i : i + 4])[1][1:]
        assert np.allclose(found, exact, rtol=0.0, atol=1e-10 * max(map(abs, exact)))


# ---- DPM-Solver++: x_bar_0 = (s_0/s_1) x_bar_1 + s_0 * integral of e^lambda m(lambda), lambda = -log s, m_j = x_bar_j - s_j eps_j


def data_weights(nodes, derivative_weight):
    """Weights of m_1, m_2, … that the published steps give; `derivative_weight` is what stands before D_1."""
    with mpmath.workdps(40):
        lam = [-mpmath.log(mpmath.mpf(float(v))) for v in nodes]
        h = lam[0] - lam[1]
        r = (lam[1] - lam[2]) / h
        gain = 1 - mpmath.exp(-h)
        d = derivative_weight(h) / r
        return [float(gain + d), float(-d)]


def check_against_data_weights(formula, nodes, m, rtol):
    """Rows have a_1 = s_0/s_1 + m_1, a_j = m_j, c_j = -s_j m_j."""
    a, c = formula.weights(nodes)
    expected = np.array(m)
    size = np.abs(expected).max()
    assert np.allclose(-c[1:] / nodes[1:], expected, rtol=0.0, atol=rtol * size)
    expected[0] += nodes[0] / nodes[1]
    assert np.allclose(a, expected, rtol=0.0, atol=rtol * size)
    assert c[0] == 0.0


@pytest.mark.parametrize("window", WINDOWS)
def test_dpm_solver_pp_2_is_the_published_midpoint_step(window):
    nodes = np.array(window[:3])
    check_against_data_weights(formulas.dpm_solver_pp(2), nodes, data_weights(nodes, lambda h: (1 - mpmath.exp(-h)) / 2), 1e-11)


def published_third_order(nodes, d2_factor):
    with mpmath.workdps(40):
        lam = [-mpmath.log(mpmath.mpf(float(v))) for v in nodes]
        h = lam[0] - lam[1]
        r0, r1 = (lam[1] - lam[2]) / h, (lam[2] - lam[3]) / h
        weights = []
        for unit in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
            m0, m1, m2 = unit
            d10, d11 = (m0 - m1) / r0, (m1 - m2) / r1
            d1 = d10 + r0 / (r0 + r1) * (d10 - d11)
            d2 = (d10 - d11) / (r0 + r1)
            e = mpmath.exp(-h)
            weights.append(float((1 - e) * m0 + ((e - 1) / h + 1) * d1 - d2_factor * ((e - 1 + h) / h**2 - 0.5) * d2))
        return weights


@pytest.mark.parametrize("window", WINDOWS)
def test_dpm_solver_pp_3_is_the_published_step(window):
    nodes = np.array(window)
    check_against_data_weights(formulas.dpm_solver_pp(3), nodes, published_third_order(nodes, 1), 1e-10)


@pytest.mark.parametrize("window", WINDOWS)
def test_the_corrected_third_order_step_integrates_the_interpolant_in_log_snr(window):
    nodes = np.array(window)
    with mpmath.workdps(40):
        lam = [-mpmath.log(mpmath.mpf(float(v))) for v in nodes]
        basis = [
            float(mpmath.exp(-lam[0]) * mpmath.quad(lambda t, j=j: mpmath.exp(t) * lagrange(t, lam[1:], j), [lam[1], lam[0]]))
            for j in range(3)
        ]
    check_against_data_weights(formulas.dpm_solver_pp(3, True), nodes, basis, 1e-10)


def test_at_a_final_sigma_of_zero_the_row_returns_the_data_prediction():
    nodes = np.array([0.0, 0.4, 0.9, 1.5])
    for k in (1, 2, 3):
        a, c = formulas.dpm_solver_pp(k).weights(nodes[: k + 1])
        assert a.tolist() == [1.0] + [0.0] * (k - 1)
        assert c.tolist() == [0.0, -0.4] + [0.0] * (k - 1)


def test_small_steps_do_not_cancel():
    # h = log(s_1/s_0) from 1e-3 to 2, across the switch from series to closed form
    for ratio in np.exp(np.geomspace(1e-3, 2.0, 25)):
        nodes = np.array([1.0, ratio, ratio**2, ratio**3])
        check_against_data_weights(formulas.dpm_solver_pp(3), nodes, published_third_order(nodes, 1), 1e-11)
