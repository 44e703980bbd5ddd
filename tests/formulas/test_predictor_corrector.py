"""Predictor-corrector BELM: its defining conditions solved in 50 digits, its modes, what is asked, and refusals."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vsvf
from vsvf import formulas
from vsvf.convergence.problems import problems, smooth_grid
from vsvf.formulas.root_placed import roots_at
from vsvf.grid import Grid
from vsvf.predictors import gaussian_mixture
from vsvf.schedule import Schedule
from vsvf.stability.growth import log_amplification, power_rows

MEMBERS = {
    "l = 2": (1.0, (1.0,), (0.5,), 1.5, 1.0),
    "l = 2, p = 0": (0.0, (1.0,), (0.7,), 0.5, 0.5),
    "l = 3": (0.9, (0.53,), (0.43, 1.0), 1.5, 1.07),
    "l = 4": (0.7, (0.3, 1.0), (0.4, 0.8), 1.0, 0.9),
    "l = 5": (0.6, (1 / 3, 5 / 6), (0.2, 0.6, 1.0), 0.75, 1.2),
}
EXPONENTS = (0.0, 1.0, 1.5, 2.0, 2.5)


def member(name):
    p, phi, theta, gamma, beta = MEMBERS[name]
    return formulas.pec_belm(p, phi, theta if len(theta) > 1 else theta[0], gamma, beta)


def grids():
    return [
        Grid.from_schedule(Schedule.scaled_linear(), 50, "leading", "smallest"),
        Grid.from_schedule(Schedule.linear(), 20, "log_snr", "smallest"),
        Grid.from_schedule(Schedule.edm(), 12, "karras", "smallest"),
    ]


def log_grid(steps):
    return Grid.from_sigma_bar(np.geomspace(0.01, 100.0, steps + 1))


def weights_in_50_digits(s, row, p, exponents):
    """Weights E of the slopes r at `s[row]` in z(s_0) = sum alpha_j z(s_j) + sum E_j r_j, given alpha, exact for these powers."""

    def solved(alpha):
        matrix, right = mp.matrix(len(row)), mp.matrix(len(row), 1)
        for m, q in enumerate(mp.mpf(v) for v in exponents[: len(row)]):
            if q == p:  # the limit of two functions that coincide: z = ln sigma_bar
                z, slope = [mp.log(v) for v in s], [mp.mpf(1)] * len(s)
            else:
                z, slope = [v ** (q - p) for v in s], [(q - p) * v ** (q - p) for v in s]
            for n, j in enumerate(row):
                matrix[m, n] = slope[j]
            right[m] = z[0] - sum(weight * z[j] for j, weight in alpha.items())
        return mp.lu_solve(matrix, right)

    return solved


def polynomial(angles):
    """D_1 … D_n of prod (y - root) = y^n - sum D_j y^(n-j)."""
    product = [mp.mpf(1)]
    for angle in angles:
        factor = [1, 1] if angle == 1.0 else [1, -2 * mp.cos(mp.pi * mp.mpf(angle)), 1]
        longer = [mp.mpf(0)] * (len(product) + len(factor) - 1)
        for i, a in enumerate(product):
            for j, b in enumerate(factor):
                longer[i + j] += a * b
        product = longer
    return [-v for v in product[1:]]


@pytest.mark.parametrize("name", MEMBERS)
def test_the_rows_solve_the_defining_conditions(name):
    p, phi, theta, gamma, beta = MEMBERS[name]
    formula, l = member(name), len(roots_at(theta))
    for grid in grids():
        plan, n = formula.plan(grid), grid.steps
        assert plan.rows == 2 * (n - l + 1) and plan.steps == 2 * l
        for step in (0, (n - l) // 2, n - l):
            first = n - l - step  # the new node
            with mp.workdps(50):
                s = [mp.mpf(float(v)) for v in grid.sigma_bar[first : first + l + 1]]
                above = [*s, mp.mpf(float(grid.sigma_bar[min(first + l + 1, n)]))]
                interval = [(above[j], above[j + 1]) for j in range(l + 1)]
                if first + l == n:
                    interval[l] = interval[l - 1]
                w = [mp.log(b / a) ** mp.mpf(gamma) * (a * b) ** ((mp.mpf(beta) - mp.mpf(p)) / 2) for a, b in interval]
                ratio = [(s[0] / v) ** mp.mpf(p) for v in s]
                slopes = weights_in_50_digits(s, range(1, l), mp.mpf(p), EXPONENTS)({1: mp.mpf(1)})
                damping = polynomial(theta)
                a, c = [mp.mpf(0)] * (2 * l), [mp.mpf(0)] * (2 * l + 1)
                for j in range(1, l + 1):
                    d = damping[j - 1] * w[0] / w[j]
                    a[2 * j - 2] += ratio[j] * ((1 if j == 1 else 0) - d)
                    a[2 * j - 1] += ratio[j] * d
                    if j < l:
                        c[2 * j] = ratio[j] * s[j] * slopes[j - 1]
                        a[2 * j - 1] -= p * ratio[j] * slopes[j - 1]
                _close(plan, 2 * step, a, c)
                placed = {1: mp.mpf(1)}
                for j, b in enumerate(polynomial(phi), 2):
                    weight = b * w[0] / w[j - 1]
                    placed[j - 1] += weight
                    placed[j] = placed.get(j, mp.mpf(0)) - weight
                slopes = weights_in_50_digits(s, range(l), mp.mpf(p), EXPONENTS)(placed)
                a, c = [mp.mpf(0)] * (2 * l), [mp.mpf(0)] * (2 * l + 1)
                for j in range(1, l + 1):
                    a[2 * j - 1] = ratio[j] * placed[j]
                for j in range(l):
                    c[2 * j + 1] = ratio[j] * s[j] * slopes[j]
                    a[2 * j] = -p * ratio[j] * slopes[j]
                _close(plan, 2 * step + 1, a, c)


def _close(plan, row, a, c):
    for found, exact in ((plan.a[row], a), (plan.c[row], c)):
        exact = np.array([float(v) for v in exact])
        np.testing.assert_allclose(found, exact, rtol=0.0, atol=1e-10 * np.abs(exact).max())
    assert not np.any(plan.c[row][np.array([v == 0 for v in c])])


def test_two_nodes_by_hand():
    """l = 2, p = 1: the corrector is exact where x_0 is 1 and ln sigma_bar, and E_1 = 1 - s_1/s_0 up to s_1's sign."""
    s = np.array([0.3, 0.5, 0.9])
    plan = formulas.pec_belm(1, 1, 0.5, 1.0, 1.0).plan(Grid.from_sigma_bar(s))
    w = np.log(s[1:] / s[:-1])
    w = np.array([w[0], w[1], w[1]])
    # 1/s_0 = 1/s_1 - E_1/s_1
    slope = 1.0 - s[1] / s[0]
    d = -w[0] / w[2]  # of (y - i)(y + i) = y^2 + 1
    a = [s[0] / s[1], -slope * s[0] / s[1], -d * s[0] / s[2], d * s[0] / s[2]]
    np.testing.assert_allclose(plan.a[0], a, rtol=1e-12)
    np.testing.assert_allclose(plan.c[0], [0, 0, slope * s[0], 0, 0], rtol=1e-12)


@pytest.mark.parametrize("name", MEMBERS)
def test_the_modes_stand_where_they_were_placed(name):
    """With r frozen z(P) - z(C) = w zeta^n solves the rows, and increments w zeta^n of z(C) solve the corrector's."""
    p, phi, theta, gamma, beta = MEMBERS[name]
    for grid in grids():
        plan, s = member(name).plan(grid), grid.sigma_bar
        weight = np.log(s[1:] / s[:-1]) ** gamma * (s[1:] * s[:-1]) ** ((beta - p) / 2)
        w = np.append(weight, weight[-1])[::-1]  # in the order of the march
        n, rows = np.arange(len(s)), power_rows(plan, p)
        for root in roots_at(theta):
            _solves(rows, np.stack([w * root**n, 0.0 * w], axis=1).ravel())
        for root in roots_at(phi):
            states = np.concatenate([[0.0], np.cumsum(w[1:] * root ** n[1:])])
            _solves(rows, np.repeat(states, 2), slice(1, None, 2))
        _solves(rows, np.ones(plan.rows + plan.steps))


def _solves(rows, z, which=slice(None)):
    k = rows.shape[1]
    left = np.array([z[m + k] - rows[m] @ z[m : m + k][::-1] for m in range(len(rows))])
    size = np.array([np.abs(z[m : m + k]).max() for m in range(len(rows))])
    assert np.all(np.abs(left[which]) <= 1e-9 * size[which])


@pytest.mark.parametrize("name", MEMBERS)
def test_z_is_stable_both_ways(name):
    """K for z with its slope frozen stays as the grid is refined."""
    for inverted in (False, True):
        found = []
        for steps in (40, 80, 160, 320):
            plan = member(name).plan(log_grid(steps))
            plan = plan.inverse() if inverted else plan
            found.append(np.exp(log_amplification(power_rows(plan, MEMBERS[name][0]))))
        assert found[-1] < 1.5 * found[1] and found[-1] < 1e4


def test_a_prediction_is_better_than_its_predictor():
    """A smooth defect g of the prediction leaves z(P) - z(C) = g / prod (1 - root): half of it for the roots i and -i."""
    grid, p = log_grid(1600), 1.0
    plan = formulas.pec_belm(p, 1, 0.5, 0.0, p).plan(grid)  # all w are 1
    exact = lambda s: np.sqrt(s * s + 0.2)  # noqa: E731
    x = np.zeros(len(plan.position))
    x[:4] = exact(plan.position[:4])
    slope = plan.position / exact(plan.position)  # d exact / d sigma_bar, whatever the state
    for m in range(plan.rows):
        window = slice(m, m + 4)
        x[m + 4] = plan.a[m] @ x[window][::-1] + plan.c[m, 1:] @ slope[window][::-1]
    z = x / plan.position**p
    s = grid.sigma_bar[::-1]
    r = slope[1::2] * s ** (1 - p) - p * x[1::2] / s**p
    defect = z[3:-2:2] + (1 - s[1:-1] / s[2:]) * r[1:-1] - z[5::2]
    left = z[4::2] - z[5::2]
    middle = slice(600, 1000)
    mean = 0.5 * (left[middle] + left[601:1001])  # the modes that the start excites alternate
    np.testing.assert_allclose(0.5 * (mean[:-1] + mean[1:]), 0.5 * defect[middle][:-1], rtol=0.03)


def test_one_evaluation_to_a_node_both_ways():
    problem, grid, formula = problems()[3], smooth_grid(12), member("l = 3")
    values = torch.stack([problem.exact(s) for s in formula.plan(grid).position[:6]])
    start = vsvf.State.at("noise", values, formula, grid)
    image = vsvf.sample(problem.predictor, start, grid, formula)
    assert image.nfe == grid.steps
    assert float((image.x - problem.exact(grid.sigma_bar[0])).abs().max()) < 1e-4
    back = vsvf.invert(problem.predictor, image, grid, formula)
    assert back.nfe == grid.steps and float((back.values - values).abs().max()) < 1e-9


def test_the_image_is_the_corrected_state():
    grid = Grid.from_schedule(Schedule.linear(), 10, "log_snr", "smallest")
    plan = member("l = 3").plan(grid)
    assert plan.bidirectionally_explicit and plan.rows_per_step == 2
    assert plan.node_at(plan.rows, plan.last) == 0 and plan.node_at(0, plan.first) == 10
    assert np.count_nonzero(plan.c[:, 1::2].any(0)) + np.count_nonzero(plan.c[0::2, 2::2].any(0)) == 3 + 2
    inverse = plan.inverse()
    assert inverse.explicit and inverse.node_at(0, inverse.first) == 0


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(MEMBERS)), st.floats(0.05, 3.0), st.floats(0.05, 3.0), st.floats(0.01, 2.0))
def test_the_scale_of_sigma_bar_only_scales_the_slopes(name, first, second, start):
    steps = [first, second, 0.5 * first, first, second, second, 0.3]
    nodes = start * np.exp(np.cumsum([0.0, *steps]))
    plan, scaled = member(name).plan(Grid.from_sigma_bar(nodes)), member(name).plan(Grid.from_sigma_bar(4.0 * nodes))
    for m in range(plan.rows):
        np.testing.assert_allclose(scaled.a[m], plan.a[m], rtol=0.0, atol=1e-7 * np.abs(plan.a[m]).max())
        np.testing.assert_allclose(scaled.c[m], 4.0 * plan.c[m], rtol=0.0, atol=1e-7 * np.abs(plan.c[m]).max() * 4.0)


def test_a_grid_that_ends_at_zero_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^pec_belm\(0.9,0.53,\(0.43,1\),1.5,1.07\).*needs sigma_bar > 0.*final='smallest'"):
        member("l = 3").plan(Grid.from_schedule(Schedule.linear(), 20, "leading", "zero"))
    with pytest.raises(ValueError, match="at least 3 steps"):
        member("l = 3").plan(Grid.from_sigma_bar([0.1, 0.2, 0.3]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5, 1, 0.5, 1, 1), "p must lie in"),
        ((0.5, 1, 0.0, 1, 1), "theta must be"),
        ((0.5, 0.0, (0.5, 1), 1, 1), "phi must be"),
        ((0.5, 0.5, 0.5, 1, 1), "the predictor must have one more"),
        ((0.5, (), 1, 1, 1), "phi must be"),
        ((0.5, 0.5, (0.5, 0.5), 1, 1), "theta must be"),
        ((0.5, 0.5, (0.5, 1), 1, 1), "angle 0.5 stands in both"),
        ((0.5, 1, 1.5, 1, 1), "theta must lie in"),
        ((0.5, 1, "x", 1, 1), "theta must be"),
        ((0.5, 1, 0.5, np.inf, 1), "gamma must be"),
        ((0.5, 1, 0.5, 1, np.nan), "beta must be"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        formulas.pec_belm(*arguments)


def test_names_read_back():
    for name in MEMBERS:
        formula = member(name)
        again = formulas.by_name(formula.name)
        assert again == formula and again.name == formula.name


def test_it_samples_from_noise_alone_with_every_starter():
    grid = Grid.from_schedule(Schedule.linear(), 16, "log_snr", "smallest")
    problem = gaussian_mixture(torch.tensor([[0.5], [-0.7]], dtype=torch.float64), 0.2, schedule=Schedule.linear())
    noise = torch.randn(64, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = vsvf.sample(problem, noise, Grid.from_schedule(Schedule.linear(), 600, "log_snr", "smallest"), "belm(2)", warn=False).x
    for starter, bound in (("ddim", 0.12), ("heun", 0.05), ("rk4", 0.05)):
        found = vsvf.sample(problem, noise, grid, member("l = 3"), starter=starter).x
        assert float((found - exact).pow(2).mean().sqrt()) < bound
