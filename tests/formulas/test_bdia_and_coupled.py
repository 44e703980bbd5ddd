"""BDIA, EDICT and the McCallum-Foster scheme against loops over their published updates."""

import numpy as np
import pytest
import torch
from reference import edict_invert, edict_sample, mccallum_foster_sample

from vsvf import Grid, Schedule, formulas, invert, sample
from vsvf.predictors import from_ode

S = np.array([0.05, 0.11, 0.2, 0.38, 0.71, 1.4, 2.9])


def pendulum(x, s):
    return torch.sin(3.0 * x) + 0.3 * s * x


@pytest.fixture
def x(generator):
    return torch.randn(2, 3, 4, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("gamma", [1.0, 0.5, 0.96])
def test_bdia_row_is_the_published_update(gamma):
    """x_{i-1} = gamma x_{i+1} + (a_i - gamma a'_{i+1}) x_i + (b_i - gamma b'_{i+1}) eps_i, where DDIM maps x_i to
    a_i x_i + b_i eps_i one step down, and to a'_{i+1} x_i + b'_{i+1} eps_i one step up."""
    s = np.array([0.3, 0.8, 1.7])
    alpha = 1.0 / np.sqrt(1.0 + s**2)
    sigma = alpha * s
    down = alpha[0] / alpha[1]
    up = alpha[2] / alpha[1]
    in_x = [down - gamma * up, gamma, (sigma[0] - down * sigma[1]) - gamma * (sigma[2] - up * sigma[1])]
    a, c = formulas.bdia(gamma).weights(s)
    # the same row for x_bar = x/alpha
    assert a[0] == pytest.approx(in_x[0] * alpha[1] / alpha[0], rel=1e-13, abs=1e-15)
    assert a[1] == pytest.approx(in_x[1] * alpha[2] / alpha[0], rel=1e-13)
    assert c[1] == pytest.approx(in_x[2] / alpha[0], rel=1e-13)
    assert c[0] == c[2] == 0.0


def test_bdia_uses_the_alphas_of_the_schedule():
    grid = Grid.from_schedule(Schedule.rectified_flow(), 5, "log_snr", "smallest")
    a = formulas.bdia(1.0).plan(grid).a
    assert np.allclose(a[:, 1], (grid.alpha[2:] / grid.alpha[:-2])[::-1], rtol=1e-14)


def test_bdia_with_gamma_zero_samples_as_ddim(x):
    grid = Grid.from_sigma_bar(S)
    eps = from_ode(pendulum)
    assert torch.allclose(sample(eps, x, grid, "bdia(0)").x, sample(eps, x, grid, "ddim").x, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
@pytest.mark.parametrize("p", [0.93, 0.5, 1.0])
def test_edict_samples_and_inverts_as_published(x, steps, p):
    # alpha = 1: there the published update (in x) and the library's (in x_bar) are the same numbers
    grid = Grid.from_sigma_bar(S[: steps + 1], alpha=np.ones(steps + 1))
    eps = from_ode(pendulum)
    downwards = S[: steps + 1][::-1]
    ones = np.ones(steps + 1)
    expected_x, expected_y = edict_sample(lambda z, i: pendulum(z, downwards[i]), x, ones, downwards, p)
    out = sample(eps, x, grid, formulas.edict(p))
    assert torch.allclose(out.x, expected_x, rtol=1e-12, atol=1e-12)
    assert torch.allclose(out.values[1], expected_y, rtol=1e-12, atol=1e-12)
    back = invert(eps, out, grid, formulas.edict(p))
    old_x, old_y = edict_invert(lambda z, i: pendulum(z, downwards[i]), expected_x, expected_y, ones, downwards, p)
    assert torch.allclose(back.values[0], old_x, rtol=1e-10, atol=1e-10)
    assert torch.allclose(back.values[1], old_y, rtol=1e-10, atol=1e-10)
    assert torch.allclose(back.x, x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("coupling", [1.0, 0.999, 0.6])
def test_mccallum_foster_samples_as_published(x, coupling):
    grid = Grid.from_sigma_bar(S)
    y, z = mccallum_foster_sample(pendulum, x, S[::-1], coupling)
    out = sample(from_ode(pendulum), x, grid, formulas.mccallum_foster(coupling))
    assert torch.allclose(out.x, y, rtol=1e-12, atol=1e-12)
    assert torch.allclose(out.values[1], z, rtol=1e-12, atol=1e-12)
    back = invert(from_ode(pendulum), out, grid, formulas.mccallum_foster(coupling))
    assert torch.allclose(back.values, x.expand(2, *x.shape), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["edict(0.93)", "mccallum_foster(0.999)"])
@pytest.mark.parametrize("steps", [1, 2, 5, 6])
def test_coupled_methods_retrace_odd_and_even_numbers_of_steps(x, name, steps):
    grid = Grid.from_sigma_bar(S[: steps + 1])
    eps = from_ode(pendulum)
    for first, second in ((sample, invert), (invert, sample)):
        out = first(eps, x, grid, name)
        assert torch.allclose(second(eps, out, grid, name).x, x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["bdia(0)", "edict(0)", "mccallum_foster(0)"])
def test_methods_without_an_oldest_weight_are_not_inverted(x, name):
    with pytest.raises(ValueError, match="a_2 = 0"):
        invert(from_ode(pendulum), x, Grid.from_sigma_bar(S), name)
