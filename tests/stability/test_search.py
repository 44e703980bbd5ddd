"""The search reproduces the recommended members, and its numbers are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from vsvf import formulas
from vsvf.formulas.root_placed import STABLE, roots_at
from vsvf.stability.search import TASKS, grids_of, score, search


@pytest.mark.parametrize("k", [2, 3, 4, 5, 6])
def test_the_recommended_members_are_the_best_that_the_search_finds(k: int) -> None:
    best = search(k)[0]
    assert (best.angles, best.exponent, best.slope_rho) == STABLE[k]
    grid = grids_of(TASKS[k])[0]
    own, stable = best.formula.plan(grid), formulas.stable_belm(k).plan(grid)
    np.testing.assert_array_equal(own.a, stable.a)
    np.testing.assert_array_equal(own.c, stable.c)
    assert best.score.feasible(TASKS[k]) and best.score.objective == best.score.sampling * best.score.inversion


def test_o_belm_scores_one_against_itself() -> None:
    found = score(formulas.belm(2), grids_of(TASKS[2]))
    assert found.sampling == found.inversion == 1.0
    assert not found.feasible(TASKS[2])  # K along inversion is 2.4e5


def test_more_than_two_slopes_in_a_coordinate_react_more() -> None:
    """Why it is searched for k = 3 only, with the figures of docs/stability.md."""
    angles, exponent, _ = STABLE[4]
    members = [formulas.root_placed_belm(roots_at(angles), exponent, slope_rho=rho) for rho in (1, 2, 3)]
    assert [round(score(member, grids_of(TASKS[4])).reaction, 1) for member in members] == [18.8, 23.8, 26.7]
    found = score(formulas.root_placed_belm(roots_at((17 / 20,)), 1.65, 1.4, 3), grids_of(TASKS[3]))
    assert (round(found.sampling, 1), round(found.k_sampling), round(found.reaction)) == (2.3, 60, 98)


def test_other_numbers_of_steps_need_a_task() -> None:
    with pytest.raises(ValueError, match="from 2 to 6"):
        search(7)
