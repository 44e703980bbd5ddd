import numpy as np
import pytest
import strategies as own
from hypothesis import given
from hypothesis import strategies as st

from vsvf import Grid, Plan, formulas

GRID = Grid.from_sigma_bar(np.linspace(0.2, 1.4, 13) ** 1.5)


def random_slopes(rng, plan):
    return rng.standard_normal(plan.rows + plan.steps)


def run(plan, first, slopes):
    """All states of a plan, the slopes being given numbers."""
    z = list(first)
    for m in range(plan.rows):
        s = m + plan.steps
        newest = sum(plan.a[m, j - 1] * z[s - j] for j in range(1, plan.steps + 1))
        newest += sum(plan.c[m, j] * slopes[s - j] for j in range(plan.steps + 1))
        z.append(newest)
    return np.array(z)


@pytest.mark.parametrize("name", [n for n in own.METHODS if formulas.by_name(n).plan(GRID).backward_solvable])
def test_the_inverse_plan_satisfies_the_same_relations(name):
    plan = formulas.by_name(name).plan(Grid.from_sigma_bar(GRID.sigma_bar[:8]))
    rng = np.random.default_rng(5)
    slopes = random_slopes(rng, plan)
    z = run(plan, rng.standard_normal(plan.steps), slopes)
    w = run(plan.inverse(), z[::-1][: plan.steps], slopes[::-1])
    assert np.allclose(w[::-1], z, rtol=1e-8, atol=1e-8 * np.abs(z).max())


@given(st.sampled_from(own.BIDIRECTIONAL), st.data())
def test_the_inverse_of_the_inverse_is_the_plan(name, data):
    grid = data.draw(own.grids(min_steps=6, max_steps=8, name=name))
    plan = formulas.by_name(name).plan(grid)
    twice = plan.inverse().inverse()
    assert np.allclose(twice.a, plan.a, rtol=1e-12, atol=1e-14)
    assert np.allclose(twice.c, plan.c, rtol=1e-12, atol=1e-14)
    assert np.array_equal(twice.node, plan.node) and np.array_equal(twice.position, plan.position)
    assert (twice.first, twice.last) == (plan.first, plan.last)


@given(st.sampled_from(own.METHODS), st.data())
def test_rescaling_scales_the_states_alone(name, data):
    grid = data.draw(own.grids(min_steps=6, max_steps=8, name=name))
    plan = formulas.by_name(name).plan(grid)
    rng = np.random.default_rng(1)
    scale = rng.uniform(0.5, 2.0, plan.rows + plan.steps)
    slopes = random_slopes(rng, plan)
    first = rng.standard_normal(plan.steps)
    z = run(plan, first, slopes)
    scaled = run(plan.rescaled(scale), first * scale[: plan.steps], slopes)
    assert np.allclose(scaled, scale * z, rtol=1e-9, atol=1e-9 * np.abs(z).max())


def test_a_part_of_a_plan_keeps_its_rows_and_nodes():
    plan = formulas.belm(3).plan(GRID)
    part = plan.between(2, 5)
    assert part.rows == 3
    assert np.array_equal(part.a, plan.a[2:5]) and np.array_equal(part.node, plan.node[2:8])


def test_positions_and_nodes_of_a_multistep_plan_are_the_grid_from_the_noise_end():
    plan = formulas.adams_bashforth(3).plan(GRID)
    assert np.array_equal(plan.node, GRID.sigma_bar[::-1])
    assert np.array_equal(plan.position, GRID.sigma_bar[::-1])
    assert plan.rows == GRID.steps - 2 and plan.steps == 3


def test_edict_takes_slopes_at_the_noisy_node_of_its_step():
    plan = formulas.edict(0.9).plan(Grid.from_sigma_bar([1.0, 2.0, 3.0]))
    assert plan.rows == 8 and plan.rows_per_step == 4
    assert plan.node.tolist() == [3, 3, 3, 3, 2, 2, 2, 2, 1, 1]
    assert plan.position.tolist() == [3, 3, 2, 2, 2, 2, 1, 1, 1, 1]


@given(own.grids(min_steps=4), st.sampled_from(["belm(2)", "edict(0.93)", "deis(3)"]))
def test_fingerprints_tell_grids_and_formulas_apart(grid, name):
    plan = formulas.by_name(name).plan(grid)
    nodes = grid.sigma_bar.copy()
    nodes[-1] = np.nextafter(nodes[-1], np.inf)
    assert plan.fingerprint == formulas.by_name(name).plan(Grid.from_sigma_bar(grid.sigma_bar)).fingerprint
    assert plan.fingerprint != formulas.by_name(name).plan(Grid.from_sigma_bar(nodes)).fingerprint
    assert plan.fingerprint != formulas.by_name("bdia(1)").plan(grid).fingerprint


def test_a_row_without_oldest_weight_has_no_inverse():
    with pytest.raises(ValueError, match="a_3 = 0 in row 0"):
        formulas.adams_bashforth(3).plan(GRID).inverse()


def test_plans_are_checked():
    with pytest.raises(ValueError, match="matching shapes"):
        Plan("x", np.ones((2, 1)), np.ones((2, 1)), np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match=r"row 1 .* not finite"):
        Plan("x", np.array([[1.0], [np.inf]]), np.ones((2, 2)), np.ones(3), np.ones(3))
