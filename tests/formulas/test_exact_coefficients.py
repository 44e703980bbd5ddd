"""Coefficients against the order conditions solved in rational arithmetic."""

import numpy as np
import pytest
import strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import exact_coefficients, order_residuals

from vsvf import Grid, Schedule, formulas


def relative_error(found, exact):
    """Largest error of single coefficients, relative to each; an exact zero counts relative to the row's largest."""
    exact = [float(v) for v in exact]
    largest = max(abs(v) for v in exact)
    return max(abs(f - e) / (abs(e) if e else largest) for f, e in zip(found, exact))


def belm_exactly(nodes):
    k = len(nodes) - 1
    return exact_coefficients(nodes, range(1, k + 1), range(1, k))


def real_grids():
    return {
        "sd": Grid.from_schedule(Schedule.scaled_linear(), 999, "linspace", "smallest"),
        "ddpm": Grid.from_schedule(Schedule.linear(), 1000, "trailing", "zero"),
        "cosine": Grid.from_schedule(Schedule.cosine(), 999, "linspace", "smallest"),
        "edm": Grid.from_schedule(Schedule.edm(), 999, "karras", "smallest"),
    }


@pytest.mark.parametrize("name", ["sd", "ddpm", "cosine", "edm"])
@pytest.mark.parametrize("k", range(2, 9))
def test_belm_is_accurate_on_thousand_node_grids(k, name):
    nodes = np.lib.stride_tricks.sliding_window_view(real_grids()[name].sigma_bar, k + 1)
    a, c = formulas.belm(k).weights(nodes)
    for i in np.linspace(0, len(nodes) - 1, 12).astype(int):
        exact_a, exact_c = belm_exactly(nodes[i])
        size = float(max(abs(v) for v in exact_a))
        assert max(abs(f - float(e)) for f, e in zip(a[i], exact_a)) <= 1e-10 * size
        assert relative_error(c[i, 1:k], exact_c[1:k]) <= 1e-10
        assert relative_error(a[i, -1:], exact_a[-1:]) <= 1e-10


@pytest.mark.parametrize("k", range(2, 9))
def test_belm_solves_its_order_conditions(k):
    @settings(max_examples=8)
    @given(own.rational_windows(k))
    def check(nodes):
        a, c = formulas.belm(k).weights(nodes)
        exact_a, exact_c = belm_exactly(nodes)
        size = float(max(abs(v) for v in exact_a))
        assert np.allclose(a, [float(v) for v in exact_a], rtol=0.0, atol=1e-12 * size)
        assert relative_error(c[1:k], exact_c[1:k]) <= 1e-12

    check()


@pytest.mark.parametrize("k", range(1, 9))
def test_adams_bashforth_solves_its_order_conditions(k):
    @settings(max_examples=8)
    @given(own.rational_windows(k))
    def check(nodes):
        a, c = formulas.adams_bashforth(k).weights(nodes)
        exact_a, exact_c = exact_coefficients(nodes, [], range(1, k + 1), {1: 1})
        assert a.tolist() == [float(v) for v in exact_a]
        assert np.allclose(c, [float(v) for v in exact_c], rtol=0.0, atol=1e-12 * float(max(abs(v) for v in exact_c)))

    check()


@pytest.mark.parametrize("k", range(1, 8))
def test_adams_moulton_solves_its_order_conditions(k):
    @settings(max_examples=8)
    @given(own.rational_windows(k))
    def check(nodes):
        a, c = formulas.adams_moulton(k).weights(nodes)
        exact_a, exact_c = exact_coefficients(nodes, [], range(0, k + 1), {1: 1})
        assert a.tolist() == [float(v) for v in exact_a]
        assert np.allclose(c, [float(v) for v in exact_c], rtol=0.0, atol=1e-12 * float(max(abs(v) for v in exact_c)))

    check()


@pytest.mark.parametrize("k", range(1, 8))
def test_bdf_solves_its_order_conditions(k):
    @settings(max_examples=8)
    @given(own.rational_windows(k))
    def check(nodes):
        a, c = formulas.bdf(k).weights(nodes)
        exact_a, exact_c = exact_coefficients(nodes, range(1, k + 1), [0])
        assert relative_error(a, exact_a) <= 1e-12
        assert relative_error(c[:1], exact_c[:1]) <= 1e-12
        assert not c[1:].any()

    check()


# degree up to which each row is exact for polynomials in sigma_bar
EXACT_DEGREE = {
    "ddim": 1,
    **{f"adams_bashforth({k})": k for k in (2, 3, 4)},
    **{f"adams_moulton({k})": k + 1 for k in (1, 2, 3)},
    **{f"bdf({k})": k for k in range(1, 7)},
    "belm(2)": 2,
    "belm(3)": 4,
    "bdia(1)": 1,
    "bdia(0.5)": 1,
    "root_placed_belm((-1,),0)": 1,
    **{f"stable_belm({k})": k - 1 for k in (2, 4, 5, 6)},
    "stable_belm(3)": 1,  # and for the integral of sigma_bar^(1/3)
    **{name: 1 for name in own.POSITIVE},
    **{name: 1 for name in ("deis(2)", "deis(3)", "dpm_solver_pp(2)", "dpm_solver_pp(3)", "dpm_solver_pp(3, True)")},
}


@settings(max_examples=150)
@given(st.sampled_from(own.MULTISTEP), st.data())
def test_every_row_satisfies_the_order_conditions(name, data):
    formula = formulas.by_name(name)
    grid = data.draw(own.grids(min_steps=formula.steps, max_steps=formula.steps + 3, name=name))
    plan = formula.plan(grid)
    for m in range(plan.rows):
        window = grid.sigma_bar[grid.steps - formula.steps - m :][: formula.steps + 1]
        degree = EXACT_DEGREE[name]
        residuals = order_residuals(window, plan.a[m], plan.c[m], degree)
        assert max(map(abs, residuals)) < 1e-12


def test_every_multistep_method_has_a_known_degree():
    assert set(EXACT_DEGREE) - set(own.CORRECTED + own.TWOFOLD) == set(own.MULTISTEP)


@given(st.sampled_from(own.MULTISTEP), st.data())
def test_windows_at_once_equal_one_by_one(name, data):
    formula = formulas.by_name(name)
    grid = data.draw(own.grids(min_steps=formula.steps + 1, name=name))
    nodes = np.lib.stride_tricks.sliding_window_view(grid.sigma_bar, formula.steps + 1)
    alpha = np.lib.stride_tricks.sliding_window_view(grid.alpha, formula.steps + 1)
    a, c = formula.weights(nodes, alpha)
    assert a.dtype == c.dtype == np.float64
    assert a.shape == (len(nodes), formula.steps) and c.shape == (len(nodes), formula.steps + 1)
    for i in range(len(nodes)):
        one_a, one_c = formula.weights(nodes[i], alpha[i])
        # numpy's pow, log and exp may differ by a rounding between the vectorised and the scalar loop
        assert np.allclose(a[i], one_a, rtol=1e-13, atol=1e-13 * np.abs(one_a).max())
        assert np.allclose(c[i], one_c, rtol=1e-13, atol=1e-13 * np.abs(one_c).max())


@given(st.sampled_from(own.MULTISTEP), st.data())
def test_b_times_the_step_is_c(name, data):
    formula = formulas.by_name(name)
    grid = data.draw(own.grids(min_steps=formula.steps, max_steps=formula.steps, name=name))
    s = grid.sigma_bar
    a, b = formula.coefficients(s)
    weights_a, c = formula.weights(s)
    h = np.array([s[1] - s[0], *np.diff(s)])
    assert np.array_equal(a, weights_a)
    assert np.allclose(b * h, c, rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("name", own.MULTISTEP)
def test_a_window_of_the_wrong_length_is_refused(name):
    formula = formulas.by_name(name)
    with pytest.raises(ValueError, match=f"windows of {formula.steps + 1} nodes"):
        formula.coefficients(np.linspace(0.1, 1.0, formula.steps + 2))


@pytest.mark.parametrize("name", own.MULTISTEP)
def test_a_window_that_does_not_increase_is_refused(name):
    formula = formulas.by_name(name)
    with pytest.raises(ValueError, match="increase strictly"):
        formula.coefficients(np.linspace(1.0, 0.1, formula.steps + 1))


@pytest.mark.parametrize("name", own.METHODS)
def test_a_grid_shorter_than_the_formula_is_refused(name):
    formula = formulas.by_name(name)
    if name in own.PAIRED:
        with pytest.raises(ValueError, match=f"at least {formula.width} steps"):
            formula.plan(Grid.from_sigma_bar(np.linspace(0.1, 1.0, formula.width)))
    elif name in own.TWOFOLD:
        with pytest.raises(ValueError, match=f"at least {formula.nodes} steps"):
            formula.plan(Grid.from_sigma_bar(np.linspace(0.1, 1.0, formula.nodes)))
    elif name in own.COUPLED or formula.steps == 1:
        assert formula.plan(Grid.from_sigma_bar([0.1, 0.2])).rows >= 1
    else:
        with pytest.raises(ValueError, match=f"at least {formula.steps} steps"):
            formula.plan(Grid.from_sigma_bar(np.linspace(0.1, 1.0, formula.steps)))
