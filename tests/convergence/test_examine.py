"""The examination of a formula on a predictor: exact where everything is linear, and a verdict that marches confirm."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
import strategies as own
import torch
from safetensors.torch import load

import vsvf
from vsvf import Grid, NonFiniteError, Schedule, formulas, sample
from vsvf.convergence import examine as module
from vsvf.convergence.examine import examine
from vsvf.convergence.order import exact_state
from vsvf.convergence.problems import Problem
from vsvf.predictors import Predictor, from_ode, ideal_denoiser
from vsvf.stability.growth import homogeneous_rows

VARIANCE = 0.25


def gaussian_problem():
    """dx/ds = s x / (s^2 + 1/4) and its solution through 1 at the noise end."""
    grid = Grid.from_schedule(Schedule.linear(), 20, "leading", "smallest")
    top = float(grid.sigma_bar[-1])
    return own.linear_ode(), grid, lambda s: np.sqrt((s * s + VARIANCE) / (top * top + VARIANCE))


@pytest.mark.parametrize("name", ["belm(2)", "stable_belm(3)", "stable_belm(4)", "deis(3)", "edict(0.93)"])
def test_the_error_of_a_linear_predictor_is_predicted_exactly(name, monkeypatch):
    monkeypatch.setattr(module, "RATIO", 1.02)
    predictor, grid, solution = gaussian_problem()
    x = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
    exact = Problem("", "", predictor, lambda s: x * solution(s))
    found = examine(predictor, x, grid, name)
    errors = []
    sample(
        predictor, exact_state(formulas.by_name(name), grid, exact, "noise"), grid, name,
        callback=lambda step: errors.append(float((step.x - exact.exact(step.sigma_bar)).pow(2).mean().sqrt())), warn=False,
    )  # fmt: skip
    np.testing.assert_allclose(found.sampling.error, errors, rtol=1e-4, atol=1e-6 * max(errors))
    assert found.sampling.sigma_bar.tolist() == formulas.by_name(name).plan(grid).position[formulas.by_name(name).steps :].tolist()


@pytest.mark.parametrize("name", ["belm(2)", "stable_belm(5)"])
def test_growth_is_that_of_the_rows_with_the_slopes_in_them(name):
    predictor, grid, _ = gaussian_problem()
    plan = formulas.by_name(name).plan(grid)
    found = examine(predictor, torch.ones(1, 400, dtype=torch.float64), grid, name)
    k = plan.steps
    basis = np.linalg.qr(np.concatenate([np.ones((k, 1)), np.eye(k)[:, 1:]], axis=1))[0][:, 1:]
    rows = homogeneous_rows(plan, plan.node / (plan.node**2 + VARIANCE))
    sizes = []
    for pattern in basis.T:
        d = list(pattern)
        for m in range(plan.rows):
            d.append(sum(rows[m, j - 1] * d[m + k - j] for j in range(1, k + 1)))
        sizes.append(np.abs(d[k:]))
    expected = np.max(sizes, axis=0) * np.sqrt(k)  # over the rms of a pattern of norm 1 over k states
    np.testing.assert_allclose(found.sampling.growth, expected, rtol=0.2)  # random directions of 400 entries


@pytest.fixture(scope="module")
def digits():
    data = load((resources.files("vsvf") / "assets" / "digits_test.safetensors").read_bytes())["images"].double()[:, None]
    return ideal_denoiser(data / 127.5 - 1.0, 0.05, Schedule.linear())


@pytest.mark.parametrize("name", ["stable_belm(4)", "stable_belm(5)"])
def test_formulas_that_fail_on_images_are_suspect(digits, name):
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grid = Grid.from_schedule(Schedule.linear(), 20, "leading", "smallest")
    found = vsvf.examine(digits, x, grid, name)
    assert found.sampling.suspect and found.suspect
    assert found.sampling.ratio > 3.0 and found.sampling.growth.max() > 10.0
    assert "sampling: do not use it here" in found.sentence
    # and the march agrees
    end = vsvf.integrate(digits, x, np.geomspace(grid.sigma_bar[-1], grid.sigma_bar[0], 160), "rk4")[0]
    error = {n: (sample(digits, x, grid, n, starter="rk4:4", warn=False).x - end).pow(2).mean().sqrt() for n in (name, "belm(2)")}
    assert error[name] > 3.0 * error["belm(2)"]


def test_a_formula_that_holds_is_not(digits):
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = examine(digits, x, Grid.from_schedule(Schedule.linear(), 20, "leading", "smallest"), "stable_belm(3)")
    assert not found.suspect and found.inversion.ratio < 0.5
    assert found.sampling.growth.max() < 2.0
    assert found.nfe < 20 * 25


def test_single_precision_networks_are_examined():
    grid = Grid.from_schedule(Schedule.linear(), 12, "leading", "smallest")
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(2))
    found = []
    for dtype in (torch.float32, torch.float64):
        predictor = Predictor(lambda x, t: torch.tanh(x), Schedule.linear(), dtype=dtype)
        found.append(examine(predictor, x, grid, "stable_belm(3)").sampling)
    np.testing.assert_allclose(found[0].growth, found[1].growth, rtol=0.05)
    np.testing.assert_allclose(found[0].error, found[1].error, rtol=0.05)


def test_what_cannot_be_examined_is_refused():
    grid = Grid.from_sigma_bar(np.linspace(0.1, 2.0, 9))
    with pytest.raises(ValueError, match="implicit"):
        examine(own.linear_ode(), torch.ones(1, 2), grid, "bdf(2)")
    with pytest.raises(NonFiniteError):
        examine(from_ode(lambda x, s: x**9 * 1e9), torch.ones(1, 2), grid, "belm(2)")
    assert examine(own.linear_ode(), torch.ones(1, 2), grid, "deis(2)").inversion is None
