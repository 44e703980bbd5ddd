"""What is remembered from call to call, and the alpha that a plan was made of."""

import warnings

import numpy as np
import pytest
import torch

from vsvf import Grid, OtherAlphaWarning, Schedule, formulas, invert, sample
from vsvf.engine.arguments import compiled
from vsvf.formula import Formula
from vsvf.predictors import Predictor

NODES = np.linspace(0.1, 2.0, 9)
X = torch.full((2, 3), 0.3, dtype=torch.float64)


def test_a_pair_of_frozen_objects_is_compiled_once_and_others_are_not_taken_for_it():
    grid, formula = Grid.from_sigma_bar(NODES), formulas.by_name("belm(2)")
    plan = compiled(formula, grid)
    assert compiled(formula, grid) is plan
    other = compiled(formula, Grid.from_sigma_bar(NODES * 1.5))
    assert other.fingerprint != plan.fingerprint and compiled(formulas.by_name("bdia(0.5)"), grid).name == "bdia(0.5)"


def test_a_formula_that_can_change_is_compiled_every_time():
    class Changing(Formula):
        name, steps, order, source = "changing", 2, 1, ""
        gamma = 0.5

        def plan(self, grid):
            return formulas.bdia(self.gamma).plan(grid)

    formula, grid = Changing(), Grid.from_sigma_bar(NODES)
    before = compiled(formula, grid)
    formula.gamma = 0.25
    assert not np.array_equal(compiled(formula, grid).a, before.a)


def test_times_are_remembered_by_value_and_handed_out_as_copies():
    schedule = Schedule.linear()
    first = schedule.timestep(NODES)
    expected = first.copy()
    first[:] = 0.0
    assert np.array_equal(schedule.timestep(NODES), expected)
    assert not np.array_equal(schedule.timestep(NODES * 1.01), expected)
    assert schedule.timestep(1.0).shape == () and schedule.timestep([1.0]).shape == (1,)


@pytest.mark.parametrize("way", [sample, invert])
@pytest.mark.parametrize("schedule", [Schedule.rectified_flow, Schedule.edm])
def test_bdia_on_a_grid_of_another_alpha_warns_and_says_what_to_take(way, schedule):
    predictor = Predictor(lambda x, t: torch.tanh(x), schedule())
    with pytest.warns(OtherAlphaWarning, match="predictor.alpha"):
        way(predictor, X, Grid.from_sigma_bar(NODES), "bdia(0.5)")
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherAlphaWarning)
        way(predictor, X, Grid.from_sigma_bar(NODES, predictor.alpha(NODES)), "bdia(0.5)")
        way(predictor, X, Grid.from_sigma_bar(NODES), "belm(2)")  # its coefficients do not depend on alpha


@pytest.mark.parametrize("size", [7, 300_007])
def test_a_network_may_keep_and_change_what_it_is_given_in_every_mode(size):
    """Also through `.data` and in inference mode, where no version tells; small and large states are copied in different ways."""
    seen = []

    def spoils(x, t):
        slope = torch.tanh(x)
        seen.append(slope.clone())
        x.data.mul_(7.0)
        return slope

    grid = Grid.from_sigma_bar(NODES)
    x = torch.linspace(-1.0, 1.0, size, dtype=torch.float32)[None]
    expected = sample(Predictor(lambda x, t: torch.tanh(x), Schedule.linear()), x, grid, "stable_belm(3)").values
    assert torch.equal(sample(Predictor(spoils, Schedule.linear()), x, grid, "stable_belm(3)").values, expected)
    with torch.inference_mode():
        assert torch.equal(sample(Predictor(spoils, Schedule.linear()), x.clone(), grid, "stable_belm(3)").values, expected)
    kept = []
    sample(Predictor(lambda x, t: kept.append(x) or torch.tanh(x), Schedule.linear()), x, grid, "stable_belm(3)")
    assert all(torch.equal(torch.tanh(x), slope) for x, slope in zip(kept, seen))  # nothing was written over
