"""Inverting by sweeps over the whole path."""

import numpy as np
import pytest
import strategies as own
import torch

from vsvf import ConvergenceError, Grid, NonFiniteError, Schedule, formulas, invert, sample
from vsvf.predictors import ClosedForm, Predictor, from_ode, ideal_denoiser

SWEPT = (
    "adams_bashforth(2)",
    "adams_bashforth(3)",
    "adams_bashforth(4)",
    "deis(2)",
    "deis(3)",
    "dpm_solver_pp(2)",
    "dpm_solver_pp(3)",
    "dpm_solver_pp(3, True)",
)
GRID = Grid.from_sigma_bar(np.linspace(0.3, 1.4, 21) ** 1.3)


def image(generator, shape=(2, 3)):
    return torch.randn(shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("starter", ["ddim", "heun", "rk4", "rk4:2", "lower_order"])
@pytest.mark.parametrize("name", SWEPT)
def test_the_recovered_noise_samples_to_the_image(name, starter, generator):
    x = image(generator)
    noise = invert(own.tanh_network(), x, GRID, name, starter=starter, tolerance=1e-13)
    again = sample(own.tanh_network(), noise.x, GRID, name, starter=starter)
    assert torch.allclose(again.x, x, rtol=0.0, atol=1e-11)
    from_state = sample(own.tanh_network(), noise, GRID, name)
    assert torch.allclose(from_state.x, x, rtol=0.0, atol=1e-11)


@pytest.mark.parametrize("name", SWEPT)
def test_noise_comes_back_from_its_sample(name, generator):
    x = image(generator)
    out = sample(own.tanh_network(), x, GRID, name, starter="lower_order")
    for given in (out, out.x):
        back = invert(own.tanh_network(), given, GRID, name, starter="lower_order", tolerance=1e-14)
        assert torch.allclose(back.x, x, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("name", ["adams_bashforth(2)", "adams_bashforth(3)", "deis(3)"])
def test_an_ideal_denoiser_is_inverted(name, generator):
    # the smoothing of the data keeps the slopes' Lipschitz constant small enough for 50 steps
    data = torch.rand(5, 6, dtype=torch.float64, generator=generator) * 2.0 - 1.0
    predictor = ideal_denoiser(data, std=0.3, schedule=Schedule.linear())
    grid = Grid.from_schedule(Schedule.linear(), 50, "log_snr", "smallest", sigma_bar_max=20.0)
    x = data[:3] + 0.05
    noise = invert(predictor, x, grid, name, tolerance=1e-12, max_iterations=400)
    again = sample(predictor, noise.x, grid, name)
    assert torch.allclose(again.x, x, rtol=0.0, atol=1e-9)
    assert noise.record.residual <= 1e-12


def test_adams_moulton_is_swept_too(generator):
    x = image(generator)
    noise = invert(own.tanh_network(), x, GRID, "adams_moulton(2)", tolerance=1e-13)
    again = sample(own.tanh_network(), noise.x, GRID, "adams_moulton(2)", tolerance=1e-14)
    assert torch.allclose(again.x, x, rtol=0.0, atol=1e-11)


def test_a_looser_tolerance_takes_fewer_evaluations(generator):
    x = image(generator)
    loose = invert(own.tanh_network(), x, GRID, "deis(3)", tolerance=1e-4)
    tight = invert(own.tanh_network(), x, GRID, "deis(3)", tolerance=1e-12)
    assert loose.nfe < tight.nfe
    assert 1e-12 < loose.record.residual <= 1e-4 and tight.record.residual <= 1e-12


def test_evaluations_are_counted_and_batched(generator):
    calls = []

    def f(x, s):
        calls.append(x.shape[0])
        return 0.5 * torch.tanh(x)

    x = image(generator)
    out = invert(from_ode(f), x, GRID, "adams_bashforth(2)")
    states = sum(calls) / 2  # two samples each
    assert out.nfe == states
    sweeps = calls[GRID.steps :]
    assert calls[: GRID.steps] == [2] * GRID.steps  # the first guess
    assert set(sweeps) == {2 * GRID.steps}  # one call a sweep, all states but the image


def test_nodes_per_call_changes_the_calls_alone(generator):
    calls = []

    def f(x, s):
        calls.append(x.shape[0])
        return 0.5 * torch.tanh(x)

    x = image(generator)
    whole = invert(from_ode(f), x, GRID, "adams_bashforth(2)")
    calls.clear()
    parts = invert(from_ode(f), x, GRID, "adams_bashforth(2)", nodes_per_call=3)
    assert max(calls) == 6
    assert parts.nfe == whole.nfe
    assert torch.allclose(parts.x, whole.x, rtol=0.0, atol=1e-12)


def test_every_state_is_evaluated_at_its_own_time(generator):
    """A network whose answer depends on t alone: x_bar_N - x_bar_0 is the sum of the rows' slopes, whatever the sweeps."""
    schedule = Schedule.linear()
    predictor = Predictor(lambda x, t: torch.cos(t / 300.0).reshape(-1, 1).to(x).expand_as(x), schedule)
    grid = own.ddpm_grid(12)
    x = image(generator)
    noise = invert(predictor, x, grid, "adams_bashforth(2)", tolerance=1e-13)
    assert torch.allclose(sample(predictor, noise.x, grid, "adams_bashforth(2)").x, x, rtol=0.0, atol=1e-11)


def test_not_converging_is_an_error_with_the_residual(generator):
    with pytest.raises(ConvergenceError, match="did not converge") as caught:
        invert(own.tanh_network(), image(generator), GRID, "deis(3)", tolerance=1e-13, max_iterations=3)
    assert caught.value.iterations == 3
    assert 1e-13 < caught.value.residual < 1.0


def test_diverging_is_an_error(generator):
    wild = from_ode(lambda x, s: 40.0 * x * x)
    with pytest.raises((ConvergenceError, NonFiniteError)):
        invert(wild, image(generator), GRID, "adams_bashforth(2)")


def test_a_prediction_that_is_not_finite_during_a_sweep_is_named(generator):
    calls = []

    def f(x, s):
        calls.append(1)
        out = 0.5 * torch.tanh(x)
        return out * float("nan") if len(calls) > GRID.steps + 2 else out

    with pytest.raises(NonFiniteError):
        invert(from_ode(f), image(generator), GRID, "adams_bashforth(2)")


def test_samples_of_a_batch_do_not_know_of_each_other(generator):
    x = image(generator, (3, 2, 2))
    together = invert(own.tanh_network(), x, GRID, "dpm_solver_pp(2)", tolerance=1e-14).x
    alone = [invert(own.tanh_network(), one[None], GRID, "dpm_solver_pp(2)", tolerance=1e-14).x for one in x]
    assert torch.allclose(torch.cat(alone), together, rtol=0.0, atol=1e-11)


def test_the_whole_path_or_nothing(generator):
    with pytest.raises(ValueError, match="whole path"):
        invert(own.tanh_network(), image(generator), GRID, "deis(2)", stop=5)
    half = sample(own.tanh_network(), image(generator), GRID, "deis(2)", stop=5)
    with pytest.raises(ValueError, match="whole path"):
        invert(own.tanh_network(), half, GRID, "deis(2)")


def test_the_state_of_a_sweep_goes_on_with_its_formula(generator, tmp_path):
    noise = invert(own.tanh_network(), image(generator), GRID, "adams_bashforth(3)")
    assert noise.values.shape[0] == 3
    assert noise.record.direction == "inversion" and noise.record.node == GRID.steps
    assert noise.record.fingerprint == formulas.adams_bashforth(3).plan(GRID).fingerprint


def test_float32_sweeps_reach_their_own_tolerance(generator):
    x = image(generator).float()
    noise = invert(own.tanh_network(), x, GRID, "adams_bashforth(2)")
    assert noise.values.dtype == torch.float32
    assert torch.allclose(sample(own.tanh_network(), noise.x, GRID, "adams_bashforth(2)").x, x, rtol=0.0, atol=2e-5)


def test_a_bad_starter_of_a_sweep_is_refused(generator):
    with pytest.raises(ValueError, match="starter="):
        invert(own.tanh_network(), image(generator), GRID, "deis(2)", starter="rk9")


def test_the_callback_of_a_sweep_is_called(generator):
    seen = []
    invert(own.tanh_network(), image(generator), GRID, "deis(2)", callback=seen.append)
    assert seen


def test_guided_paths_are_guided_per_sample(generator):
    """Conditions are repeated state by state: two samples with scales of their own, swept at once."""
    from vsvf.predictors import Guided

    labels = torch.tensor([0.5, -0.25], dtype=torch.float64)

    def network(x, t, condition):
        return torch.tanh(x) * condition.reshape(-1, *[1] * (x.ndim - 1))

    scale = torch.tensor([2.0, 3.0], dtype=torch.float64)
    guided = Guided(network, labels, torch.tensor([0.1], dtype=torch.float64), scale)
    predictor = Predictor(guided, Schedule.linear())
    x = image(generator)
    both = invert(predictor, x, GRID, "adams_bashforth(2)", tolerance=1e-13).x
    for n in range(2):
        one = Guided(network, labels[n : n + 1], torch.tensor([0.1], dtype=torch.float64), float(scale[n]))
        alone = invert(Predictor(one, Schedule.linear()), x[n : n + 1], GRID, "adams_bashforth(2)", tolerance=1e-13).x
        assert torch.allclose(both[n : n + 1], alone, rtol=0.0, atol=1e-11)


def test_closed_forms_take_a_path_at_once(generator):
    predictor = ClosedForm(lambda x, s: s * x / (s * s + 0.25))
    x = image(generator, (2, 2, 3))
    noise = invert(predictor, x, GRID, "adams_bashforth(2)", tolerance=1e-13)
    assert torch.allclose(sample(predictor, noise.x, GRID, "adams_bashforth(2)").x, x, rtol=0.0, atol=1e-11)
