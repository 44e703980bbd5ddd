"""The coupled Runge-Kutta methods that the front compares with."""

import numpy as np
import pytest
import torch

import vsvf
from analysis.coupling import coupled, uncoupled
from vsvf import predictors
from vsvf.convergence.order import fit_slope


@pytest.fixture
def mixture():
    means = torch.randn(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return predictors.gaussian_mixture(means, std=0.4)


def nodes_of(steps):
    return np.geomspace(20.0, 0.1, steps + 1).tolist()


def start(level):
    x = level * torch.randn(4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return x, x.clone()


def test_with_eulers_method_it_is_the_packages_formula(mixture):
    nodes = nodes_of(12)
    grid = vsvf.Grid.from_sigma_bar(nodes[::-1])
    y, z = start(nodes[0])
    scale = float(mixture.alpha(np.array(nodes[:1]))[0])
    found = vsvf.sample(mixture, scale * y, grid, "mccallum_foster(0.999)", arithmetic="float64")
    scale = float(mixture.alpha(np.array(nodes[-1:]))[0])
    ours = coupled(mixture, (y, z), nodes, "ddim")
    assert torch.allclose(found.x / scale, ours[0], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("method", ["ddim", "heun", "rk4"])
def test_it_comes_back(mixture, method):
    nodes = nodes_of(8)
    pair = start(nodes[0])
    back = uncoupled(mixture, coupled(mixture, pair, nodes, method), nodes, method)
    for before, after in zip(pair, back):
        assert torch.allclose(before, after, rtol=0.0, atol=1e-12)


def test_with_heuns_method_its_order_is_two(mixture):
    exact = coupled(mixture, start(20.0), nodes_of(2000), "rk4")[0]
    numbers = (200, 400, 800)
    errors = [float((coupled(mixture, start(20.0), nodes_of(n), "heun")[0] - exact).abs().max()) for n in numbers]
    assert fit_slope(numbers, errors, floor=1e-12)[0] == pytest.approx(2.0, abs=0.1)
