import pytest
import torch

from vsvf import Schedule
from vsvf.predictors import Guided, Predictor


class Network:
    """eps = tanh(x + c) (1 + t): keeps its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, condition):
        self.calls.append((x.shape[0], t.clone(), condition.clone()))
        shape = (-1, *[1] * (x.ndim - 1))
        return torch.tanh(x + condition.reshape(shape)) * (1.0 + t.reshape(shape))


@pytest.fixture
def x(generator):
    return torch.randn(3, 2, 4, dtype=torch.float64, generator=generator)


T = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
LABELS = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
NULL = torch.tensor([0.0], dtype=torch.float64)


@pytest.mark.parametrize("scale", [0.0, 0.3, 2.0, 7.5, -1.0])
def test_guidance_equals_two_separate_calls(x, scale):
    network = Network()
    found = Guided(network, LABELS, NULL, scale)(x, T)
    assert len(network.calls) == 1 and network.calls[0][0] == 6
    null, condition = network(x, T, NULL.expand(3)), network(x, T, LABELS)
    assert torch.allclose(found, null + scale * (condition - null), rtol=1e-13, atol=1e-14)


def test_scale_one_evaluates_the_condition_alone(x):
    network = Network()
    found = Guided(network, LABELS)(x, T)
    assert [batch for batch, *_ in network.calls] == [3]
    assert torch.equal(found, network(x, T, LABELS))


def test_scales_per_sample(x):
    network = Network()
    scales = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    found = Guided(network, LABELS, NULL, scales)(x, T)
    for n in range(3):
        alone = Guided(network, LABELS[n : n + 1], NULL, float(scales[n]))(x[n : n + 1], T[n : n + 1])
        assert torch.allclose(found[n : n + 1], alone, rtol=1e-13, atol=1e-14)


def test_one_condition_serves_all(x):
    network = Network()
    found = Guided(network, LABELS[1:2], NULL, 2.0)(x, T)
    assert torch.equal(found, Guided(network, LABELS[1:2].expand(3), NULL.expand(3), 2.0)(x, T))


def test_conditions_of_any_shape(x):
    embeddings = torch.randn(3, 5, 7, dtype=torch.float64)

    def network(x, t, condition):
        assert condition.shape == (6, 5, 7)
        return x + condition.mean((1, 2)).reshape(-1, 1, 1)

    found = Guided(network, embeddings, torch.zeros(1, 5, 7, dtype=torch.float64), 3.0)(x, T)
    assert torch.allclose(found, x + 3.0 * embeddings.mean((1, 2)).reshape(-1, 1, 1), rtol=1e-12)


def test_a_path_repeats_the_conditions_state_by_state(x):
    network = Network()
    guided = Guided(network, LABELS, NULL, 2.0)
    path = torch.cat([x, 2.0 * x])
    found = guided(path, torch.cat([T, 2 * T]))
    assert torch.allclose(found, torch.cat([guided(x, T), guided(2.0 * x, 2 * T)]), rtol=1e-14)


@pytest.mark.parametrize("what", ["condition", "null", "scale"])
def test_rows_that_do_not_fit_the_batch_are_refused(x, what):
    rows = torch.ones(2, dtype=torch.float64)
    arguments = {"condition": LABELS, "null": NULL, "scale": 2.0} | {what: rows}
    with pytest.raises(ValueError, match=f"{what} has 2 rows for a batch of 3"):
        Guided(Network(), **arguments)(x, T)


def test_guidance_needs_a_null_condition():
    with pytest.raises(ValueError, match="null condition"):
        Guided(Network(), LABELS, None, 2.0)


def test_a_guided_network_is_a_network(x):
    predictor = Predictor(Guided(Network(), LABELS, NULL, 2.0), Schedule.linear())
    assert predictor.epsilon(x, 0.5).shape == x.shape
    module = torch.nn.Linear(2, 2).to(torch.bfloat16)
    assert Predictor(Guided(module, LABELS), Schedule.linear()).dtype == torch.bfloat16
