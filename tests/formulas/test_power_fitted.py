"""Power-fitted BELM: its defining conditions solved in 50 digits, printed values, refusals, and z's own zero-stability."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsvf import formulas
from vsvf.formulas import powers
from vsvf.formulas.root_placed import roots_at
from vsvf.grid import Grid
from vsvf.schedule import Schedule
from vsvf.stability.regions import root_condition, spurious_roots

MEMBERS = {
    "A": (0.6, (5 / 6,), 2.25, 0.85),
    "B": (0.7, (7 / 8,), 2.0, 0.75),
    "C": (0.9, (7 / 8,), 1.75, 0.6),
    "p = 0": (0.0, (5 / 6,), 1.0, 0.5),
    "p = 1": (1.0, (2 / 3,), 0.5, 1.5),
    "k = 4": (0.6, (1 / 3, 1.0), 1.0, 0.9),
    "k = 5": (0.3, (1 / 3, 5 / 6), 1.25, 0.4),
    "k = 6": (0.8, (1 / 6, 5 / 12, 1.0), 0.75, 1.0),
}
EXPONENTS = (0.0, 1.0, 1.5, 2.0, 2.5)


def member(name):
    p, angles, gamma, beta = MEMBERS[name]
    return formulas.power_fitted_belm(p, angles if len(angles) > 1 else angles[0], gamma, beta)


def by_definition(nodes, p, angles, gamma, beta):
    """a and c: states sigma_bar^q with their slopes, and the modes of z with slope zero, all satisfy the row; 2k-1 equations."""
    k = len(nodes) - 1
    s = [mp.mpf(float(v)) for v in nodes]
    p, gamma, beta = mp.mpf(p), mp.mpf(gamma), mp.mpf(beta)
    solutions = []  # (x_bar at s_0 … s_k, eps_bar at s_1 … s_{k-1})
    for q in (p, *[mp.mpf(v) for v in EXPONENTS[: k - 1]]):
        if q == p and solutions:
            logarithm = [v**p * mp.log(v) for v in s]  # the limit of the two functions that coincide
            solutions.append((logarithm, [p * x / v + v ** (p - 1) for x, v in zip(logarithm[1:k], s[1:k])]))
        else:
            solutions.append(([v**q for v in s], [q * v ** (q - 1) for v in s[1:k]]))
    for root in roots_at(angles):
        zeta = mp.mpc(complex(root))
        zeta /= abs(zeta)
        u = [mp.mpf(0)]
        for n, j in enumerate(range(k, 0, -1)):
            u.append(u[-1] + zeta**n * mp.log(s[j] / s[j - 1]) ** gamma * (s[j] * s[j - 1]) ** ((beta - p) / 2))
        x = [z * v**p for z, v in zip(u[::-1], s)]
        solutions.append((x, [p * x[j] / s[j] for j in range(1, k)]))
    matrix = mp.matrix([[*x[1:], *slopes] for x, slopes in solutions])
    weights = mp.lu_solve(matrix, mp.matrix([x[0] for x, _ in solutions]))
    return [mp.re(w) for w in weights[:k]], [mp.re(w) for w in weights[k:]]


def grids():
    return [
        Grid.from_schedule(Schedule.scaled_linear(), 50, "leading", "smallest"),
        Grid.from_schedule(Schedule.linear(), 20, "leading", "smallest"),
        Grid.from_schedule(Schedule.linear(), 800, "leading", "smallest"),
        Grid.from_schedule(Schedule.edm(), 8, "karras", "smallest"),
        Grid.from_schedule(Schedule.edm(), 1000, "log_snr", "smallest"),
    ]


@pytest.mark.parametrize("name", MEMBERS)
def test_the_coefficients_solve_the_defining_conditions(name):
    formula = member(name)
    k = formula.steps
    with mp.workdps(50):
        for grid in grids():
            windows = np.lib.stride_tricks.sliding_window_view(grid.sigma_bar, k + 1)
            for window in windows[[0, 1, len(windows) // 2, -1]]:
                a, c = formula.weights(window)
                exact_a, exact_c = by_definition(window, *MEMBERS[name])
                steps = len(grid.sigma_bar) - 1
                size = float(max(abs(v) for v in exact_a))
                # k-1 slopes on short intervals determine each other's weights up to 1/h, the rounding of the nodes with them
                tolerance = 2e-15 * max(1.0, steps / 10.0) ** max(0, k - 3) * 50.0
                np.testing.assert_allclose(a, [float(v) for v in exact_a], rtol=0.0, atol=tolerance * size)
                largest = max(abs(float(v)) for v in exact_c)
                np.testing.assert_allclose(c[1:k], [float(v) for v in exact_c], rtol=0.0, atol=tolerance * steps * largest)
                assert c[0] == c[k] == 0.0


def test_published_digits():
    nodes = [0.02916716, 0.21780118, 0.33262298, 0.43806173]
    a, c = formulas.power_fitted_belm(0.6, 5 / 6, 2.25, 0.85).weights(nodes)
    np.testing.assert_allclose(a, [-10.17145, -0.487508, 11.65896], rtol=2e-6)
    np.testing.assert_allclose(c[1:3], [-0.8190677, -1.8815987], rtol=1e-7)
    a, c = formulas.power_fitted_belm(0.7, 7 / 8, 2, 0.75).weights(nodes)
    np.testing.assert_allclose(a, [-6.942009, 0.542682, 7.399327], rtol=1e-6)
    np.testing.assert_allclose(c[1:3], [-0.7494762, -1.1312494], rtol=1e-7)


def test_the_closed_form_of_three_steps():
    p, theta, gamma, beta = 0.7, 0.8, 1.5, 0.6
    s = np.array([0.05, 0.2, 0.45, 1.1])
    w = np.log(s[1:] / s[:-1]) ** gamma * (s[1:] * s[:-1]) ** ((beta - p) / 2)
    second, third = 2 * np.cos(np.pi * theta) * w[0] / w[1], -w[0] / w[2]
    alpha = np.array([1 + second, third - second, -third])
    r1 = s[0] ** -p - alpha @ s[1:] ** -p
    g = (s[0] ** (1 - p) - alpha @ s[1:] ** (1 - p)) / (1 - p)
    d1 = (-r1 / p - g / s[2]) / (1 / s[1] - 1 / s[2])
    d = np.array([d1, g - d1, 0.0])
    a, c = formulas.power_fitted_belm(p, theta, gamma, beta).weights(s)
    np.testing.assert_allclose(a, s[0] ** p * (alpha * s[1:] ** -p - p * d / s[1:]), rtol=1e-12)
    np.testing.assert_allclose(c[1:], s[0] ** p * d, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", MEMBERS)
def test_the_roots_stand_where_they_were_placed(name):
    formula = member(name)
    expected = roots_at(MEMBERS[name][1])
    for root in spurious_roots(formula):
        assert np.abs(root - expected).min() < 1e-6
    assert root_condition(formula) == (True, True)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 3.0), st.floats(0.05, 3.0), st.floats(0.05, 3.0), st.floats(0.01, 2.0))
def test_the_scale_of_sigma_bar_only_scales_the_slopes(first, second, third, start):
    formula = member("B")
    nodes = start * np.exp(np.cumsum([0.0, first, second, third]))
    a, c = formula.weights(nodes)
    scaled_a, scaled_c = formula.weights(4.0 * nodes)
    np.testing.assert_allclose(scaled_a, a, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scaled_c, 4.0 * c, rtol=1e-9, atol=1e-12)


def test_divided_differences_against_their_definition():
    mu, t = np.array([0.0, -0.6, 0.4, 0.9]), np.array([1e-6, 0.3, 5.0])
    table = powers._divided_differences(mu, t)
    with mp.workdps(60):
        for n, time in enumerate(t):
            differences = [mp.exp(mp.mpf(m) * mp.mpf(time)) for m in mu.tolist()]
            for width in range(4):
                for i in range(4 - width):
                    assert table[n, i, i + width] == pytest.approx(float(differences[i]), rel=1e-13)
                exact = [mp.mpf(m) for m in mu.tolist()]
                differences = [
                    (differences[i + 1] - differences[i]) / (exact[i + width + 1] - exact[i]) for i in range(len(differences) - 1)
                ]


def test_a_grid_that_ends_at_zero_is_refused_by_name():
    formula = formulas.power_fitted_belm(0.6, 5 / 6, 2.25, 0.85)
    grid = Grid.from_schedule(Schedule.linear(), 20, "leading", "zero")
    with pytest.raises(ValueError, match=r"^power_fitted_belm\(0.6,.*needs sigma_bar > 0.*final='smallest'"):
        formula.plan(grid)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5, 0.8, 1, 1), "p must lie in"),
        ((0.5, 0.0, 1, 1), "theta must be"),
        ((0.5, 1.0, 1, 1), "at least 2"),
        ((0.5, (0.5, 0.5), 1, 1), "theta must be"),
        ((0.5, 0.8, np.inf, 1), "gamma must be"),
        ((0.5, 0.8, 1, np.nan), "beta must be"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        formulas.power_fitted_belm(*arguments)
