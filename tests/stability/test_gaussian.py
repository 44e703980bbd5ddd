"""Propagated truncation errors on Gaussian data: against marches, and as the warning that zero-stability cannot give."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

import vsvf
from vsvf import formulas, predictors
from vsvf.grid import Grid
from vsvf.schedule import Schedule
from vsvf.stability.gaussian import truncation_errors
from vsvf.stability.grids import uniform_time
from vsvf.stability.growth import homogeneous_rows
from vsvf.stability.report import Verdict, stability

DDPM = uniform_time(Schedule.linear())
SD = uniform_time(Schedule.scaled_linear())


def test_propagated_truncation_error_bounds_the_error_of_the_march() -> None:
    grid = DDPM(50)
    for name in ("belm(2)", "stable_belm(4)", "ddim", "edict(0.93)"):
        plan = formulas.by_name(name).plan(grid)
        stds = np.array([0.05, 0.5])
        bound, _ = truncation_errors(plan, stds)
        for n, std in enumerate(stds):
            rows = homogeneous_rows(plan, plan.node / (std**2 + plan.node**2))
            exact = np.sqrt(std**2 + plan.position**2)
            z = list(exact[: plan.steps])
            for m in range(plan.rows):
                z.append(float(rows[m] @ np.array(z[: -plan.steps - 1 : -1])))
            error = abs(z[plan.rows + plan.last] - exact[plan.rows + plan.last])
            assert 0.0 < error <= bound[n] * (1.0 + 1e-9)


def test_errors_beyond_the_range_of_float64_are_inf() -> None:
    error, reaction = truncation_errors(formulas.belm(3).plan(DDPM(1000)), np.array([0.1, 0.5]))
    assert np.all(error == np.inf) and np.all(reaction == np.inf)
    assert stability(formulas.belm(3), DDPM(1000)).gaussian_error == np.inf


def test_edict_on_coarse_grids_is_zero_stable_and_reported_as_inaccurate() -> None:
    report = stability(formulas.edict(0.93), Grid.from_schedule(Schedule.linear(), 20, "leading", "smallest"))
    assert report.zero_stable_sampling and report.k_sampling == pytest.approx(1.0)
    assert 50.0 < report.gaussian_error < 53.0 and 0.06 < report.ddim_error < 0.065
    assert report.too_coarse
    assert report.sentence.startswith(
        "sampling is zero-stable but inaccurate with these steps: where images are Gaussian with standard deviation 0.5, "
        "it is off by up to 52, DDIM by 0.063; inverting"
    )


def test_its_error_on_gaussian_data_falls_with_the_steps_and_with_shorter_schedules() -> None:
    errors = [stability(formulas.edict(0.93), DDPM(n)).gaussian_error for n in (10, 20, 50, 100, 400)]
    assert all(later < earlier for earlier, later in pairwise(errors)) and errors[-1] < 0.05
    assert stability(formulas.edict(0.93), SD(20)).gaussian_error < 0.02 * errors[1]


@pytest.mark.parametrize("schedule", [Schedule.linear(), Schedule.scaled_linear()], ids=["DDPM", "SD"])
@pytest.mark.parametrize("steps", [20, 50])
def test_recommended_methods_are_not_called_inaccurate_from_twenty_steps_on(schedule: Schedule, steps: int) -> None:
    grid = Grid.from_schedule(schedule, steps, "leading", "smallest")
    for name in ("ddim", "belm(2)", "bdia(1)", "dpm_solver_pp(2)", *(f"stable_belm({k})" for k in (2, 3, 4, 5))):
        assert not stability(formulas.by_name(name), grid).too_coarse, name


def test_a_formula_with_too_many_steps_for_the_grid_is_found() -> None:
    report = stability(formulas.stable_belm(6), DDPM(10))
    assert report.verdict is Verdict.BOTH and report.too_coarse and "inaccurate with these steps" in report.sentence


def test_unstable_formulas_are_described_by_k_instead() -> None:
    report = stability(formulas.belm(3), DDPM(20))
    assert report.gaussian_error > 1e3 and not report.too_coarse and "inaccurate" not in report.sentence


def test_what_the_figure_says_of_edict_happens_on_the_digits_network() -> None:
    """EDICT(0.93), guidance 2, DDPM: values of hundreds at N = 20; the figure tells 52. O-BELM stays in [-1, 1]."""
    predictor = predictors.digits(torch.tensor([3]), guidance=2.0)
    noise = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    grid = Grid.from_schedule(Schedule.linear(), 20, "leading", "smallest")
    largest = {}
    for name in ("edict(0.93)", "belm(2)"):
        largest[name] = float(vsvf.sample(predictor, noise, grid, formulas.by_name(name)).x.abs().max())
    assert largest["edict(0.93)"] > 20.0 and largest["belm(2)"] < 2.0
