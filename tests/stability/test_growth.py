"""Products of companion matrices: against brute force, the volume law, and beyond the range of float64."""

from __future__ import annotations

import numpy as np
import pytest

from vsvf import formulas
from vsvf.grid import Grid
from vsvf.plan import Plan
from vsvf.stability.grids import families, random_smooth
from vsvf.stability.growth import homogeneous_rows, log_amplification, log_mode_growth, log_volume, response


def companions(rows: np.ndarray) -> list[np.ndarray]:
    k = rows.shape[1]
    matrices = []
    for row in rows:
        matrix = np.eye(k, k=-1, dtype=rows.dtype)
        matrix[0] = row
        matrices.append(matrix)
    return matrices


def brute_force(rows: np.ndarray) -> float:
    """max over windows of the inf-norm of the product, by N^2/2 matrix products."""
    matrices, largest = companions(rows), 1.0
    for n in range(len(matrices)):
        product = np.eye(rows.shape[1], dtype=rows.dtype)
        for matrix in matrices[n:]:
            product = matrix @ product
            largest = max(largest, np.abs(product).sum(axis=1).max())
    return largest


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", ["real", "complex"])
def test_k_is_the_largest_norm_over_all_windows(k: int, kind: str) -> None:
    rng = np.random.default_rng(k)
    rows = rng.normal(size=(30, k)) * 0.9
    if kind == "complex":
        rows = rows + 0.5j * rng.normal(size=(30, k))
    np.testing.assert_allclose(np.exp(log_amplification(rows)), brute_force(rows), rtol=1e-12)


@pytest.mark.parametrize("name", ["belm(2)", "belm(3)", "bdia(0.5)", "edict(0.93)", "mccallum_foster(0.9)", "stable_belm(5)"])
def test_k_of_methods_is_the_largest_norm_over_all_windows(name: str) -> None:
    plan = formulas.by_name(name).plan(random_smooth(3)(14))
    for rows in (plan.a, plan.inverse().a):
        np.testing.assert_allclose(np.exp(log_amplification(rows)), brute_force(rows), rtol=1e-12)


def test_k_beyond_the_range_of_float64() -> None:
    rows = np.tile([[-8.0, 9.0]], (3000, 1))  # increments grow like (-9)^n
    increments = 3000 * np.log(9.0)
    assert abs(log_amplification(rows) - increments) < 1.0
    np.testing.assert_allclose(log_mode_growth(rows), [increments])
    falling = np.tile([[1.5, -0.5]], (3000, 1))  # (1/2)^n: a sum of increments stays below 3
    np.testing.assert_allclose(log_amplification(falling), np.log(3.0), rtol=1e-12)


@pytest.mark.parametrize("name", [m for m in formulas.METHODS if m != "ddim"])
def test_volume_law_the_growths_of_all_modes_multiply_to_the_product_of_a_k(name: str) -> None:
    for family in families().values():
        rows = formulas.by_name(name).plan(family(60)).a
        growth, volume = log_mode_growth(rows), log_volume(rows)
        assert growth.shape == (rows.shape[1] - 1,)
        if np.isneginf(volume):
            assert np.isneginf(growth).any()
        elif rows.shape[1] > 1:
            np.testing.assert_allclose(growth.sum(), volume, rtol=1e-10, atol=1e-10)


def test_modes_of_root_placed_formulas_grow_as_their_closed_form_says() -> None:
    grid = random_smooth(2)(400)
    growth = log_mode_growth(formulas.stable_belm(4).plan(grid).a)  # zeta^n h^1, |zeta| = 1
    expected = np.log(grid.h[0] / grid.h[-1])
    np.testing.assert_allclose(growth, expected, atol=1.5)
    damped = formulas.root_placed_belm([-0.5], 2.0).plan(grid)
    expected = 2.0 * np.log(grid.h[0] / grid.h[-1]) + damped.rows * np.log(0.5)
    np.testing.assert_allclose(log_mode_growth(damped.a), [expected], rtol=1e-12)


@pytest.mark.parametrize("name", ["belm(2)", "stable_belm(4)", "edict(0.93)", "adams_moulton(2)"])
def test_response_is_the_derivative_of_the_final_state(name: str) -> None:
    plan = formulas.by_name(name).plan(Grid.from_sigma_bar(np.geomspace(0.1, 10.0, 9)))
    rows = homogeneous_rows(plan, 0.3 + 0.1 * plan.node)
    k, last = plan.steps, plan.rows + plan.last

    def march(bump: int) -> float:
        z = list(np.ones(k))
        for m in range(plan.rows):
            z.append(float(rows[m] @ np.array(z[: -k - 1 : -1])) + (1.0 if m == bump else 0.0))
        return z[last]

    expected = [march(m) - march(-1) for m in range(plan.rows)]
    np.testing.assert_allclose(response(rows, last), expected, rtol=1e-10, atol=1e-10)


def test_homogeneous_rows_reproduce_a_linear_march() -> None:
    plan: Plan = formulas.adams_moulton(2).plan(Grid.from_sigma_bar(np.linspace(0.1, 2.0, 8)))
    slope = np.stack([0.5 * np.ones_like(plan.node), plan.node], axis=-1)
    rows = homogeneous_rows(plan, slope)
    z_old, z_mid = 1.3, 0.7
    for problem in range(2):
        z_new = rows[0, 0, problem] * z_mid + rows[0, 1, problem] * z_old
        eps = [slope[2, problem] * z_new, slope[1, problem] * z_mid, slope[0, problem] * z_old]
        np.testing.assert_allclose(z_new, plan.a[0] @ [z_mid, z_old] + plan.c[0] @ eps, rtol=1e-14)
    with pytest.raises(ValueError, match="slope"):
        homogeneous_rows(plan, np.ones(3))
