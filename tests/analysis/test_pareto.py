"""The study of sampling against inversion errors: its reference, its errors, its tables."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vsvf import formulas, predictors
from vsvf.schedule import Schedule

pareto = pytest.importorskip("analysis.pareto", reason="run from the repository")

TINY = pareto.Settings((10, 20), ("exact", "ddim"), ("DDPM",), (3,), (5,))
METHODS = ("ddim", "edict(0.93)", "belm(2)", "stable_belm(3)")


def gaussian(std: float) -> predictors.Predictor:
    return predictors.gaussian_mixture(torch.zeros(1, 1, 2, 2, dtype=torch.float64), std, schedule=Schedule.linear())


def test_the_trajectory_is_the_exact_solution_of_gaussian_data() -> None:
    grid = pareto.make_grid("DDPM", 20)
    predictor = gaussian(0.5)
    noise = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    path = pareto.trajectory(predictor, noise, grid.sigma_bar)
    scale = predictor.alpha(grid.sigma_bar) * np.hypot(0.5, grid.sigma_bar)
    for level, size in zip(grid.sigma_bar, scale):
        np.testing.assert_allclose(path[float(level)].numpy(), size / scale[-1], rtol=1e-6)


def test_errors_of_a_march_on_gaussian_data_are_those_of_its_linear_recursion() -> None:
    """In one dimension the error is that of the recursion of numbers, and inversion is relative to sigma_N."""
    grid, std = pareto.make_grid("Stable Diffusion", 20), 0.5
    predictor = gaussian(std)
    scale = predictor.alpha(grid.sigma_bar) * np.hypot(std, grid.sigma_bar)
    path = {float(s): torch.full((1, 1, 2, 2), float(v), dtype=torch.float64) for s, v in zip(grid.sigma_bar, scale)}
    found = pareto.march_errors(predictor, path, grid, "ddim")
    x, y = np.hypot(std, grid.sigma_bar[-1]), np.hypot(std, grid.sigma_bar[0])
    rate = grid.sigma_bar / (std**2 + grid.sigma_bar**2)
    for i in range(20, 0, -1):
        x -= grid.h[i - 1] * rate[i] * x
    for i in range(20):
        y += grid.h[i] * rate[i] * y
    sampling = abs(x - np.hypot(std, grid.sigma_bar[0])) * predictor.alpha(grid.sigma_bar[0])
    inversion = abs(y - np.hypot(std, grid.sigma_bar[-1])) / grid.sigma_bar[-1]
    np.testing.assert_allclose(found.rms, (sampling, inversion), rtol=1e-9)


def test_overflow_is_an_infinite_error() -> None:
    grid = pareto.make_grid("DDPM", 400)
    path = {float(s): torch.ones(1, 1, 2, 2, dtype=torch.float64) for s in grid.sigma_bar}
    assert pareto.march_errors(gaussian(0.5), path, grid, "belm(3)").rms == (np.inf, np.inf)


def test_which_methods_need_a_starter() -> None:
    needs = {name: pareto.needs_starter(name) for name in (*pareto.METHODS, *pareto.FAMILY)}
    assert [name for name, needed in needs.items() if not needed] == ["ddim", "edict(0.93)", "mccallum_foster(0.999)"]


def test_ideal_denoiser_starters_decide_inversion_and_stable_members_invert_better() -> None:
    found = pareto.study("ideal denoiser", TINY, METHODS)
    exact, made = (found["DDPM", 20, starter, "stable_belm(3)"] for starter in ("exact", "ddim"))
    assert made.rms[1] > 3.0 * exact.rms[1]
    assert exact.rms[1] < 0.5 * found["DDPM", 20, "exact", "belm(2)"].rms[1]
    assert ("DDPM", 20, "ddim", "ddim") not in found


def test_tables_and_figures(tmp_path: Path) -> None:
    pareto.main(tmp_path, replace(TINY, steps=(10,)), TINY, METHODS)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"pareto_errors.csv", "pareto_target.csv", "pareto_front.svg", "pareto_starters.svg", "pareto.json"} <= names
    rows = list(csv.DictReader((tmp_path / "pareto_errors.csv").open()))
    assert {row["predictor"] for row in rows} == {"ideal denoiser", "digits network"}
    assert {row["starter"] for row in rows if row["method"] == "edict(0.93)"} == {"none"}
    target = list(csv.DictReader((tmp_path / "pareto_target.csv").open()))
    assert {row["method"] for row in target} == {"ddim", "edict(0.93)", "stable_belm(3)"}


def test_the_lowest_steps_make_the_inversion_error_at_n_20(tmp_path: Path) -> None:
    settings, paths = replace(TINY, steps=(20,)), {}
    pareto.study("digits network", settings, (), paths)
    pareto.late_starts(tmp_path, settings, paths)
    rows = list(csv.DictReader((tmp_path / "pareto_late_starts.csv").open()))
    for row in rows:
        if row["method"] in ("belm(2)", "stable_belm(3)"):
            assert float(row["exact from node, 1"]) < 0.8 * float(row["exact from node, 0"])


# ---- the digits network, guidance 2, exact starters ----------------------------------------------------------


def test_five_steps_at_n_50_invert_much_better_than_o_belm_and_sample_as_well() -> None:
    settings = pareto.Settings((50,), ("exact",), ("DDPM",), (1,), (4,))
    member = "k=5: 1/3, 5/6; 0.85"
    found = pareto.study("digits network", settings, ("belm(2)", member))
    own, base = (found["DDPM", 50, "exact", name].rms for name in (member, "belm(2)"))
    assert own[0] < 1.2 * base[0] and own[1] < base[1] / 5.0


@pytest.mark.parametrize("schedule", ["DDPM", "Stable Diffusion"])
def test_three_steps_in_coordinates_invert_much_better_at_n_20_and_sample_as_well(schedule: str) -> None:
    settings = pareto.Settings((20,), ("exact",), (schedule,), (2, 7), (4,))
    member = pareto.OTHERS[0]
    found = pareto.study("digits network", settings, ("belm(2)", member))
    own, base = (found[schedule, 20, "exact", name].rms for name in (member, "belm(2)"))
    assert own[0] < 1.3 * base[0] and own[1] < base[1] / 4.0


def test_a_member_beside_the_defaults_has_a_name() -> None:
    assert pareto.formula_of("k=3: 7/8; 1").steps == 3
    assert pareto.formula_of("stable_belm(4)").name == formulas.stable_belm(4).name


def test_members_by_their_roots() -> None:
    same = pareto.formula_of("k=2: 1; 2").plan(pareto.make_grid("DDPM", 20))
    belm = formulas.belm(2).plan(pareto.make_grid("DDPM", 20))  # which is the member with root -1 and exponent 2
    np.testing.assert_allclose(same.a, belm.a, rtol=1e-12)
    np.testing.assert_allclose(same.c, belm.c, rtol=1e-12)
    five, named = (pareto.formula_of(m).plan(pareto.make_grid("DDPM", 20)) for m in ("k=5: 1/3, 5/6; 0.75", "stable_belm(5)"))
    np.testing.assert_allclose(five.a, named.a, rtol=1e-10)
    damped = pareto.formula_of("k=3: 1/2; 0; modulus 0.9").plan(pareto.make_grid("DDPM", 20))
    np.testing.assert_allclose(damped.a[:, -1], 0.81, rtol=1e-12)  # the product of the roots
    coarse = pareto.formula_of("k=3: 17/20; 1.65; slopes 3; modes 1.4")
    named = formulas.root_placed_belm(np.exp([0.85j * np.pi, -0.85j * np.pi]), 1.65, 1.4, 3)
    np.testing.assert_allclose(*(f.plan(pareto.make_grid("DDPM", 20)).c for f in (coarse, named)), rtol=1e-12, atol=1e-15)
    with pytest.raises(ValueError, match="needs 4 - 1 roots, these are 2"):
        pareto.formula_of("k=4: 1/2; 1")
    with pytest.raises(ValueError, match="'mode' is not known"):
        pareto.formula_of("k=3: 1/2; 1; mode 2")
