"""The search reproduces the recommended members, and its numbers are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from vsvf import formulas
from vsvf.formulas.root_placed import STABLE
from vsvf.theory.stability_growth import homogeneous_rows
from vsvf.theory.stability_search import TASKS, Task, grids_of, score, search, truncation_errors


@pytest.mark.parametrize("k", [2, 3, 4, 5, 6])
def test_the_recommended_members_are_the_best_that_the_search_finds(k: int) -> None:
    best = search(k)[0]
    assert (best.angles, best.exponent) == STABLE[k]
    grid = grids_of(TASKS[k])[0]
    own, stable = best.formula.plan(grid), formulas.stable_belm(k).plan(grid)
    np.testing.assert_array_equal(own.a, stable.a)
    np.testing.assert_array_equal(own.c, stable.c)
    assert best.score.feasible(TASKS[k]) and best.score.objective == best.score.sampling * best.score.inversion


def test_propagated_truncation_error_bounds_the_error_of_the_march() -> None:
    grid = grids_of(Task((50,)))[1]
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


def test_o_belm_scores_one_against_itself() -> None:
    found = score(formulas.belm(2), grids_of(TASKS[2]))
    assert found.sampling == found.inversion == 1.0
    assert not found.feasible(TASKS[2])  # K along inversion is 2.4e5


def test_other_numbers_of_steps_need_a_task() -> None:
    with pytest.raises(ValueError, match="from 2 to 6"):
        search(7)
