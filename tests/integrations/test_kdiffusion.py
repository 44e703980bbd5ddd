"""k-diffusion's signature: against its samplers' published formulas, its callback, and round trips.

The three reference samplers below restate the update formulas that k-diffusion publishes for Euler (Karras et al. 2022, algorithm
2), LMS (Adams-Bashforth coefficients by integration of Lagrange polynomials, order ramping up) and DPM-Solver++(2M) (Lu et al.
2022) in float64; they share no code with the package under test. The installed package is not used: importing it needs torchvision,
CLIP and more.
"""

from __future__ import annotations

import inspect
from itertools import pairwise

import numpy as np
import pytest
import torch

import vsvf
from vsvf import formulas
from vsvf.integrations import kdiffusion
from vsvf.integrations.kdiffusion import Denoiser, grid_of, inverter, names, sampler

CENTRES = torch.tensor([[1.0, -0.5, 0.2], [-1.0, 0.3, 0.8]], dtype=torch.float64)


def denoise(x: torch.Tensor, sigma: torch.Tensor, shift: float = 0.0) -> torch.Tensor:
    """The exact denoiser of two points blurred by 0.3, in x's dtype."""
    variance = 0.09 + sigma.reshape(-1, 1, 1) ** 2
    centres = CENTRES.to(x.dtype)
    away = x[:, None, :] - centres
    weight = torch.softmax(-(away**2).sum(-1, keepdim=True) / (2.0 * variance), dim=1)
    gain = 0.09 / variance
    return (weight * (centres + gain * away)).sum(1) + shift


@pytest.fixture
def sigmas() -> torch.Tensor:
    """Karras et al.'s nodes, rho = 7, from 20 to 0.05, then 0."""
    ramp = torch.linspace(0.0, 1.0, 12, dtype=torch.float64)
    high, low = 20.0 ** (1 / 7), 0.05 ** (1 / 7)
    return torch.cat([(high + ramp * (low - high)) ** 7, torch.zeros(1, dtype=torch.float64)])


@pytest.fixture
def x() -> torch.Tensor:
    return 20.0 * torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def slope(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return (x - denoise(x, sigma.expand(len(x)))) / sigma


def euler(x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    for high, low in pairwise(sigmas):
        x = x + (low - high) * slope(x, high)
    return x


def lms(x: torch.Tensor, sigmas: torch.Tensor, order: int) -> torch.Tensor:
    slopes: list[torch.Tensor] = []
    for i in range(len(sigmas) - 1):
        slopes = [slope(x, sigmas[i]), *slopes][:order]
        nodes = sigmas[i - len(slopes) + 1 : i + 1].flip(0).numpy()
        points, weights = np.polynomial.legendre.leggauss(8)
        low, high = float(sigmas[i + 1]), float(sigmas[i])
        at = high + (low - high) * (points + 1.0) / 2.0
        for j, d in enumerate(slopes):
            others = np.delete(nodes, j)
            lagrange = np.prod([(at - o) / (nodes[j] - o) for o in others], axis=0) if len(others) else np.ones_like(at)
            x = x + float(weights @ lagrange) * (low - high) / 2.0 * d
    return x


def dpmpp_2m(x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    old = None
    for i in range(len(sigmas) - 1):
        new = denoise(x, sigmas[i].expand(len(x)))
        if sigmas[i + 1] == 0.0:
            return new
        h = torch.log(sigmas[i] / sigmas[i + 1])
        d = new
        if old is not None:
            r = torch.log(sigmas[i - 1] / sigmas[i]) / h
            d = (1.0 + 1.0 / (2.0 * r)) * new - old / (2.0 * r)
        x = sigmas[i + 1] / sigmas[i] * x - torch.expm1(-h) * d
        old = new
    return x


def test_against_the_published_updates_of_euler_lms_and_dpmpp_2m(x: torch.Tensor, sigmas: torch.Tensor) -> None:
    pairs = [
        (kdiffusion.sample_ddim, euler(x, sigmas)),
        (kdiffusion.sample_adams_bashforth_2, lms(x, sigmas, 2)),
        (kdiffusion.sample_adams_bashforth_4, lms(x, sigmas, 4)),
        (kdiffusion.sample_dpm_solver_pp_2, dpmpp_2m(x, sigmas)),
    ]
    for function, expected in pairs:
        torch.testing.assert_close(function(denoise, x, sigmas, disable=True), expected, rtol=1e-11, atol=1e-11)


def test_every_explicit_method_has_a_function_of_the_published_signature(x: torch.Tensor, sigmas: torch.Tensor) -> None:
    grid = grid_of(sigmas[:-1])
    for method in formulas.METHODS:
        plan = formulas.by_name(method).plan(grid)
        own = [name for name, formula in names().items() if formula == method]
        assert len(own) == plan.explicit * (1 + plan.backward_explicit), method
        for name in own:
            function = getattr(kdiffusion, name)
            assert function.__name__ == name and name in dir(kdiffusion)
            first = list(inspect.signature(function).parameters)[:6]
            assert first == ["model", "x", "sigmas", "extra_args", "callback", "disable"]


@pytest.mark.parametrize("method", ["belm(2)", "stable_belm(3)", "bdia(1)", "edict(0.93)", "mccallum_foster(1)"])
def test_inverses_retrace_the_steps_from_the_returned_state(method: str, x: torch.Tensor, sigmas: torch.Tensor) -> None:
    """Also down to sigma = 0, where all but McCallum-Foster need no slope."""
    sigmas = sigmas[:-1] if method.startswith("mccallum") else sigmas
    state = sampler(method)(denoise, x, sigmas, disable=True, return_state=True)
    back = inverter(method)(denoise, state, sigmas, disable=True, return_state=True)
    torch.testing.assert_close(back.x, x, rtol=1e-7, atol=1e-7)
    again = sampler(method)(denoise, back, sigmas, disable=True)
    torch.testing.assert_close(again, state.x, rtol=1e-7, atol=1e-7)


def test_in_fixed_point_every_bit_comes_back(x: torch.Tensor, sigmas: torch.Tensor) -> None:
    there, back = sampler("belm(2)", arithmetic="fixed"), inverter("belm(2)")
    state = there(denoise, x, sigmas, disable=True, return_state=True)
    start = back(denoise, state, sigmas, disable=True, return_state=True)
    again = sampler("belm(2)")(denoise, start, sigmas, disable=True, return_state=True)
    assert torch.equal(again.values, state.values)


def test_an_image_alone_is_inverted_from_the_smallest_positive_sigma(x: torch.Tensor, sigmas: torch.Tensor) -> None:
    image = kdiffusion.sample_belm_2(denoise, x, sigmas[:-1], disable=True)
    noise = kdiffusion.invert_belm_2(denoise, image, sigmas[:-1], disable=True)
    predictor = Denoiser(denoise)
    expected = vsvf.invert(predictor, image, grid_of(sigmas[:-1]), "belm(2)", warn=False).x
    assert torch.equal(noise, expected)
    with pytest.raises(ValueError, match="no slope at sigma = 0"):
        kdiffusion.invert_belm_2(denoise, image, sigmas, disable=True)


def test_the_callback_is_told_every_step_once_with_x_and_denoised(x: torch.Tensor, sigmas: torch.Tensor) -> None:
    for function, levels in ((kdiffusion.sample_adams_bashforth_4, sigmas[:-1]), (kdiffusion.sample_belm_2, sigmas[:-1])):
        told = []
        function(
            denoise, x, sigmas, callback=lambda entry, told=told: told.append({**entry, "x": entry["x"].clone()}), disable=True
        )
        assert [entry["i"] for entry in told] == list(range(len(levels)))
        assert set(told[0]) == {"x", "i", "sigma", "sigma_hat", "denoised"}
        assert torch.equal(told[0]["x"], x)
        for entry, sigma in zip(told, levels):
            assert entry["sigma"] == entry["sigma_hat"] == sigma
            assert torch.equal(entry["denoised"], denoise(entry["x"], sigma.expand(len(x))))


def test_extra_args_reach_the_model(x: torch.Tensor, sigmas: torch.Tensor) -> None:
    plain = kdiffusion.sample_ddim(denoise, x, sigmas, disable=True)
    shifted = kdiffusion.sample_ddim(denoise, x, sigmas, extra_args={"shift": 0.1}, disable=True)
    assert not torch.allclose(plain, shifted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_x_comes_back_in_its_dtype_and_the_model_sees_it(dtype: torch.dtype, x: torch.Tensor, sigmas: torch.Tensor) -> None:
    seen = set()

    def model(y: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.add((y.dtype, sigma.dtype, tuple(sigma.shape)))
        return denoise(y, sigma)

    out = kdiffusion.sample_belm_2(model, x.to(dtype), sigmas, disable=True)
    assert out.dtype == dtype and seen == {(dtype, dtype, (4,))}


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 2.0], [2.0, 2.0, 1.0], [1.0, -1.0], [[2.0, 1.0]]])
def test_sigmas_that_do_not_decrease_are_named(sigmas: list[float], x: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="sigmas must be at least 2 values"):
        kdiffusion.sample_ddim(denoise, x, torch.tensor(sigmas), disable=True)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="sample_bdf_2"):
        kdiffusion.sample_bdf_2  # noqa: B018
