"""eps from what a network predicts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vsvf.predictors.prediction import KINDS, from_epsilon, to_epsilon

SCALES = st.sampled_from([(1.0, 0.5), (0.8, 0.6), (0.02, 0.9998), (0.3, 0.7), (1.0, 80.0)])


def parts(alpha, sigma, seed=0):
    g = torch.Generator().manual_seed(seed)
    x_0, eps = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=g)
    return x_0, eps, alpha * x_0 + sigma * eps


TARGETS = {
    "epsilon": lambda x_0, eps, alpha, sigma: eps,
    "sample": lambda x_0, eps, alpha, sigma: x_0,
    "v": lambda x_0, eps, alpha, sigma: alpha * eps - sigma * x_0,
    "score": lambda x_0, eps, alpha, sigma: -eps / sigma,
    "velocity": lambda x_0, eps, alpha, sigma: eps - x_0,
}


@given(st.sampled_from(KINDS), SCALES, st.integers(0, 1000))
def test_eps_is_read_from_every_target(kind, scales, seed):
    x_0, eps, x = parts(*scales, seed)
    target = TARGETS[kind](x_0, eps, *scales)
    # a kind that knows eps through x_0 alone loses the digits that sigma is smaller by
    assert torch.allclose(to_epsilon(kind, target, x, *scales), eps, rtol=1e-11, atol=1e-11)


@given(st.sampled_from(KINDS), SCALES, st.integers(0, 1000))
def test_every_target_is_made_from_eps(kind, scales, seed):
    x_0, eps, x = parts(*scales, seed)
    target = TARGETS[kind](x_0, eps, *scales)
    assert torch.allclose(from_epsilon(kind, eps, x, *scales), target, rtol=1e-10, atol=1e-10)


@given(st.sampled_from(KINDS), SCALES, st.integers(0, 1000))
def test_there_and_back(kind, scales, seed):
    _, eps, x = parts(*scales, seed)
    assert torch.allclose(to_epsilon(kind, from_epsilon(kind, eps, x, *scales), x, *scales), eps, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_scales_may_differ_within_a_batch(kind):
    alpha, sigma = torch.tensor([0.9, 0.6, 0.1]).double(), torch.tensor([0.2, 0.8, 0.9]).double()
    g = torch.Generator().manual_seed(1)
    p, x = torch.randn(2, 3, 4, dtype=torch.float64, generator=g)
    together = to_epsilon(kind, p, x, alpha[:, None], sigma[:, None])
    for n in range(3):
        alone = to_epsilon(kind, p[n], x[n], float(alpha[n]), float(sigma[n]))
        assert torch.allclose(together[n], alone, rtol=1e-14)


def test_impossible_readings_are_refused():
    x = torch.ones(1, 2)
    with pytest.raises(ValueError, match="undefined"):
        to_epsilon("sample", x, x, 1.0, 0.0)
    with pytest.raises(ValueError, match="infinite"):
        from_epsilon("score", x, x, 1.0, 0.0)
    with pytest.raises(ValueError, match="alpha = 0"):
        from_epsilon("sample", x, x, 0.0, 1.0)
    for function in (to_epsilon, from_epsilon):
        with pytest.raises(ValueError, match="kind='noise' is not known"):
            function("noise", x, x, 1.0, 1.0)
