"""Half precision, closures, networks in training mode."""

import functools
import warnings

import numpy as np
import pytest
import strategies as own
import torch
from torch import nn

from vsvf import Grid, LowestStepWarning, Schedule, TrainingModeWarning, invert, sample
from vsvf.predictors import Guided, Predictor
from vsvf.predictors.prediction import KINDS, from_epsilon, to_epsilon

LINEAR = Schedule.linear()
X = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).reshape(2, 3)
HALVES = (torch.bfloat16, torch.float16)


class Net(nn.Module):
    """A float32 network with a condition."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[0.2, -0.1, 0.3], [0.0, 0.4, 0.1], [-0.3, 0.2, 0.1]]))
            self.layer.bias.copy_(torch.tensor([0.1, -0.2, 0.05]))
        self.requires_grad_(False)

    def forward(self, x, t, y=0.0):
        return torch.tanh(self.dropout(self.layer(x))) + y

    def shifted(self, x, t):
        return self.forward(x, t, 0.5)


# ---- precision -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("level", [0.01, 1.0, 130.0])
def test_a_half_precision_network_of_x0_costs_only_its_own_rounding(dtype, level):
    """x_0 = 0.5 is a number of every format, so that eps = (x - alpha x_0)/sigma is known to the state's precision."""
    predictor = Predictor(lambda x, t: torch.full_like(x, 0.5), LINEAR, kind="sample", dtype=dtype)
    alpha = float(predictor.alpha(level))
    found = predictor.epsilon(X, level)
    assert found.dtype == torch.float64
    assert torch.allclose(found, (X - alpha * 0.5) / (alpha * level), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_read_in_the_states_precision(dtype, kind):
    """eps from a rounded prediction is what exact algebra makes of that very prediction and the unrounded x."""
    level = 37.0
    alpha = float(LINEAR.alpha_at(level))
    exact = from_epsilon(kind, torch.sin(5.0 * X), X, alpha, alpha * level)
    predictor = Predictor(lambda x, t: exact.to(dtype), LINEAR, kind=kind, dtype=dtype)
    expected = to_epsilon(kind, exact.to(dtype).double(), X, alpha, alpha * level)
    assert torch.equal(predictor.epsilon(X, level).double(), expected)
    levels = np.array([level, 0.3])
    scales = [torch.as_tensor(LINEAR.alpha_at(levels)).reshape(2, 1) * s for s in (1.0, torch.as_tensor(levels).reshape(2, 1))]
    assert torch.equal(predictor.epsilon(X, levels).double(), to_epsilon(kind, exact.to(dtype).double(), X, *scales))


def test_half_precision_states_are_read_in_single_precision():
    x = X.to(torch.float16)
    found = to_epsilon("v", x, x, 0.1, 0.995)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), (0.1 * x.double() + 0.995 * x.double()) / (0.1**2 + 0.995**2), rtol=1e-6)


def test_a_bfloat16_network_of_x0_samples_as_its_float32_self():
    """Formed in bfloat16, the error of a 50-step sample is several times the size of the data."""
    data = torch.tensor([[0.5, -0.25, 0.75]])

    def denoise(x, t):  # numbers of bfloat16, so that both networks are the same function
        return data.to(x.dtype).expand_as(x)

    grid = own.ddpm_grid(50, "smallest")
    found, expected = (
        sample(Predictor(denoise, LINEAR, "sample", dtype=dtype), X, grid, "stable_belm(4)", warn=False).x
        for dtype in (torch.bfloat16, torch.float64)
    )
    assert float((found - expected).abs().max()) < 1e-9


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
def test_a_guidance_scale_counts_the_same_as_a_number_and_as_a_tensor(dtype):
    condition, null = torch.ones(2, 1), torch.zeros(2, 1)

    def network(x, t, y):
        return torch.sin(3.0 * x) * (1.0 + y.to(x))

    x, t = X.to(dtype), torch.zeros(2)
    by_number = Guided(network, condition, null, 7.3)(x, t)
    by_tensor = Guided(network, condition, null, torch.full((2,), 7.3, dtype=torch.float64))(x, t)
    assert by_tensor.dtype == dtype and torch.equal(by_number, by_tensor)


# ---- closures ------------------------------------------------------------------------------------------------

GLOBAL_NET = Net()


def by_global(x, t):
    return GLOBAL_NET(x, t)


def closures():
    net, y = Net(), torch.tensor([0.1, 0.2, 0.3])

    def inner(x, t):
        return net(x, t, y)

    class Wrapped:
        def __init__(self):
            self.model = net

        def __call__(self, x, t):
            return self.model(x, t)

    return {
        "lambda": lambda x, t: net(x, t, y),
        "closure of a closure": lambda x, t: inner(x, t),
        "partial": functools.partial(net, y=y),
        "bound method": net.shifted,
        "object": Wrapped(),
        "global": by_global,
        "default": lambda x, t, network=net: network(x, t),
        "guided": Guided(lambda x, t, c: net(x, t, c), torch.ones(1, 1)),
    }


@pytest.mark.parametrize("name", closures())
@pytest.mark.parametrize("arithmetic", ["fixed", "float64"])
def test_the_dtype_of_a_network_inside_a_closure_is_found(name, arithmetic):
    network = closures()[name]
    predictor = Predictor(network, LINEAR)
    grid = own.ddpm_grid(5, "smallest")
    found = sample(predictor, X, grid, "belm(2)", arithmetic=arithmetic)
    expected = sample(Predictor(network, LINEAR, dtype=torch.float32), X, grid, "belm(2)", arithmetic=arithmetic)
    assert torch.equal(found.values, expected.values)
    assert predictor.precision == torch.float32


def test_a_closure_that_computes_around_its_network_keeps_the_states_precision():
    net = Net()
    predictor = Predictor(lambda x, t: 0.5 * x + net(x.float(), t).double(), LINEAR)
    assert torch.equal(predictor.epsilon(X, 1.0), 0.5 * X + net(X.float(), None).double())
    assert predictor.epsilon(X, 1.0).dtype == torch.float64


def test_a_dtype_that_cannot_be_found_is_asked_for():
    weights = {n: {n: {n: {n: {n: Net()}}}} for n in range(1)}  # too deep
    with pytest.raises(TypeError, match=r"dtype=torch\.float32"):
        Predictor(lambda x, t: weights[0][0][0][0][0](x, t), LINEAR).epsilon(X, 1.0)


def test_errors_that_are_not_about_dtypes_stay_what_they_are():
    net = Net()

    def network(x, t):
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        Predictor(network, LINEAR).epsilon(X, 1.0)
    with pytest.raises(RuntimeError, match=r"must have the same dtype|expected"):  # x fits, the condition does not
        Predictor(lambda x, t: net(x.double(), t), LINEAR).epsilon(X.float(), 1.0)


# ---- training mode -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: lambda x, t: net(x, t)], ids=["module", "closure"])
def test_a_network_in_training_mode_is_named(wrap):
    network = Net(dropout=0.5)
    with pytest.warns(TrainingModeWarning, match=r"dropout \(Dropout\).*network\.eval\(\)"):
        Predictor(wrap(network), LINEAR).warn_if_training()
    harmless = [Net(dropout=0.5).eval(), Net(), nn.Sequential(nn.InstanceNorm2d(3), nn.SiLU())]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for other in harmless:
            Predictor(wrap(other), LINEAR).warn_if_training()


# ---- arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [None, "linear", LINEAR.alpha])
def test_a_schedule_must_be_one(schedule):
    with pytest.raises(TypeError, match=r"schedule must be a vsvf\.Schedule"):
        Predictor(lambda x, t: x, schedule)


def test_other_arguments_are_named():
    for dtype in ("float32", np.float32, torch.int64, torch.complex64):
        with pytest.raises(TypeError, match="dtype must be a floating dtype"):
            Predictor(lambda x, t: x, LINEAR, dtype=dtype)
    with pytest.raises(TypeError, match="integer_time"):
        Predictor(lambda x, t: x, LINEAR, integer_time="yes")
    for scale in (None, "2", True):
        with pytest.raises(TypeError, match="scale must be a number"):
            Guided(lambda x, t, y: x, torch.ones(1), torch.ones(1), scale)
    with pytest.raises(TypeError, match="condition must be a tensor"):
        Guided(lambda x, t, y: x, 3)
    with pytest.raises(TypeError, match="null must be a tensor"):
        Guided(lambda x, t, y: x, torch.ones(1), 3, 2.0)


# ---- what a march says and knows of these -----------------------------------------------------------------------


def test_sample_and_invert_warn_of_training_mode_and_of_a_tiny_lowest_step():
    grid = own.ddpm_grid(10, "smallest")
    for march in (sample, invert):
        with pytest.warns(TrainingModeWarning):
            march(Predictor(Net(dropout=0.5), LINEAR), X, grid, "belm(2)")
    leading = Grid.from_schedule(LINEAR, 50, "leading", "zero")
    with pytest.warns(LowestStepWarning):
        invert(Predictor(Net(), LINEAR), X, leading, "belm(2)")
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingModeWarning)
        warnings.simplefilter("error", LowestStepWarning)
        invert(Predictor(Net(dropout=0.5), LINEAR), X, leading, "belm(2)", warn=False)
        invert(Predictor(Net(), LINEAR), sample(Predictor(Net(), LINEAR), X, leading, "belm(2)"), leading, "belm(2)")


def test_an_implicit_row_is_solved_to_the_precision_of_a_network_in_a_closure():
    net = Net()
    grid = Grid.from_sigma_bar(np.linspace(0.1, 1.0, 6))
    assert sample(Predictor(lambda x, t: net(x, t), LINEAR), X, grid, "adams_moulton(1)").nfe < 100
