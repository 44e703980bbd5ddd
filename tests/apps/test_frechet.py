import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torchmetrics.image.fid import FrechetInceptionDistance

from vsvf.apps.features import Features, digits_features, features_by_name
from vsvf.apps.frechet import Moments, distance, frechet, jackknife, merged


def vectors(seed, n, d=5, shift=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(d, d))
    return shift + scale * rng.normal(size=(n, d)) @ mix


def test_moments_are_numpys():
    x = vectors(0, 40)
    found = Moments.of(x)
    assert np.allclose(found.mean, x.mean(0), rtol=1e-13)
    assert np.allclose(found.covariance, np.cov(x, rowvar=False), rtol=1e-12)


def test_merging_blocks_is_the_whole():
    x = vectors(1, 41, shift=1e3)
    whole, parts = Moments.of(x), merged([Moments.of(block) for block in np.array_split(x, 7)])
    assert parts.n == 41
    assert np.allclose(parts.mean, whole.mean, rtol=1e-14) and np.allclose(parts.scatter, whole.scatter, rtol=1e-9)


def test_gaussians_on_a_line_have_a_closed_form():
    """(mu_1 - mu_2)^2 + (sigma_1 - sigma_2)^2."""
    first = Moments(3, np.array([1.0]), np.array([[2.0 * 9.0]]))
    second = Moments(3, np.array([-1.0]), np.array([[2.0 * 4.0]]))
    assert frechet(first, second) == pytest.approx(4.0 + 1.0, rel=1e-14)


def test_the_formula_with_a_matrix_square_root():
    a, b = Moments.of(vectors(2, 60)), Moments.of(vectors(3, 70, shift=0.5, scale=1.3))
    cross = sqrtm(a.covariance @ b.covariance).real
    expected = np.square(a.mean - b.mean).sum() + np.trace(a.covariance + b.covariance - 2 * cross)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-10)


def test_the_same_as_torchmetrics():
    class Double(torch.nn.Module):
        num_features = 5

        def forward(self, x):
            return x.double().flatten(1)

    one, two = vectors(4, 80), vectors(5, 90, shift=0.2)
    theirs = FrechetInceptionDistance(feature=Double(), input_img_size=(1, 1, 5))
    theirs.set_dtype(torch.float64)
    theirs.update(torch.from_numpy(one)[:, None, None], real=True)
    theirs.update(torch.from_numpy(two)[:, None, None], real=False)
    assert frechet(Moments.of(one), Moments.of(two)) == pytest.approx(float(theirs.compute()), rel=1e-9)


@pytest.mark.parametrize("n", [200, 20])
def test_the_distance_to_itself_is_zero_even_where_the_covariance_is_singular(n):
    x = vectors(6, n, d=64, scale=10.0)
    assert frechet(Moments.of(x), Moments.of(x)) < 1e-6


def test_the_error_bar_is_the_spread_over_fresh_seeds():
    reference = Moments.of(vectors(7, 100_000))
    values, errors = [], []
    for seed in range(60):
        found = distance(vectors(100 + seed, 1000, shift=0.3), reference)
        values.append(found.value)
        errors.append(found.error)
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.3)
    assert jackknife(np.array([1.0, 1.0, 1.0])) == 0.0


def test_moments_survive_their_files(tmp_path):
    found = Moments.of(vectors(8, 30), "some features")
    found.save(tmp_path / "m.safetensors")
    again = Moments.load(tmp_path / "m.safetensors")
    assert again.n == 30 and again.features == "some features"
    assert np.array_equal(again.mean, found.mean) and np.array_equal(again.scatter, found.scatter)
    np.savez(tmp_path / "m.npz", mu=found.mean, sigma=found.covariance)
    other = Moments.load(tmp_path / "m.npz")
    assert frechet(found, other) < 1e-10
    (tmp_path / "x.safetensors").write_bytes(b"x")
    np.savez(tmp_path / "x.npz", a=found.mean)
    for name in ("x.safetensors", "x.npz"):
        with pytest.raises(ValueError, match="holds no mean and covariance"):
            Moments.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Moments.load(tmp_path / "none.npz")


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="length 5 and 4"):
        frechet(Moments.of(vectors(0, 10)), Moments.of(vectors(0, 10, d=4)))
    with pytest.raises(ValueError, match="different features"):
        frechet(Moments.of(vectors(0, 10), "a"), Moments.of(vectors(0, 10), "b"))
    with pytest.raises(ValueError, match="too few"):
        distance(vectors(0, 19), Moments.of(vectors(1, 30)))
    with pytest.raises(ValueError, match="at least 2 pictures"):
        frechet(Moments.of(vectors(0, 1)), Moments.of(vectors(1, 30)))


# ---- features --------------------------------------------------------------------------------------------------


def test_the_classifiers_features_are_what_it_classifies_by(generator):
    from vsvf.apps.classifier import load_digits_classifier

    network = load_digits_classifier()
    pictures = torch.rand(4, 1, 28, 28, generator=generator) * 2 - 1
    logits = network.linear(network.maps(pictures).flatten(1))
    assert torch.equal(logits, network(pictures))
    found = digits_features().of([pictures[:3], pictures[3:]])
    assert found.shape == (4, 64) and found.dtype == np.float64
    assert np.allclose(found, network.maps(pictures).mean(dim=(2, 3)).numpy(), atol=1e-6)


def test_only_inception_is_called_fid(tmp_path):
    assert digits_features().title == "Fréchet distance (digits-classifier features)"
    assert Features("Inception 1234", lambda x: x, inception=True).title == "FID"
    with pytest.raises(ValueError, match="is not known"):
        features_by_name("resnet")
    with pytest.raises(FileNotFoundError, match="no such file"):
        features_by_name(f"inception:{tmp_path / 'none.pth'}")


def test_inception_of_a_local_file(tmp_path, generator):
    try:
        from torch_fidelity import feature_extractor_inceptionv3 as fidelity
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision built for another torch
        pytest.skip(f"torch-fidelity: {error}")
    torch.save([torch.zeros(3)], tmp_path / "other.pth")
    with pytest.raises(ValueError, match="holds no weights of FID's Inception network"):
        features_by_name(f"inception:{tmp_path / 'other.pth'}")
    torch.save({"fc": Moments}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="holds no weights of FID's Inception network"):
        features_by_name(f"inception:{tmp_path / 'code.pth'}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = fidelity.FeatureExtractorInceptionV3("random", ["2048"])
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    pictures = torch.rand(3, 1, 28, 28, generator=generator) * 2 - 1
    features = features_by_name(f"inception:{tmp_path / 'inception.pth'}")
    assert features.title == "FID" and features.inception
    found = features.of([pictures[:2], pictures[2:]])
    levels = ((pictures + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)
    assert found.shape == (3, 2048) and np.allclose(found, network(levels)[0].numpy(), rtol=1e-3, atol=1e-5)
    assert np.ptp(found, axis=0).max() > 0


def test_a_module_that_returns_no_vectors_is_named():
    with pytest.raises(ValueError, match=r"maps must return \(B, d\)"):
        Features("maps", lambda x: x).of([torch.zeros(2, 1, 4, 4)])
