"""The run-time watch: nothing on solutions, everything on spurious modes, and apart on marches that fail and that do not."""

from __future__ import annotations

from importlib import resources
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load

from vsvf import Grid, Schedule, formulas, integrate
from vsvf.convergence.order import exact_state
from vsvf.convergence.problems import Problem, problems, smooth_grid
from vsvf.engine.spurious import SUSPECT, unexplained_share
from vsvf.predictors import ideal_denoiser


@pytest.mark.parametrize("n", [2, 3, 4])
def test_polynomials_are_explained(n):
    s = np.array([0.3, 0.5, 0.9, 1.4])[:n]
    coefficient = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    states = [coefficient * (v**n + v) for v in s]
    slopes = [coefficient * (n * v ** (n - 1) + 1.0) for v in s]
    assert float(unexplained_share(s, states, slopes)) < 1e-14


def test_the_share_falls_with_the_step_on_solutions():
    problem = problems()[0]
    shares = []
    for steps in (20, 40, 80):
        s = smooth_grid(steps).sigma_bar[3:6]
        states = [problem.exact(float(v)) for v in s]
        shares.append(float(unexplained_share(s, states, [problem.predictor.epsilon(x, float(v)) for x, v in zip(states, s)])))
    assert shares[0] < 0.02 and shares[1] < shares[0] / 4 and shares[2] < shares[1] / 4


def test_a_spurious_mode_is_not_explained():
    s = [0.5, 0.6, 0.7]
    states = [torch.full((1, 2), value, dtype=torch.float64) for value in (0.1, -0.1, 0.1)]
    assert float(unexplained_share(s, states, [torch.zeros(1, 2, dtype=torch.float64)] * 3)) == pytest.approx(1.0)
    assert float(unexplained_share(s, [states[0]] * 3, [torch.zeros(1, 2, dtype=torch.float64)] * 3)) == 0.0


@pytest.mark.parametrize(("count", "slopes"), [(1, 1), (3, 2)])
def test_too_few_are_refused(count, slopes):
    one = torch.ones(1, 1)
    with pytest.raises(ValueError, match="one length"):
        unexplained_share(range(count), [one] * count, [one] * slopes)


def largest_share(predictor, grid, name):
    """Over the windows of a march from exact states of a trajectory, and the error at its end."""
    plan = formulas.by_name(name).plan(grid)
    alpha = predictor.alpha(plan.node)
    path = {}
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    levels = grid.sigma_bar[::-1]
    path[float(levels[0])] = x
    for high, low in pairwise(levels):
        nodes = np.geomspace(high, low, 2 + int(np.log(high / low) / 0.1))
        nodes[[0, -1]] = high, low
        x, _ = integrate(predictor, x, nodes, "rk4")
        path[float(low)] = x
    exact = Problem("path", "", predictor, lambda s: path[s])
    first = exact_state(formulas.by_name(name), grid, exact, "noise").values
    z = [v / a for v, a in zip(first, alpha)]
    slopes, shares = [predictor.epsilon(z[j] * alpha[j], float(plan.node[j])) for j in range(plan.steps)], []
    for m in range(plan.rows):
        s = m + plan.steps
        window = slice(s - 2, s)
        shares.append(float(unexplained_share(plan.position[window], z[window], slopes[window])))
        z.append(sum(plan.a[m, j - 1] * z[s - j] + plan.c[m, j] * slopes[s - j] for j in range(1, plan.steps + 1)))
        slopes.append(predictor.epsilon(z[s] * alpha[s], float(plan.node[s])))
    return max(shares), float((z[-1] * alpha[-1] - path[float(levels[-1])]).pow(2).mean().sqrt())


def test_it_tells_marches_that_fail_from_those_that_do_not():
    data = load((resources.files("vsvf") / "assets" / "digits_test.safetensors").read_bytes())["images"].double()[:, None]
    predictor = ideal_denoiser(data / 127.5 - 1.0, 0.05, Schedule.linear())
    grid = Grid.from_schedule(Schedule.linear(), 20, "leading", "smallest")
    fine, fine_error = largest_share(predictor, grid, "belm(2)")
    stable, _ = largest_share(predictor, grid, "stable_belm(3)")
    bad, bad_error = largest_share(predictor, grid, "stable_belm(4)")
    assert bad_error > 3.0 * fine_error
    assert bad > SUSPECT > max(fine, stable)
