"""Round trips, and what a trip changed."""

import math

import pytest
import strategies as own
import torch

from vsvf import Fixed, integrate, invert, sample
from vsvf.apps.images import to_levels
from vsvf.apps.roundtrip import DDIM_INVERSION, compare, from_image, from_noise

GRID = own.ddpm_grid(8, "smallest")
X = torch.linspace(-0.9, 0.9, 32, dtype=torch.float64).reshape(2, 1, 4, 4)


@pytest.mark.parametrize("method", ["belm(2)", "stable_belm(3)", "edict(0.93)"])
def test_a_trip_is_invert_and_sample(method):
    eps = own.tanh_network()
    trip = from_image(eps, X, GRID, method, arithmetic="fixed", warn=False)
    noise = invert(eps, X, GRID, method, arithmetic="fixed", warn=False)
    back = sample(eps, noise, GRID, method, warn=False)
    assert torch.equal(trip.turn, noise.x) and torch.equal(trip.end, back.x) and trip.nfe == (noise.nfe, back.nfe)
    assert torch.equal(trip.turned.values, noise.values) and torch.equal(trip.ended.values, back.values)
    there = from_noise(eps, X, GRID, method, arithmetic="fixed", warn=False)
    assert torch.equal(there.turn, sample(eps, X, GRID, method, arithmetic="fixed", warn=False).x)
    assert float((there.end - X).abs().max()) < 1e-9  # the rounding of the integers


def test_ddim_inversion_is_equation_8_up_and_ddim_down():
    """By hand: x_bar_i = x_bar_{i-1} + h_i eps_bar_{i-1} with alpha = 1/sqrt(1 + s^2), then the same rule downwards."""
    eps, s = own.tanh_network(), GRID.sigma_bar
    alpha = 1.0 / (1.0 + s**2) ** 0.5
    x = X / alpha[0]
    for i in range(1, len(s)):
        x = x + (s[i] - s[i - 1]) * eps.epsilon(x * alpha[i - 1], s[i - 1])
    trip = from_image(eps, X, GRID, DDIM_INVERSION, arithmetic=Fixed())
    assert torch.allclose(trip.turn, x * alpha[-1], rtol=1e-12, atol=1e-12)
    for i in range(len(s) - 1, 0, -1):
        x = x + (s[i - 1] - s[i]) * eps.epsilon(x * alpha[i], s[i])
    assert torch.allclose(trip.end, x * alpha[0], rtol=1e-12, atol=1e-12)
    assert trip.turned is None and trip.nfe == (8, 8)
    assert torch.equal(from_noise(eps, X, GRID, DDIM_INVERSION).turn, integrate(eps, X, s[::-1], "ddim")[0])


def test_from_the_noise_alone_is_another_experiment():
    eps = own.tanh_network()
    whole, alone = (from_image(eps, X, GRID, "belm(2)", noise_alone=a, warn=False) for a in (False, True))
    assert float((whole.end - X).abs().max()) < 1e-10 < 1e-4 < float((alone.end - X).abs().max())


def test_ddim_inversion_starts_from_no_state():
    state = sample(own.tanh_network(), X, GRID, "belm(2)", warn=False)
    with pytest.raises(ValueError, match="not from a state"):
        from_image(own.tanh_network(), state, GRID, DDIM_INVERSION)


def test_the_difference_of_two_images():
    other = X.clone()
    other[0, 0, 0, 0] += 0.5
    found = compare(other, X)
    assert found.mse == pytest.approx(0.25 / 32) and found.max == pytest.approx(0.5)
    assert found.psnr == pytest.approx(10 * math.log10(4.0 / (0.25 / 32)))
    assert (found.levels, found.pixels) == (int((to_levels(other) != to_levels(X)).sum()), 32) == (1, 32)
    assert compare(X, X).psnr == math.inf and compare(X, X.float()).levels == 0
