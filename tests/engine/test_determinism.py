"""The guard that exactness needs: a predictor that gives other bits for the same input is named with its first step."""

import pytest
import strategies as own
import torch

from vsvf import DeterminismError, invert, sample
from vsvf.predictors import Predictor

GRID = own.sd_grid(12)
X = torch.linspace(-1.0, 1.0, 32, dtype=torch.float64).reshape(2, 16)


def noisy_from(call, size=1e-12):
    """A network that becomes random with its n-th call (from 1)."""
    generator, calls = torch.Generator().manual_seed(0), []

    def network(x, t):
        calls.append(1)
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        return 0.1 * x + (size * noise if len(calls) >= call else 0.0)

    return Predictor(network, own.Schedule.linear())


@pytest.mark.parametrize("arithmetic", ["fixed", "float64"])
@pytest.mark.parametrize("march", [sample, invert])
def test_dropout_left_in_train_mode_is_named_with_the_first_step(march, arithmetic):
    network = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Dropout(0.5)).double()
    predictor = Predictor(lambda x, t: network(x), own.Schedule.linear())
    with pytest.raises(DeterminismError, match=r"not deterministic: at state 0 of the starter ddim \(sigma_bar"):
        march(predictor, X, GRID, "belm(2)", arithmetic=arithmetic, verify=True)
    network.eval()
    checked = march(predictor, X, GRID, "belm(2)", arithmetic=arithmetic, verify=True)
    assert torch.equal(checked.values, march(predictor, X, GRID, "belm(2)", arithmetic=arithmetic).values)


@pytest.mark.parametrize("name", ["belm(2)", "stable_belm(3)", "edict(0.93)"])
@pytest.mark.parametrize("late", [1, 4, 8])
def test_the_first_step_that_differs_is_the_one_named(name, late):
    asked = []

    class Watched(Predictor):
        def epsilon(self, x, sigma_bar, t=None):
            asked.append(sigma_bar)
            return super().epsilon(x, sigma_bar, t)

    noisy = noisy_from(2 * late)  # the second evaluation of the late-th slope
    with pytest.raises(DeterminismError, match=r"at state \d+ of the (march|starter)") as caught:
        sample(Watched(noisy.network, own.Schedule.linear()), X, GRID, name, arithmetic="fixed", verify=True)
    assert len(asked) == 2 * late
    assert f"sigma_bar = {asked[-1]:.6g}" in str(caught.value)
    assert "differ in 32 of 32 entries" in str(caught.value) and "eval mode" in str(caught.value)


def test_one_differing_bit_is_enough():
    calls = []

    def network(x, t):
        calls.append(1)
        out = 0.1 * x
        if len(calls) == 2:
            out.view(-1).view(torch.int64)[3] ^= 1
        return out

    with pytest.raises(DeterminismError, match="differ in 1 of 32 entries"):
        sample(Predictor(network, own.Schedule.linear()), X, GRID, "belm(2)", arithmetic="fixed", verify=True)


@pytest.mark.parametrize("dtype", own.DTYPES)
def test_the_guard_costs_one_more_evaluation_each_and_changes_nothing(dtype):
    predictor = Predictor(lambda x, t: torch.tanh(x.to(getattr(torch, dtype))), own.Schedule.linear())
    plain = sample(predictor, X, GRID, "belm(2)", arithmetic="fixed")
    checked = sample(predictor, X, GRID, "belm(2)", arithmetic="fixed", verify=True)
    assert checked.nfe == 2 * plain.nfe and torch.equal(checked.values, plain.values)


def test_without_the_guard_a_random_predictor_goes_unnoticed_and_returns_other_bits():
    predictor = noisy_from(1, size=1e-3)
    first = sample(predictor, X, GRID, "belm(2)", arithmetic="fixed", stop=12)
    there = sample(predictor, first, GRID, "belm(2)")
    assert not torch.equal(invert(predictor, there, GRID, "belm(2)").values, first.values)
