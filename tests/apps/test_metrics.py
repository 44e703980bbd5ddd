import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from vsvf.apps.metrics import closeness, mse


def ssim_by_hand(a, b):
    """Wang et al. 2004, equation (13), with a Gaussian window of 11 pixels, the picture mirrored at its edges."""

    def blur(x):
        return gaussian_filter(x, 1.5, radius=5, mode="mirror")

    c1, c2 = (0.01 * 2.0) ** 2, (0.03 * 2.0) ** 2
    m, n = blur(a), blur(b)
    va, vb, cov = blur(a * a) - m * m, blur(b * b) - n * n, blur(a * b) - m * n
    return float(np.mean((2 * m * n + c1) * (2 * cov + c2) / ((m * m + n * n + c1) * (va + vb + c2))))


@pytest.fixture
def pair(generator):
    a = torch.rand(3, 1, 28, 30, generator=generator, dtype=torch.float64) * 2 - 1
    return a, (a + 0.3 * torch.randn(a.shape, generator=generator, dtype=torch.float64)).clamp(-1, 1)


def test_ssim_psnr_and_mse_against_their_definitions(pair):
    a, b = pair
    found = closeness(b, a)
    for n in range(3):
        difference = (b[n] - a[n]).numpy()
        assert found.mse[n] == pytest.approx(float(np.mean(difference**2)), rel=1e-12)
        assert found.psnr[n] == pytest.approx(20 * math.log10(2 / math.sqrt(np.mean(difference**2))), rel=1e-12)
        assert found.ssim[n] == pytest.approx(ssim_by_hand(b[n, 0].numpy(), a[n, 0].numpy()), abs=1e-6)


def test_equal_pictures(pair):
    found = closeness(pair[0], pair[0])
    assert found.mse == [0.0] * 3 and found.psnr == [math.inf] * 3 and found.ssim == pytest.approx([1.0] * 3)


def test_mse_is_of_the_values_as_they_are_and_psnr_of_what_a_file_holds(pair):
    a = torch.ones(1, 1, 16, 16)
    found = closeness(3.0 * a, a)
    assert found.mse == [4.0] and found.psnr == [math.inf]


def test_what_is_not_a_number_is_infinitely_far(pair):
    lost = torch.full((2, 1, 16, 16), math.nan)
    assert mse(lost, torch.zeros_like(lost)) == [math.inf] * 2
    assert closeness(lost, torch.zeros_like(lost)).mse == [math.inf] * 2


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="at least 11 pixels"):
        closeness(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="one shape"):
        closeness(torch.zeros(1, 1, 16, 16), torch.zeros(2, 1, 16, 16))
