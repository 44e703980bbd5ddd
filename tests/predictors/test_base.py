"""The predictor: what it hands to a network and what it takes back."""

import numpy as np
import pytest
import strategies as own
import torch

from vsvf import Grid, Schedule, invert, sample
from vsvf.predictors import ClosedForm, Predictor, from_ode
from vsvf.predictors.prediction import from_epsilon

LINEAR = Schedule.linear()
X = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).reshape(2, 3)


def test_the_network_gets_the_scaled_state_and_its_own_time():
    got = []
    predictor = Predictor(lambda x, t: (got.append((x.clone(), t.clone())), x)[1], LINEAR)
    t = np.array([123.0, 700.0])
    for level, expected in zip(LINEAR.sigma_bar(t), t):
        predictor.epsilon(X, level)
        x, times = got.pop()
        assert torch.equal(x, X)
        assert times.shape == (2,) and times.dtype == torch.float64
        assert torch.allclose(times, torch.full((2,), expected, dtype=torch.float64), rtol=1e-12)


def test_a_march_hands_over_alpha_times_x_bar():
    inputs = []
    predictor = Predictor(lambda x, t: (inputs.append(x.clone()), torch.zeros_like(x))[1], LINEAR)
    grid = own.ddpm_grid(5)
    sample(predictor, X, grid, "ddim")
    for x, alpha in zip(inputs, grid.alpha[::-1]):  # eps = 0: x_bar stays
        assert torch.allclose(x, X / grid.alpha[-1] * alpha, rtol=1e-12)


@pytest.mark.parametrize("kind", ["sample", "v", "score", "velocity"])
@pytest.mark.parametrize("schedule", [Schedule.linear(), Schedule.edm(), Schedule.rectified_flow()], ids=lambda s: s.name)
def test_networks_of_every_kind_sample_alike(kind, schedule):
    """The same field eps = tanh(x), given as eps and as another prediction of it."""

    def converted(x, t):
        level = schedule.sigma_bar(t.double().numpy())
        alpha = torch.as_tensor(schedule.alpha_at(level)).reshape(-1, 1)
        sigma = alpha * torch.as_tensor(level).reshape(-1, 1)
        return from_epsilon(kind, torch.tanh(x), x, alpha, sigma)

    grid = Grid.from_schedule(schedule, 12, "log_snr", "smallest", sigma_bar_max=30.0)
    expected = sample(Predictor(lambda x, t: torch.tanh(x), schedule), X, grid, "belm(2)").x
    found = sample(Predictor(converted, schedule, kind=kind), X, grid, "belm(2)").x
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v", "score", "velocity"])
def test_a_batch_at_different_noise_levels(kind):
    predictor = Predictor(lambda x, t: torch.sin(x) * (1 + t / 1000).reshape(-1, 1).to(x), LINEAR, kind=kind)
    levels = np.array([0.3, 7.0])
    together = predictor.epsilon(X, levels)
    for n in range(2):
        assert torch.allclose(together[n : n + 1], predictor.epsilon(X[n : n + 1], levels[n]), rtol=1e-13)


def test_closed_forms_at_different_noise_levels():
    predictor = ClosedForm(lambda x, s: torch.sin(x) * s, LINEAR)
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = predictor.epsilon(x, np.array([0.3, 7.0]))
    for n, level in enumerate((0.3, 7.0)):
        alpha = 1.0 / np.sqrt(1.0 + level**2)
        assert torch.allclose(together[n], torch.sin(x[n] / alpha) * level, rtol=1e-13)


def test_the_dtype_of_a_modules_parameters_is_used():
    layer = torch.nn.Linear(3, 3).to(torch.float32)
    seen = []
    layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].dtype))

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x, t):
            return self.layer(x)

    predictor = Predictor(Net(), LINEAR)
    assert predictor.dtype == torch.float32
    out = sample(predictor, X, Grid.from_sigma_bar([0.1, 0.4, 0.9]), "belm(2)")
    assert set(seen) == {torch.float32} and out.values.dtype == torch.float64


def test_half_precision_networks_still_get_times_that_can_tell_steps_apart():
    seen = []
    predictor = Predictor(lambda x, t: (seen.append(t), x)[1], LINEAR, dtype=torch.float16)
    predictor.epsilon(X, float(LINEAR.sigma_bar(987.0)))
    assert seen[0].dtype == torch.float32 and float(seen[0][0]) == 987.0


def test_integer_times():
    seen = []
    predictor = Predictor(lambda x, t: (seen.append(t.clone()), 0.1 * x)[1], LINEAR, integer_time=True)
    for spacing in ("leading", "linspace", "trailing"):
        for final in ("zero", "smallest"):
            seen.clear()
            grid = Grid.from_schedule(LINEAR, 7, spacing, final)
            sample(predictor, X, grid, "belm(2)")
            assert all(t.dtype == torch.int64 for t in seen)
            assert [int(t[0]) for t in seen] == grid.timesteps[:0:-1].tolist()


@pytest.mark.parametrize("spacing", ["karras", "log_snr", "sigma_bar"])
def test_integer_times_refuse_nodes_between_timesteps(spacing):
    predictor = Predictor(lambda x, t: x, LINEAR, integer_time=True)
    with pytest.raises(ValueError, match="integer timesteps"):
        sample(predictor, X, Grid.from_schedule(LINEAR, 7, spacing), "belm(2)")


def test_integer_times_refuse_stages_between_timesteps():
    predictor = Predictor(lambda x, t: x, LINEAR, integer_time=True)
    with pytest.raises(ValueError, match="integer timesteps"):
        sample(predictor, X, own.ddpm_grid(7), "belm(2)", starter="rk4")


def test_a_network_of_x0_ends_at_the_smallest_sigma_bar():
    predictor = Predictor(lambda x, t: 0.5 * x, LINEAR, kind="sample")
    assert sample(predictor, X, own.ddpm_grid(5, "smallest"), "ddim").nfe == 5
    with pytest.raises(ValueError, match="final='smallest'"):
        invert(predictor, X, own.ddpm_grid(5, "zero"), "belm(2)")


@pytest.mark.parametrize("network", [3, None, "unet", torch.ones(2)])
def test_a_network_must_be_callable(network):
    with pytest.raises(TypeError, match="callable"):
        Predictor(network, LINEAR)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind='noise' is not known"):
        Predictor(lambda x, t: x, LINEAR, kind="noise")


@pytest.mark.parametrize(
    "network, error, message",
    [
        (lambda x, t: x[:1], ValueError, r"returned shape \(1, 3\) for x of shape \(2, 3\)"),
        (lambda x, t: x[..., None], ValueError, "returned shape"),
        (lambda x, t: x.sum(), ValueError, "returned shape"),
        (lambda x, t: (x,), TypeError, "returned tuple"),
        (lambda x, t: x.numpy(), TypeError, "returned ndarray"),
        (lambda x, t: None, TypeError, "returned NoneType"),
        (lambda x, t: x.to("meta"), ValueError, "meta"),
        (lambda x, t: x.to(torch.int64), (TypeError, ValueError), "int64"),
        (lambda x, t: x.to(torch.complex128), (TypeError, ValueError), "complex128"),
        (lambda x, t: x > 0, (TypeError, ValueError), "bool"),
    ],
    ids=["batch", "extra axis", "scalar", "tuple", "numpy", "none", "device", "integer", "complex", "bool"],
)
@pytest.mark.parametrize("kind", ["epsilon", "v"])
def test_bad_predictions_are_named(network, error, message, kind):
    predictor = Predictor(network, LINEAR, kind=kind)
    with pytest.raises(error, match=message):
        sample(predictor, X, own.ddpm_grid(4), "belm(2)")


@pytest.mark.parametrize("function", [lambda x, s: x[:1], lambda x, s: x.sum(), lambda x, s: 1.0, lambda x, s: x[..., None]])
def test_bad_closed_forms_are_named(function):
    with pytest.raises((TypeError, ValueError), match="returned"):
        sample(from_ode(function), X, own.ddpm_grid(4), "belm(2)")


def test_from_ode_marches_any_equation():
    grid = Grid.from_sigma_bar(np.linspace(0.0, 1.0, 201))
    x = torch.full((1, 1), np.e, dtype=torch.float64)
    found = sample(from_ode(lambda x, s: x), x, grid, "adams_bashforth(4)", starter="rk4")
    assert float(found.x) == pytest.approx(1.0, abs=1e-8)
