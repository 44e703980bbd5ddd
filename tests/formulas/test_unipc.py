"""UniPC against diffusers' implementation, and its weights against what they are to integrate."""

import numpy as np
import pytest
import torch

import vsvf
from vsvf import formulas, predictors
from vsvf.formulas.unipc import _rho


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("steps", [3, 8, 20])
def test_it_takes_the_steps_of_diffusers(p, steps):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.UniPCMultistepScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        solver_order=p,
        solver_type="bh2",
        timestep_spacing="trailing",
        final_sigmas_type="sigma_min",
    )
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas.double().numpy()
    grid = vsvf.Grid.from_sigma_bar(sigmas[::-1])
    generator = torch.Generator().manual_seed(1)
    eps = predictors.gaussian_mixture(
        torch.randn(5, 6, generator=generator, dtype=torch.float64), 0.3, schedule=vsvf.Schedule.linear()
    )
    x = torch.randn(4, 6, generator=generator, dtype=torch.float64)

    x_theirs = x.clone()
    for i, t in enumerate(scheduler.timesteps):
        x_theirs = scheduler.step(eps.epsilon(x_theirs, sigmas[i]), t, x_theirs).prev_sample
    ours = vsvf.sample(eps, x, grid, formulas.unipc(p), arithmetic="float64")
    assert ours.nfe == steps
    assert float((ours.x - x_theirs).abs().max()) < 1e-6 * float(x_theirs.abs().max())  # diffusers' sigmas are float32


@pytest.mark.parametrize("points", [(-0.9, 1.0), (-1.3, -0.4), (-2.1, -0.8, 1.0)])
@pytest.mark.parametrize("h", [0.05, 0.7, 3.0])
def test_its_weights_integrate_polynomials_of_the_data_prediction(points, h):
    """sum_j rho_j m(r_j)/r_j = (1/(1 - e^{-h})) int_0^1 h e^{-h (1 - u)} m(u) du for m = u, u^2, …, by quadrature."""
    rho = _rho(np.array(points), h)
    x, w = np.polynomial.legendre.leggauss(40)
    u = 0.5 * (x + 1.0)
    for n in range(1, len(points) + 1):
        wanted = 0.5 * np.sum(w * h * np.exp(-h * (1.0 - u)) * u**n) / -np.expm1(-h)
        assert np.sum(rho * np.array(points) ** (n - 1)) == pytest.approx(wanted, rel=1e-9)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="p must be"):
        formulas.unipc(4)
    with pytest.raises(ValueError, match="at least 3 steps"):
        formulas.unipc(3).plan(vsvf.Grid.from_sigma_bar([0.1, 1.0, 3.0]))


def test_it_has_no_inverse_and_says_so():
    grid = vsvf.Grid.from_schedule(vsvf.Schedule.linear(), 8)
    assert not formulas.unipc(2).plan(grid).backward_solvable
    with pytest.raises(ValueError, match="oldest state"):
        formulas.unipc(2).plan(grid).inverse()
