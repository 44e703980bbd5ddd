"""The algebra of predictions, eps <-> x_0 <-> v <-> score <-> velocity, for every kind of schedule, and at its ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vsvf
from vsvf.predictors.prediction import KINDS, from_epsilon, to_epsilon

SCHEDULES = {
    "variance preserving": vsvf.Schedule.scaled_linear(),
    "variance exploding": vsvf.Schedule.edm(),
    "flow": vsvf.Schedule.rectified_flow(),
}


def scales(name: str, sigma_bar: float) -> tuple[float, float]:
    alpha = float(SCHEDULES[name].alpha_at(sigma_bar))
    return alpha, alpha * sigma_bar


def pair(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))  # type: ignore[return-value]


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    kind=st.sampled_from(KINDS),
    log_sigma=st.floats(-6.0, 6.0),
    seed=st.integers(0, 2**31),
)
def test_predictions_mean_what_they_are_called(name: str, kind: str, log_sigma: float, seed: int) -> None:
    s = float(np.exp(log_sigma))
    alpha, sigma = scales(name, s)
    x_0, eps = pair(seed)
    x = alpha * x_0 + sigma * eps
    predictions = {
        "epsilon": eps,
        "sample": x_0,
        "v": alpha * eps - sigma * x_0,
        "score": -eps / sigma,
        "velocity": eps - x_0,
    }
    # digits that cancel: eps from x_0 divides by sigma, x_0 from eps by alpha
    lost = 1e-15 * (1.0 + 1.0 / s) * 100.0
    assert torch.allclose(to_epsilon(kind, predictions[kind], x, alpha, sigma), eps, rtol=lost, atol=lost)
    back = 1e-15 * (1.0 + s + 1.0 / sigma) * 100.0
    assert torch.allclose(from_epsilon(kind, eps, x, alpha, sigma), predictions[kind], rtol=back, atol=back)


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    log_sigma=st.floats(-3.0, 3.0),
    seed=st.integers(0, 2**31),
)
def test_any_prediction_turns_into_any_other_and_back(name: str, kinds: tuple[str, str], log_sigma: float, seed: int) -> None:
    alpha, sigma = scales(name, float(np.exp(log_sigma)))
    prediction, x = pair(seed)
    first, second = kinds
    other = from_epsilon(second, to_epsilon(first, prediction, x, alpha, sigma), x, alpha, sigma)
    back = from_epsilon(first, to_epsilon(second, other, x, alpha, sigma), x, alpha, sigma)
    assert torch.allclose(back, prediction, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_towards_clean_data(name: str, kind: str) -> None:
    """At sigma_bar = 0 x is x_0: v and velocity still give eps, x_0 does not, a score gives 0."""
    x_0, eps = pair(0)
    alpha, sigma = scales(name, 0.0)
    assert (alpha, sigma) == (1.0, 0.0)
    predictions = {"epsilon": eps, "sample": x_0, "v": eps, "score": eps, "velocity": eps - x_0}
    if kind == "sample":
        with pytest.raises(ValueError, match="undefined"):
            to_epsilon(kind, predictions[kind], x_0, alpha, sigma)
    else:
        expected = torch.zeros_like(eps) if kind == "score" else eps
        assert torch.allclose(to_epsilon(kind, predictions[kind], x_0, alpha, sigma), expected, atol=1e-15)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v", "score", "velocity"])
def test_towards_pure_noise(kind: str) -> None:
    """At alpha = 0 (sigma_bar infinite) x is eps: every prediction gives it, none can be made from it but eps and the score."""
    x_0, eps = pair(0)
    alpha, sigma = 0.0, 1.0
    predictions = {"epsilon": eps, "sample": x_0, "v": -x_0, "score": -eps, "velocity": eps - x_0}
    assert torch.allclose(to_epsilon(kind, predictions[kind], eps, alpha, sigma), eps)
    if kind in ("epsilon", "score"):
        assert torch.allclose(from_epsilon(kind, eps, eps, alpha, sigma), predictions[kind])
    else:
        with pytest.raises(ValueError, match="alpha = 0"):
            from_epsilon(kind, eps, eps, alpha, sigma)


def test_one_noise_level_per_sample() -> None:
    x_0, eps = pair(0)
    sigma_bar = np.array([0.1, 5.0])
    alpha = torch.as_tensor(SCHEDULES["variance preserving"].alpha_at(sigma_bar)).reshape(2, 1, 1, 1)
    sigma = alpha * torch.as_tensor(sigma_bar).reshape(2, 1, 1, 1)
    x = alpha * x_0 + sigma * eps
    for kind in KINDS:
        prediction = from_epsilon(kind, eps, x, alpha, sigma)
        assert torch.allclose(to_epsilon(kind, prediction, x, alpha, sigma), eps, rtol=1e-10, atol=1e-10)


def test_unknown_kinds_are_refused() -> None:
    x, eps = pair(0)
    for function in (to_epsilon, from_epsilon):
        with pytest.raises(ValueError, match="choose one of"):
            function("noise", eps, x, 1.0, 1.0)
