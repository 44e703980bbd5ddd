import math

import numpy as np
import pytest
import torch

import vsvf
from vsvf.apps.interpolate import between, blended, latent_of_noise, latent_of_picture, slerp_weights, smoothness
from vsvf.predictors import Predictor, ideal_denoiser

SCHEDULE = vsvf.Schedule.linear()
GRID = vsvf.Grid.from_schedule(SCHEDULE, 12, "leading", "smallest")


@pytest.fixture
def world(generator):
    data = torch.rand(4, 1, 12, 12, generator=generator, dtype=torch.float64) * 2 - 1
    return ideal_denoiser(data, std=0.2, schedule=SCHEDULE), data


def test_slerp_goes_along_the_circle_at_even_speed():
    u, v = torch.tensor([3.0, 0.0]), torch.tensor([3.0 * math.cos(2.0), 3.0 * math.sin(2.0)])
    shares = np.linspace(0, 1, 9)
    w = slerp_weights(u, v, shares)
    points = w[:, :1] * u.double().numpy() + w[:, 1:] * v.double().numpy()
    assert np.allclose(points, 3 * np.stack([np.cos(2 * shares), np.sin(2 * shares)], axis=1), atol=1e-6)
    assert w[0].tolist() == [1.0, 0.0] and w[-1].tolist() == [0.0, 1.0]


def test_slerp_of_parallel_and_opposite_vectors():
    u = torch.tensor([1.0, 2.0])
    assert np.allclose(slerp_weights(u, 2.0 * u, [0.25]), [[0.75, 0.25]])
    with pytest.raises(ValueError, match="opposite"):
        slerp_weights(u, -u, [0.5])
    with pytest.raises(ValueError, match="not zero"):
        slerp_weights(u, 0.0 * u, [0.5])


@pytest.mark.parametrize("formula", ["belm(2)", "stable_belm(3)", "edict(0.93)"])
def test_the_pictures_at_the_ends_return_exactly(world, formula):
    eps, data = world
    first, second = (latent_of_picture(eps, data[n : n + 1], GRID, formula) for n in (0, 1))
    found = vsvf.sample(eps, between(first, second, [0.0, 0.5, 1.0]), GRID, formula).x
    assert float((found[[0, 2]] - data[:2]).abs().max()) < 1e-8
    assert float((found[1] - data[0]).abs().max()) > 0.1


def test_between_noises_the_ends_are_their_samples(world, generator):
    eps, _ = world
    noise = torch.randn(2, 1, 12, 12, generator=generator, dtype=torch.float64)
    first, second = (latent_of_noise(eps, noise[n : n + 1], GRID, "stable_belm(3)", "heun") for n in (0, 1))
    assert first.record.window == 0 and first.values.shape[0] == 3
    found = vsvf.sample(eps, between(first, second, [0.0, 1.0]), GRID, "stable_belm(3)").x
    by_hand = vsvf.sample(eps, noise, GRID, "stable_belm(3)", starter="heun").x
    assert float((found - by_hand).abs().max()) < 1e-10


def test_all_states_have_the_weights_of_the_noise(world):
    eps, data = world
    first, second = (latent_of_picture(eps, data[n : n + 1], GRID, "stable_belm(3)") for n in (0, 1))
    w = slerp_weights(first.x, second.x, [0.3])[0]
    mixed = between(first, second, [0.3])
    assert torch.allclose(mixed.values[:, 0], w[0] * first.values[:, 0] + w[1] * second.values[:, 0], rtol=0, atol=1e-14)


def test_a_noise_and_a_picture_can_be_mixed(world, generator):
    eps, data = world
    noise = torch.randn(1, 1, 12, 12, generator=generator, dtype=torch.float64)
    first = latent_of_picture(eps, data[:1], GRID, "belm(2)")
    second = latent_of_noise(eps, noise, GRID, "belm(2)")
    found = vsvf.sample(eps, between(first, second, [0.0, 1.0]), GRID, "belm(2)").x
    assert float((found[0] - data[0]).abs().max()) < 1e-8
    assert float((found[1] - vsvf.sample(eps, noise, GRID, "belm(2)").x[0]).abs().max()) < 1e-10


def test_latents_that_do_not_belong_together_are_refused(world):
    eps, data = world
    one = latent_of_picture(eps, data[:1], GRID, "belm(2)")
    for formula, options in (("stable_belm(2)", {}), ("belm(2)", {"arithmetic": "float32"})):
        with pytest.raises(ValueError, match="one formula and grid"):
            between(one, vsvf.invert(eps, data[:1], GRID, formula, **options), [0.5])


def test_conditions_blend_sample_by_sample():
    one, two = (Predictor(lambda x, t, c=c: c * torch.ones_like(x), SCHEDULE) for c in (1.0, 3.0))
    x = torch.zeros(3, 2, dtype=torch.float64)
    assert blended(one, two, [0.0, 0.5, 1.0]).epsilon(x, 1.0)[:, 0].tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="alike"):
        blended(one, Predictor(lambda x, t: x, SCHEDULE, "v"), [0.5])


def test_smoothness_of_a_crossfade_and_of_a_jump():
    a, b = torch.zeros(1, 8, 8), torch.ones(1, 8, 8)
    even = smoothness(torch.stack([a, 0.25 * b, 0.5 * b, 0.75 * b, b]))
    assert even.unevenness == pytest.approx(1.0) and even.detour == pytest.approx(1.0)
    jump = smoothness(torch.stack([a, a, a, b]))
    assert jump.unevenness == pytest.approx(3.0)
    assert smoothness(torch.stack([a, 2 * b, b])).detour == pytest.approx(3.0)
    with pytest.raises(ValueError, match="at least 2"):
        smoothness(torch.stack([a]))
