"""The bound of docs/stability.md holds on every grid, and is sharp enough to mean something."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsvf.formulas import root_placed_belm
from vsvf.formulas.root_placed import roots_at
from vsvf.grid import Grid
from vsvf.stability.bound import amplification_bound, mode_constant
from vsvf.stability.grids import GridFamily, families, random_smooth
from vsvf.stability.growth import log_amplification

MEMBERS = [  # angles, exponent, mode_rho
    ((1.0,), 2.0, 1.0),
    ((1.0,), 1.0, 1.0),
    ((2 / 3,), 1.0, 1.0),
    ((5 / 6,), 1.0, 1.0),
    ((17 / 20,), 1.65, 1.4),
    ((1 / 3, 1.0), 1.0, 1.0),
    ((1 / 3, 1.0), 0.75, 3.0),
    ((1 / 3, 5 / 6), 0.75, 1.0),
    ((1 / 6, 5 / 12, 1.0), 0.75, 1.0),
]
GRIDS = families() | {f"random {seed}": random_smooth(seed) for seed in (2, 3, 4)}


def measured(roots: np.ndarray, exponent: float, grid: Grid, mode_rho: float = 1.0) -> np.ndarray:
    plan = root_placed_belm(roots, exponent, mode_rho).plan(grid)
    return np.exp([log_amplification(plan.a), log_amplification(plan.inverse().a)])


@pytest.mark.parametrize("family", GRIDS.values(), ids=GRIDS.keys())
@pytest.mark.parametrize("angles, exponent, rho", MEMBERS)
def test_measured_k_is_below_the_bound_and_within_a_factor_of_60(
    angles: tuple, exponent: float, rho: float, family: GridFamily
) -> None:
    for steps in (20, 100, 400, 1000):
        grid = family(steps)
        bound = np.array(amplification_bound(roots_at(angles), exponent, grid, rho))
        k = measured(roots_at(angles), exponent, grid, rho)
        assert np.all(k <= bound)
        assert np.all(bound <= 60.0 * k)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.floats(0.01, 10.0), min_size=6, max_size=40),
    angles=st.lists(st.integers(2, 23), min_size=1, max_size=2, unique=True),
    minus_one=st.booleans(),
    exponent=st.floats(-1.0, 3.0),
    rho=st.floats(1.0, 4.0),
)
def test_the_bound_holds_on_rough_grids_too(steps: list, angles: list, minus_one: bool, exponent: float, rho: float) -> None:
    roots = roots_at([m / 24 for m in angles] + ([1.0] if minus_one else []))
    grid = Grid.from_sigma_bar(np.cumsum([0.1, *steps]))
    bound = np.array(amplification_bound(roots, exponent, grid, rho))
    assert np.all(measured(roots, exponent, grid, rho) <= bound * (1 + 1e-9))


def test_damped_roots_are_bounded_for_sampling_only() -> None:
    roots = roots_at((1 / 3, 1.0), 0.5)
    for family in GRIDS.values():
        sampling, inversion = amplification_bound(roots, 1.0, family(100))
        k = measured(roots, 1.0, family(100))
        assert k[0] <= sampling and inversion == np.inf
        assert k[1] > 1e20


def test_the_constant_of_a_single_root() -> None:
    assert mode_constant([-1.0]) == 0.5
    np.testing.assert_allclose(amplification_bound([-1.0], 0.0, Grid.from_sigma_bar(np.arange(10.0))), (3.0, 3.0))
    assert amplification_bound(roots_at((0.5, 1.0)), 1.0, Grid.from_sigma_bar(np.arange(4.0))) == (1.0, 1.0)
