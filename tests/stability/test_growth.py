"""Products of companion matrices: against brute force, the volume law, and beyond the range of float64."""

from __future__ import annotations

import numpy as np
import pytest

from vsvf import formulas
from vsvf.grid import Grid
from vsvf.plan import Plan
from vsvf.schedule import Schedule
from vsvf.stability.grids import families, random_smooth
from vsvf.stability.growth import homogeneous_rows, log_amplification, log_mode_growth, log_volume, power_rows, response


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


# ---- z = x_bar / sigma_bar^p with its slope frozen

POWER_FITTED = {"power_fitted_belm(0.6, 5/6, 2.25, 0.85)": 0.6, "power_fitted_belm(0.6, (1/3, 1), 1, 0.9)": 0.6}


@pytest.mark.parametrize("name", POWER_FITTED)
def test_the_modes_of_z_are_those_that_were_placed(name: str) -> None:
    p = POWER_FITTED[name]
    formula, grid = formulas.by_name(name), random_smooth(3)(40)
    rows = power_rows(formula.plan(grid), p)
    assert np.allclose(rows.sum(axis=1), 1.0, rtol=0.0, atol=1e-10)  # constants
    gamma, beta = (2.25, 0.85) if formula.steps == 3 else (1.0, 0.9)
    s = grid.sigma_bar[::-1]
    weight = np.log(s[:-1] / s[1:]) ** gamma * (s[:-1] * s[1:]) ** ((beta - p) / 2)
    for angle in (5 / 6,) if formula.steps == 3 else (1 / 3, 1.0):
        z = np.concatenate([[0.0], np.cumsum(np.exp(1j * np.pi * angle * np.arange(len(weight))) * weight)])
        windows = np.lib.stride_tricks.sliding_window_view(z, formula.steps)[:-1, ::-1]
        np.testing.assert_allclose(np.sum(rows * windows, axis=1), z[formula.steps :], rtol=0.0, atol=1e-9 * np.abs(z).max())


@pytest.mark.parametrize("name", POWER_FITTED)
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
def test_z_is_stable_both_ways_as_grids_are_refined(name: str, schedule: str) -> None:
    worst = []
    for steps in (100, 400):
        grid = Grid.from_schedule(getattr(Schedule, schedule)(), steps, "log_snr", "smallest")
        plan = formulas.by_name(name).plan(grid)
        worst.append([log_amplification(power_rows(way, POWER_FITTED[name])) for way in (plan, plan.inverse())])
    growth = np.exp(np.array(worst[1]) - np.array(worst[0]))
    assert np.all(growth < 1.3)  # four times as many steps: bounded, up to what is left of the coarser grid


def test_rows_for_z_reproduce_a_march() -> None:
    """r = 0 everywhere: z is what the homogeneous rows make of it, x_bar what the plan makes of eps_bar = p x_bar / sigma_bar."""
    p, grid = 0.7, random_smooth(2)(12)
    for name in ("belm(2)", "stable_belm(3)", "bdf(2)"):
        plan = formulas.by_name(name).plan(grid)
        rows, k = power_rows(plan, p), plan.steps
        z = list(np.random.default_rng(1).normal(size=k))
        x = [value * s**p for value, s in zip(z, plan.node)]
        for m in range(plan.rows):
            z.append(sum(rows[m, j - 1] * z[m + k - j] for j in range(1, k + 1)))
            known = sum((plan.a[m, j - 1] + plan.c[m, j] * p / plan.node[m + k - j]) * x[m + k - j] for j in range(1, k + 1))
            x.append(known / (1.0 - plan.c[m, 0] * p / plan.node[m + k]))
        np.testing.assert_allclose(np.array(z) * plan.node**p, x, rtol=1e-9)


def test_z_needs_positive_nodes() -> None:
    with pytest.raises(ValueError, match="sigma_bar > 0"):
        power_rows(formulas.belm(2).plan(Grid.from_sigma_bar([0.0, 1.0, 2.0, 3.0])), 0.5)
    with pytest.raises(ValueError, match="slopes taken there"):
        power_rows(formulas.edict(0.9).plan(Grid.from_sigma_bar([0.5, 1.0, 2.0])), 0.5)
