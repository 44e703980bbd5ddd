from itertools import pairwise

import numpy as np
import pytest
import strategies as own
import torch
from reference import alpha_at, euler_states, sample_multistep, slope

from vsvf import Grid, Starter, formulas, integrate, invert, sample
from vsvf.convergence.problems import problems
from vsvf.predictors import from_ode
from vsvf.starter import starter_by_name


def heun_step(f, x, s, h):
    k1 = f(x, s)
    return x + h / 2 * (k1 + f(x + h * k1, s + h))


def rk4_step(f, x, s, h):
    k1 = f(x, s)
    k2 = f(x + h / 2 * k1, s + h / 2)
    k3 = f(x + h / 2 * k2, s + h / 2)
    k4 = f(x + h * k3, s + h)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def ees25_step(f, x, s, h, free=0.1):
    """EES(2, 5; x) from its general tableau."""
    a21 = (1 + 2 * free) / (4 * (1 - free))
    a31, a32 = (4 * free - 1) ** 2 / (4 * (free - 1) * (1 - 4 * free**2)), (1 - free) / (1 - 4 * free**2)
    k1 = f(x, s)
    k2 = f(x + h * a21 * k1, s + a21 * h)
    k3 = f(x + h * (a31 * k1 + a32 * k2), s + (a31 + a32) * h)
    return x + h * (free * k1 + k2 / 2 + (0.5 - free) * k3)


STEP = {"ddim": lambda f, x, s, h: x + h * f(x, s), "heun": heun_step, "rk4": rk4_step, "ees25": ees25_step}
EVALUATIONS = {"ddim": 1, "heun": 2, "rk4": 4, "ees25": 3}


def by_hand(f, x, positions, method, substeps=1):
    states = [x]
    for here, there in pairwise(positions):
        h = (there - here) / substeps
        x = states[-1]
        for n in range(substeps):
            x = STEP[method](f, x, here + n * h, h)
        states.append(x)
    return states


@pytest.mark.parametrize("substeps", [1, 3])
@pytest.mark.parametrize("method", ["ddim", "heun", "rk4", "ees25"])
@pytest.mark.parametrize("up", [True, False])
def test_integrate_takes_textbook_runge_kutta_steps(method, substeps, up, generator):
    predictor = own.tanh_network()
    nodes = np.array([0.2, 0.3, 0.55, 1.0, 1.2])
    nodes = nodes if up else nodes[::-1]
    x = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    found, nfe = integrate(predictor, x, nodes, f"{method}:{substeps}")
    x_bar = x / alpha_at(predictor, nodes[0])
    expected = by_hand(lambda z, s: slope(predictor, z, s), x_bar, nodes, method, substeps)[-1]
    assert nfe == 4 * substeps * EVALUATIONS[method]
    assert torch.allclose(found, expected * alpha_at(predictor, nodes[-1]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method, order", [("heun", 4), ("ees25", 6)])
def test_a_step_there_and_back_returns_to_this_order(method, order):
    problem = problems()[0]
    x, misses = problem.exact(0.75), []
    for h in (0.05, 0.025):
        there, _ = integrate(problem.predictor, x, [0.75, 0.75 + h], method)
        misses.append(float((integrate(problem.predictor, there, [0.75 + h, 0.75], method)[0] - x).abs().max()))
    assert np.log2(misses[0] / misses[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("method, order", [("ddim", 1), ("heun", 2), ("rk4", 4), ("ees25", 2)])
@pytest.mark.parametrize("up", [True, False])
def test_starters_have_their_order(method, order, up):
    problem = problems()[0]
    ends = (0.25, 1.25) if up else (1.25, 0.25)
    errors = []
    for steps in (80, 160):
        found, _ = integrate(problem.predictor, problem.exact(ends[0]), np.linspace(*ends, steps + 1), method)
        errors.append(float((found - problem.exact(ends[1])).abs().max()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)
    assert starter_by_name(method).order == order


@pytest.mark.parametrize("method, order", [("ddim", 1), ("heun", 2), ("rk4", 4), ("ees25", 2)])
def test_sub_steps_reduce_the_error_as_the_order_says(method, order):
    problem = problems()[0]
    errors = []
    for substeps in (40, 80):
        found, _ = integrate(problem.predictor, problem.exact(1.25), [1.25, 0.75, 0.25], f"{method}:{substeps}")
        errors.append(float((found - problem.exact(0.25)).abs().max()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("starter", ["ddim", "heun", "rk4", "heun:3", "rk4:8"])
@pytest.mark.parametrize("name", ["belm(2)", "adams_bashforth(4)", "stable_belm(3)"])
def test_sampling_begins_with_the_starters_states(name, starter, generator):
    formula = formulas.by_name(name)
    grid = Grid.from_sigma_bar(np.linspace(0.4, 1.3, 10) ** 1.3)
    predictor = own.tanh_network()
    x = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    method, _, substeps = starter.partition(":")
    substeps = int(substeps or 1)
    downwards = grid.sigma_bar[::-1]
    first = by_hand(
        lambda z, s: slope(predictor, z, s), x / alpha_at(predictor, downwards[0]), downwards[: formula.steps], method, substeps
    )
    states = sample_multistep(predictor, first, grid, formula)
    out = sample(predictor, x, grid, formula, starter=starter)
    assert torch.allclose(out.x, states[-1] * alpha_at(predictor, downwards[-1]), rtol=0.0, atol=1e-11)
    k = formula.steps - 1
    assert out.nfe == grid.steps - k + k * EVALUATIONS[method] * substeps  # slopes at the k first states are used again
    assert out.record.starter == starter


@pytest.mark.parametrize("starter", ["heun", "rk4:2"])
def test_inversion_begins_with_the_starters_states_too(starter, generator):
    grid = Grid.from_sigma_bar(np.linspace(0.4, 1.3, 10))
    predictor = own.tanh_network()
    x = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    given = integrate(predictor, x, grid.sigma_bar[:2], starter)[0]
    seen = []
    invert(predictor, x, grid, "belm(2)", starter=starter, callback=lambda step: seen.append(step.x.clone()))
    a, c = formulas.belm(2).weights(grid.sigma_bar[:3])
    s0, s1, s2 = grid.sigma_bar[:3]
    bar = [x / alpha_at(predictor, s0), given / alpha_at(predictor, s1)]
    expected = (bar[0] - a[0] * bar[1] - c[1] * slope(predictor, bar[1], s1)) / a[1]
    assert torch.allclose(seen[0], expected * alpha_at(predictor, s2), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("name", ["adams_bashforth(4)", "deis(3)", "dpm_solver_pp(3)", "bdf(3)", "adams_moulton(3)"])
def test_lower_order_starts_with_the_shorter_members_of_the_family(name, generator):
    formula = formulas.by_name(name)
    grid = Grid.from_sigma_bar(np.linspace(0.5, 1.2, 9))
    predictor = own.linear_ode()
    x = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    downwards = grid.sigma_bar[::-1]
    states = [x]
    for n in range(1, formula.steps):
        part = Grid(downwards[: n + 1][::-1], grid.alpha[::-1][: n + 1][::-1])
        states.append(sample_multistep(predictor, states, part, formula.lower_order(n))[-1])
    expected = sample_multistep(predictor, states, grid, formula)[-1]
    out = sample(predictor, x, grid, formula, starter="lower_order", tolerance=1e-14)
    assert torch.allclose(out.x, expected, rtol=0.0, atol=1e-12)
    if name in own.EXPLICIT:
        assert out.nfe == grid.steps


@pytest.mark.parametrize("name", ["belm(3)", "stable_belm(4)"])
def test_families_that_cannot_start_themselves_say_so(name):
    with pytest.raises(ValueError, match="no formulas with fewer steps"):
        sample(own.linear_ode(), torch.ones(1, 2), own.sd_grid(9), name, starter="lower_order")


def test_lower_order_does_not_start_an_inversion():
    with pytest.raises(ValueError, match="starts sampling only"):
        invert(own.linear_ode(), torch.ones(1, 2), own.sd_grid(9), "bdf(3)", starter="lower_order")


@pytest.mark.parametrize("name", ["belm(2)", "ddim", "edict(0.93)"])
@pytest.mark.parametrize("starter", ["euler", "rk4:0", "rk4:-1", "rk4:two", "", None, 4])
def test_unknown_starters_are_refused(starter, name):
    with pytest.raises(ValueError, match="starter="):
        sample(own.linear_ode(), torch.ones(1, 2), own.sd_grid(9), name, starter=starter)


def test_a_starter_of_ones_own():
    midpoint = Starter("midpoint", 2, ((), (0.5,)), (0.0, 1.0), (0.0, 0.5))
    problem = problems()[2]
    errors = []
    for steps in (100, 200):
        found, nfe = integrate(problem.predictor, problem.exact(0.25), np.linspace(0.25, 1.25, steps + 1), midpoint)
        assert nfe == 2 * steps
        errors.append(float((found - problem.exact(1.25)).abs().max()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("nodes", [[1.0], [1.0, 1.0], [1.0, 2.0, 1.5], [[1.0, 2.0]], []])
def test_integrate_wants_monotone_nodes(nodes):
    with pytest.raises(ValueError, match="strictly"):
        integrate(own.linear_ode(), torch.ones(1, 2), nodes)


def test_integrate_evaluates_where_it_is():
    levels = []

    def f(x, s):
        levels.append(s)
        return torch.zeros_like(x)

    integrate(from_ode(f), torch.ones(1, 2), [0.2, 0.4, 0.8], "ddim")
    assert levels == [0.2, 0.4]


def test_euler_reference_agrees_with_itself():
    # guards the helper the other tests lean on: Euler on x' = x from 0 to 1 in 4 steps is (5/4)^4
    x = torch.ones(1, 1, dtype=torch.float64)
    states = euler_states(from_ode(lambda x, s: x), x, np.linspace(0.0, 1.0, 5))
    assert float(states[-1]) == pytest.approx(1.25**4, rel=1e-15)
