"""The experiment of learning a formula: what it begins with is the family's member, and its ratios are those of marches."""

from __future__ import annotations

import pytest
import torch

import vsvf
from analysis import learned
from vsvf import formulas, predictors
from vsvf.apps.learn import Case


def test_the_family_holds_stable_belm():
    grid = vsvf.Grid.from_schedule(vsvf.Schedule.linear(), 10, "leading", "smallest")
    ours, wanted = learned.family((0.75, 1.0, 0.0)).plan(grid), formulas.stable_belm(3).plan(grid)
    assert ours.a == pytest.approx(wanted.a, rel=1e-12) and ours.c == pytest.approx(wanted.c, rel=1e-12)


def test_ratios_are_one_for_the_formula_they_are_relative_to():
    predictor = predictors.ideal_denoiser(torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1)).double(), std=0.3)
    grid = vsvf.Grid.from_schedule(vsvf.Schedule.linear(), 6, "leading", "smallest")
    noise = predictors.noise((2, 1, 4, 4), predictor, grid, generator=torch.Generator().manual_seed(2))
    here = Case(predictor, grid, learned.trajectory(predictor, noise, grid.sigma_bar))
    assert learned.ratios("belm(2)", here) == pytest.approx((1.0, 1.0))
    assert learned.ratios("stable_belm(3)", here)[1] < 0.5
