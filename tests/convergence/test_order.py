"""Measured orders of convergence against the claimed ones."""

import numpy as np
import pytest
import strategies as own
import torch

import vsvf
from vsvf import Grid, formulas, sample
from vsvf.convergence.order import exact_state, fit_slope, march_error
from vsvf.convergence.problems import problems, smooth_grid

# literature: Adams-Bashforth k, Adams-Moulton k + 1, BDF k, midpoint rule and O-BELM 2, the coupled Euler schemes 1
ORDERS = {
    "ddim": 1,
    "adams_bashforth(2)": 2,
    "adams_bashforth(3)": 3,
    "adams_bashforth(4)": 4,
    "deis(2)": 2,
    "deis(3)": 3,
    "adams_moulton(1)": 2,
    "adams_moulton(2)": 3,
    "adams_moulton(3)": 4,
    "bdf(1)": 1,
    "bdf(2)": 2,
    "bdf(3)": 3,
    "bdf(4)": 4,
    "bdf(5)": 5,
    "bdf(6)": 6,
    "dpm_solver_pp(2)": 2,
    "dpm_solver_pp(3)": 2,
    "dpm_solver_pp(3, True)": 3,
    "unipc(2)": 2,
    "unipc(3)": 2,
    "belm(2)": 2,
    "bdia(1)": 2,
    "bdia(0.5)": 1,
    "edict(0.93)": 1,
    "mccallum_foster(1)": 1,
    "mccallum_foster(0.999)": 1,
    "root_placed_belm((-1,),0)": 2,
    "stable_belm(2)": 2,
    "stable_belm(3)": 2,
    "stable_belm(4)": 4,
    "stable_belm(5)": 4,
    "stable_belm(6)": 6,
    "power_fitted_belm(0.6, 5/6, 2.25, 0.85)": 2,
    "power_fitted_belm(0.6, (1/3, 1), 1, 0.9)": 4,
    "power_fitted_belm(0.7, (0.29, 0.86), 1.43, 1.06)": 4,
    "corrected(stable_belm(3), 0.7, 4)": 2,
    "corrected(power_fitted_belm(0.95, 0.877, 0.94, 0.52), 0.6, 2)": 2,
    "pec_belm(0.82, 0.56, (0.32, 1), 0.38, 0.87)": 3,
    "pec_belm": 2,
}
BOTH_WAYS = (
    "belm(2)",
    "bdia(1)",
    "root_placed_belm((-1,),0)",
    "mccallum_foster(1)",
    *(f"stable_belm({k})" for k in range(2, 7)),
    "power_fitted_belm(0.6, 5/6, 2.25, 0.85)",
    "power_fitted_belm(0.6, (1/3, 1), 1, 0.9)",
    "power_fitted_belm(0.7, (0.29, 0.86), 1.43, 1.06)",
    "corrected(stable_belm(3), 0.7, 4)",
    "corrected(power_fitted_belm(0.95, 0.877, 0.94, 0.52), 0.6, 2)",
    "pec_belm(0.82, 0.56, (0.32, 1), 0.38, 0.87)",
    "pec_belm",
)


def grids_for(name):
    order = ORDERS[name]
    if order == 6:  # the finest grids whose errors are above rounding differ from problem to problem
        return (96, 128, 192, 256, 384)
    return (192, 256, 384) if order < 4 else (96, 128, 192) if order == 4 else (64, 96, 128)


@pytest.fixture(scope="module")
def measured():
    cache = {}

    def get(name):
        if name not in cache:
            cache[name] = vsvf.order(formulas.by_name(name), grids_for(name))
        return cache[name]

    return get


def test_every_method_is_measured():
    assert set(ORDERS) | {"belm(3)"} == set(own.METHODS)


@pytest.mark.parametrize("name", ORDERS)
def test_sampling_has_the_claimed_order(measured, name):
    result = measured(name)
    assert result.claimed == formulas.by_name(name).order == ORDERS[name]
    assert result.sampling == pytest.approx(ORDERS[name], abs=0.1)


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_inversion_has_the_claimed_order(measured, name):
    assert measured(name).inversion == pytest.approx(ORDERS[name], abs=0.1)


@pytest.mark.parametrize("name", ["ddim", "adams_bashforth(2)", "deis(3)", "dpm_solver_pp(2)"])
def test_formulas_without_an_explicit_inverse_have_no_inversion_order(measured, name):
    assert measured(name).inversion is None
    assert {way for way, _ in measured(name).fits} == {"sampling"}


def test_the_maximal_order_three_step_formula_diverges():
    errors = [march_error(formulas.belm(3), smooth_grid(n), problems()[0], "sampling") for n in (10, 20, 40)]
    assert errors[0] < errors[1] < errors[2] and errors[2] > 1e3


def test_a_fit_recovers_a_power_law():
    n = np.array([10, 20, 40, 80])
    slope, used = fit_slope(n, 3.0 * n**-2.5)
    assert slope == pytest.approx(2.5, abs=1e-10) and used.tolist() == [False, False, True, True]
    slope, used = fit_slope(n, [1e-2, 1e-4, 1e-13, np.inf])
    assert slope == pytest.approx(np.log2(100.0)) and used.tolist() == [True, True, False, False]
    assert np.isnan(fit_slope(n, [np.inf, np.inf, 1e-13, 1e-3])[0])


def test_a_problem_without_a_fit_does_not_spoil_the_others():
    result = vsvf.order(formulas.bdf(6), (192, 256))  # on Gaussian data both errors are below what can be fitted
    slopes = [fit.slope for (way, _), fit in result.fits.items() if way == "sampling"]
    assert np.isnan(slopes).sum() == 1
    assert result.sampling == np.nanmedian(slopes)


# ---- the problems and grids that orders are measured on


@pytest.mark.parametrize("problem", problems(), ids=lambda p: p.name)
def test_exact_solutions_solve_their_equations(problem):
    for s in np.linspace(0.3, 1.2, 10):
        h = 1e-3
        five_point = (problem.exact(s - 2 * h) - 8 * problem.exact(s - h) + 8 * problem.exact(s + h) - problem.exact(s + 2 * h)) / (
            12 * h
        )
        slope = problem.predictor.epsilon(problem.exact(s), float(s))
        assert torch.allclose(five_point, slope, rtol=1e-7, atol=1e-8)


def test_smooth_grids_are_variable_and_smooth():
    for n in (20, 200):
        grid = smooth_grid(n)
        assert (grid.steps, grid.sigma_bar[0], grid.sigma_bar[-1]) == (n, 0.25, 1.25)
        assert grid.h.max() / grid.h.min() > 1.3
        assert np.abs(grid.h[1:] / grid.h[:-1] - 1.0).max() < 5.0 / n


@pytest.mark.parametrize("name", ["belm(3)", "edict(0.93)", "mccallum_foster(1)"])
def test_exact_states_stand_on_the_solution(name):
    problem, grid, formula = problems()[2], smooth_grid(12), formulas.by_name(name)
    plan = formula.plan(grid)
    for at, window in (("noise", 0), ("data", plan.rows)):
        state = exact_state(formula, grid, problem, at)
        for value, s in zip(state.values, plan.position[window:]):
            assert torch.equal(value, problem.exact(float(s)))
        assert torch.equal(state.x, problem.exact(1.25 if at == "noise" else 0.25))


@pytest.mark.parametrize("starter, order", [("ddim", 2), ("heun", 3), ("rk4", 4)])
def test_whole_runs_converge_as_formula_and_starter_allow(starter, order):
    """A starter of order p makes an error O(h^(p+1)) once, so a formula of order 4 needs p >= 3 to keep its order."""
    problem = problems()[0]
    errors = []
    for n in (100, 200):
        grid = Grid(smooth_grid(n).sigma_bar, np.ones(n + 1))
        out = sample(problem.predictor, problem.exact(1.25), grid, "adams_bashforth(4)", starter=starter)
        errors.append(float((out.x - problem.exact(0.25)).abs().max()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)
