"""Corrector rows: their conditions in 50 digits, the plan, the way back, every bit, and what the row is for."""

from __future__ import annotations

from importlib import resources

import mpmath as mp
import numpy as np
import pytest
import strategies as own
import torch
from safetensors.torch import load

from vsvf import Grid, Schedule, formulas, integrate, invert, sample
from vsvf.predictors import ideal_denoiser

NAME = "corrected(stable_belm(3), 0.7, 4)"
POWERS = (0.0, 1.0, 1.5, 2.0)
GRID = Grid.from_schedule(Schedule.scaled_linear(), 12, "leading", "smallest")


@pytest.mark.parametrize(("main", "p", "mix"), [("stable_belm(3)", 0.7, 4.0), ("stable_belm(4)", 0.6, 2.0), ("bdia(1)", 0.4, 0.5)])
def test_the_row_solves_its_conditions(main, p, mix):
    formula = formulas.corrected(formulas.by_name(main), p, mix)
    k = formula.steps
    a, c = formula.correction(GRID.sigma_bar[:k])
    with mp.workdps(50):
        s, power = [mp.mpf(float(v)) for v in GRID.sigma_bar[:k]], mp.mpf(p)
        matrix, right = [], []
        for q in (power, *[mp.mpf(v) for v in POWERS[: k - 1]]):  # exact on sigma_bar^q
            matrix.append([*[v**q for v in s], *[q * v ** (q - 1) for v in s[:-1]]])
            right.append(s[0] ** q)
        given = [mp.mpf(0)] * k
        given[-2:] = 1 - mp.mpf(mix), mp.mpf(mix)
        for j in range(k - 1):  # the state's weight in z is a_j + p c_j / s_j, and given; the last follows from sigma_bar^p
            row = [mp.mpf(0)] * (2 * k - 1)
            row[j], row[k + j] = mp.mpf(1), power / s[j]
            matrix.append(row)
            right.append(given[j] * (s[0] / s[j]) ** power)
        exact = [float(v) for v in mp.lu_solve(mp.matrix(matrix), mp.matrix(right))]
    np.testing.assert_allclose(np.r_[a, c], exact, rtol=0.0, atol=1e-13 * np.abs(exact).max())
    assert a[-1] == pytest.approx(mix * float(s[0] / s[-1]) ** p, rel=1e-12)


def test_the_plan_is_the_main_one_and_a_row_that_stays():
    main, plan = formulas.stable_belm(3).plan(GRID), formulas.by_name(NAME).plan(GRID)
    assert plan.rows == main.rows + 1 and plan.bidirectionally_explicit
    np.testing.assert_array_equal(plan.a[:-1], main.a)
    np.testing.assert_array_equal(plan.c[:-1], main.c)
    assert plan.index[-3:].tolist() == [1, 0, 0] and plan.position[-2] == plan.position[-1] == GRID.sigma_bar[0]
    assert (plan.first, plan.last, plan.rows_per_step) == (0, 2, 1)


def test_one_evaluation_more_and_the_image_is_the_corrected_state():
    x = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).reshape(2, 3)
    plain, out = (sample(own.tanh_network(), x, GRID, name) for name in ("stable_belm(3)", NAME))
    assert out.nfe == plain.nfe + 1 == GRID.steps + 1
    assert torch.equal(out.values[1], plain.x) and not torch.equal(out.x, plain.x)
    assert out.record.node == 0
    back = invert(own.tanh_network(), out, GRID, NAME)
    assert torch.allclose(back.x, x, rtol=0.0, atol=1e-11)


def test_a_march_may_stop_before_the_correction_and_go_on():
    x = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).reshape(2, 3)
    whole = sample(own.tanh_network(), x, GRID, NAME)
    part = sample(own.tanh_network(), x, GRID, NAME, stop=1)
    assert part.record.node == 1
    assert torch.allclose(sample(own.tanh_network(), part, GRID, NAME).x, whole.x, rtol=0.0, atol=1e-12)


def test_from_an_image_the_state_before_the_correction_is_a_copy():
    x = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).reshape(2, 3)
    up = invert(own.tanh_network(), x, GRID, NAME, stop=0)
    assert torch.equal(up.values[1], x) and torch.equal(up.values[2], x)
    assert invert(own.tanh_network(), x, GRID, NAME).nfe <= GRID.steps + 1


@pytest.mark.parametrize("main", ["stable_belm(3)", "belm(2)", "stable_belm(4)", "power_fitted_belm(0.7, 7/8, 2, 0.75)"])
def test_every_bit_returns(main):
    name = f"corrected({main}, 0.7, 2)"
    x = torch.randn(2, 5, generator=torch.Generator().manual_seed(4))
    network = own.counting_network(rough=True)
    there = sample(network, x, GRID, name, arithmetic="fixed")
    again = sample(network, invert(network, there, GRID, name), GRID, name)
    assert torch.equal(again.values, there.values)


def test_a_grid_that_ends_at_zero_is_refused():
    with pytest.raises(ValueError, match=r"^corrected\(stable_belm\(3\),0.7,4\): the corrector needs sigma_bar > 0"):
        formulas.by_name(NAME).plan(own.sd_grid(8))


def test_as_the_last_node_falls_to_zero_the_row_becomes_the_identity():
    formula = formulas.by_name(NAME)
    for s in (1e-3, 1e-6, 1e-9):
        a, c = formula.correction(np.array([s, 0.2, 0.3]))
        assert abs(a[0] - 1.0) < 20 * s**0.7 and np.abs(a[1:]).max() < 20 * s**0.7 and np.abs(c).max() < 20 * s**0.7


def test_it_halves_the_error_of_a_long_last_step():
    data = load((resources.files("vsvf") / "assets" / "digits_test.safetensors").read_bytes())["images"].double()[:, None]
    predictor = ideal_denoiser(data / 127.5 - 1.0, 0.05, Schedule.linear())
    grid = Grid.from_schedule(Schedule.scaled_linear(), 50, "leading", "smallest")
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    end = integrate(predictor, x, np.geomspace(grid.sigma_bar[-1], grid.sigma_bar[0], 120), "rk4")[0]
    error = [
        float((sample(predictor, x, grid, name, starter="rk4:2").x - end).pow(2).mean().sqrt())
        for name in ("stable_belm(3)", NAME, "dpm_solver_pp(2)")
    ]
    assert error[1] < 0.5 * min(error[0], error[2])


@pytest.mark.parametrize("mix", [0.0, np.nan, np.inf])
def test_a_mix_without_an_inverse_is_refused(mix):
    with pytest.raises(ValueError, match="mix must be"):
        formulas.corrected(formulas.stable_belm(3), 0.7, mix)
