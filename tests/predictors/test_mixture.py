"""Closed-form predictors against the automatic derivative of the log-density."""

import numpy as np
import pytest
import torch

from vsvf import Schedule
from vsvf.predictors import gaussian_mixture, ideal_denoiser

MEANS = torch.tensor([[[0.5, -1.0], [0.2, 0.3]], [[-0.7, 0.9], [1.0, -0.4]], [[0.1, 0.1], [-1.2, 0.8]]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
STD = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)


def log_density(x, alpha, sigma, means, std, weights):
    """log of sum_k w_k N(x; alpha m_k, (alpha^2 s_k^2 + sigma^2) I), by torch.distributions."""
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(weights),
        torch.distributions.Independent(
            torch.distributions.Normal(
                alpha * means.flatten(1), ((alpha * std) ** 2 + sigma**2).sqrt()[:, None].expand(-1, means[0].numel())
            ),
            1,
        ),
    )
    return mixture.log_prob(x.flatten(1))


def autograd_epsilon(x, alpha, sigma, means=MEANS, std=STD, weights=WEIGHTS):
    """eps = -sigma grad log q(x)."""
    x = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(log_density(x, alpha, sigma, means, std, weights).sum(), x)
    return -sigma * gradient


@pytest.fixture
def x(generator):
    return torch.randn(4, 2, 2, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("schedule", [None, Schedule.linear(), Schedule.rectified_flow()], ids=["alpha=1", "vp", "flow"])
@pytest.mark.parametrize("level", [0.01, 0.3, 1.0, 20.0])
def test_eps_is_the_scaled_score(x, schedule, level):
    predictor = gaussian_mixture(MEANS, STD, WEIGHTS, schedule)
    alpha = 1.0 if schedule is None else float(schedule.alpha_at(level))
    x = x * (alpha * (1.0 + level))
    assert torch.allclose(predictor.epsilon(x, level), autograd_epsilon(x, alpha, alpha * level), rtol=1e-10, atol=1e-12)


def test_one_std_for_all_and_equal_weights(x):
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    expected = autograd_epsilon(x, 1.0, 0.7, std=torch.full((3,), 0.4, dtype=torch.float64), weights=third)
    assert torch.allclose(gaussian_mixture(MEANS, 0.4).epsilon(x, 0.7), expected, rtol=1e-11)
    assert torch.allclose(ideal_denoiser(MEANS, 0.4).epsilon(x, 0.7), expected, rtol=1e-11)


def test_weights_need_not_sum_to_one(x):
    a = gaussian_mixture(MEANS, STD, WEIGHTS).epsilon(x, 0.7)
    assert torch.allclose(gaussian_mixture(MEANS, STD, 7.0 * WEIGHTS).epsilon(x, 0.7), a, rtol=1e-13)


def test_a_batch_at_different_noise_levels(x):
    predictor = gaussian_mixture(MEANS, STD, WEIGHTS, Schedule.linear())
    levels = np.array([0.02, 0.5, 3.0, 100.0])
    together = predictor.epsilon(x, levels)
    for n, level in enumerate(levels):
        assert torch.allclose(together[n : n + 1], predictor.epsilon(x[n : n + 1], level), rtol=1e-12, atol=1e-14)


def test_one_gaussian_is_linear(x):
    mean = MEANS[:1]
    found = gaussian_mixture(mean, 0.5).epsilon(x, 1.2)
    assert torch.allclose(found, 1.2 * (x - mean) / (0.25 + 1.44), rtol=1e-12)


def test_far_from_the_data_the_denoiser_sees_its_mean():
    level = 1e5
    x = torch.full((1, 2, 2), 3.0 * level, dtype=torch.float64)
    denoised = x - level * ideal_denoiser(MEANS, 0.05).epsilon(x, level)
    # the posterior weights are those of x/level on the scale 1/level: first order in m
    assert torch.allclose(denoised, MEANS.mean(0)[None], rtol=0.0, atol=1e-3)


def test_near_a_datum_the_denoiser_returns_it():
    level = 0.02
    x = MEANS[1:2] + 0.01
    denoised = x - level * ideal_denoiser(MEANS, 1e-4).epsilon(x, level)
    assert torch.allclose(denoised, MEANS[1:2], rtol=0.0, atol=1e-5)


def test_at_the_data_end_eps_vanishes(x):
    assert torch.equal(gaussian_mixture(MEANS, STD).epsilon(x, 0.0), torch.zeros_like(x))


def test_extreme_noise_levels_stay_finite():
    predictor = ideal_denoiser(torch.rand(20, 1, 8, 8, dtype=torch.float64), 0.01)
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for level in (1e-8, 1e-4, 1e4, 1e8):
        assert bool(torch.isfinite(predictor.epsilon(x * max(1.0, level), level)).all())


def test_float32_is_close_to_float64(x):
    predictor = gaussian_mixture(MEANS, STD, WEIGHTS)
    single = predictor.epsilon(x.float(), 0.5)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), predictor.epsilon(x, 0.5), rtol=0.0, atol=3e-6)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan"), [0.1, 0.0, 0.1]])
def test_std_must_be_positive(std):
    with pytest.raises(ValueError, match="std must be positive"):
        gaussian_mixture(MEANS, torch.tensor(std) if isinstance(std, list) else std)


@pytest.mark.parametrize("weights", [[1.0, 1.0], [1.0, 0.0, 1.0], [1.0, -1.0, 1.0]])
def test_weights_must_be_positive_one_per_component(weights):
    with pytest.raises(ValueError, match="3 positive numbers"):
        gaussian_mixture(MEANS, 0.1, torch.tensor(weights))


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="shape"):
        ideal_denoiser(MEANS).epsilon(torch.ones(1, 3, 3, dtype=torch.float64), 0.5)
