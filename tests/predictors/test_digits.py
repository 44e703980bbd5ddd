"""The embedded network and the classifier that judges it."""

from importlib import resources

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vsvf import Grid, Schedule, invert, sample
from vsvf.apps.classifier import load_digits_classifier
from vsvf.predictors import digits
from vsvf.predictors.digits_network import load_digits_network

ASSETS = resources.files("vsvf") / "assets"
GRID = Grid.from_schedule(Schedule.linear(), 50, "trailing", "zero")


@pytest.fixture
def x(generator):
    return torch.randn(2, 1, 28, 28, generator=generator)


def test_the_network_is_small():
    parameters = sum(p.numel() for p in load_digits_network().parameters())
    assert parameters <= 1_000_000
    for name in ("digits.safetensors", "classifier.safetensors"):
        assert (ASSETS / name).is_file()
        assert len((ASSETS / name).read_bytes()) <= 4 * 2**20


def test_the_shipped_images_are_a_hundred_of_ten_classes():
    data = load_file(str(ASSETS / "digits_test.safetensors"))
    images, labels = data["images"], data["labels"]
    assert images.shape[-2:] == (28, 28) and len(images) == len(labels) >= 100
    assert torch.bincount(labels.long(), minlength=10).tolist() == [len(labels) // 10] * 10


@pytest.mark.parametrize("name", ["digits", "classifier", "digits_test"])
def test_assets_say_where_they_come_from(name):
    with safe_open(str(ASSETS / f"{name}.safetensors"), framework="pt") as file:
        described = bool(file.metadata())
    texts = [f.read_text() for f in ASSETS.iterdir() if f.name.endswith((".md", ".txt", ".json"))]
    assert described or any(f"{name}.safetensors" in text for text in texts)


def shipped_images():
    data = load_file(str(ASSETS / "digits_test.safetensors"))
    images = data["images"].float()
    if data["images"].dtype == torch.uint8:
        images = images / 127.5 - 1.0
    return images.reshape(-1, 1, 28, 28), data["labels"].long()


def test_the_classifier_knows_the_shipped_images():
    images, labels = shipped_images()
    assert float(images.min()) >= -1.0 and float(images.max()) <= 1.0
    right = load_digits_classifier()(images).argmax(1) == labels
    assert float(right.float().mean()) >= 0.99


def test_samples_are_recognised(generator):
    labels = torch.arange(100) % 10
    noise = torch.randn(100, 1, 28, 28, generator=generator)
    images = sample(digits(labels, guidance=2.0), noise, GRID, "ddim").x
    right = load_digits_classifier()(images).argmax(1) == labels
    assert int(right.sum()) >= 97


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-4), (torch.bfloat16, 0.3), (torch.float16, 0.05)])
def test_every_dtype_predicts_much_the_same(x, dtype, tolerance):
    reference = digits(3, 2.0).epsilon(x, 1.0)
    other = digits(3, 2.0, dtype=dtype)
    found = other.epsilon(x, 1.0)
    assert found.dtype == dtype and other.dtype == dtype
    assert 0.0 < float((found.double() - reference.double()).abs().max()) < tolerance


def test_predictions_are_deterministic(x):
    assert torch.equal(digits(3, 2.0).epsilon(x, 1.0), digits(3, 2.0).epsilon(x, 1.0))


def test_the_default_predictor_has_no_class(x):
    network = load_digits_network()
    t = torch.tensor([500.0, 500.0])
    expected = network(x, t, torch.tensor([10, 10]))
    level = float(Schedule.linear().sigma_bar(500.0))
    assert torch.allclose(digits().epsilon(x, level), expected, rtol=1e-5, atol=1e-6)


def test_guidance_extrapolates_between_no_class_and_the_class(x):
    null, label = digits().epsilon(x, 1.0), digits(7).epsilon(x, 1.0)
    assert float((null - label).abs().max()) > 1e-3
    assert torch.allclose(digits(7, 3.0).epsilon(x, 1.0), null + 3.0 * (label - null), rtol=0.0, atol=1e-4)


def test_labels_and_scales_per_sample(x):
    both = digits(torch.tensor([1, 8]), torch.tensor([1.0, 3.0])).epsilon(x, 1.0)
    assert torch.allclose(both[:1], digits(1, 1.0).epsilon(x[:1], 1.0), rtol=0.0, atol=1e-4)
    assert torch.allclose(both[1:], digits(8, 3.0).epsilon(x[1:], 1.0), rtol=0.0, atol=1e-4)


def test_samples_of_a_batch_do_not_know_of_each_other(x):
    together = digits(torch.tensor([1, 8]), 2.0).epsilon(x, 1.0)
    alone = digits(8, 2.0).epsilon(x[1:], 1.0)
    assert torch.allclose(together[1:], alone, rtol=0.0, atol=1e-5)


def test_time_is_continuous(x):
    predictor = digits(3, dtype=torch.float64)
    x = x.double()
    levels = Schedule.linear().sigma_bar([500.0, 500.001, 500.5])
    a, b, c = (predictor.epsilon(x, float(s)) for s in levels)
    assert 0.0 < float((a - b).abs().max()) < 0.02 * float((a - c).abs().max())


def test_pure_noise_is_predicted_as_noise(x):
    found = digits(dtype=torch.float64).epsilon(x.double(), float(Schedule.linear().sigma_bar(999.0)))
    assert float((found - x).pow(2).mean()) < 0.01


@pytest.mark.parametrize("label", [-1, 10, [3, 11], 3.7, "three"])
def test_labels_are_digits(label):
    with pytest.raises((TypeError, ValueError), match="label must be"):
        digits(torch.tensor(label) if isinstance(label, list) else label)


def test_a_real_round_trip_in_float64(x):
    grid = Grid.from_schedule(Schedule.linear(), 8, "trailing", "zero")
    predictor = digits(torch.tensor([1, 8]), 2.0)
    out = sample(predictor, x, grid, "belm(2)", arithmetic="float64")
    back = invert(predictor, out, grid, "belm(2)")
    assert float((back.x - x).abs().max()) < 1e-6
