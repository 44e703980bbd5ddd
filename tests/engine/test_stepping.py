"""Stepping by hand: the bits of `sample` and `invert`, from answers that somebody else gives."""

import pickle

import numpy as np
import pytest
import strategies as own
import torch

from vsvf import Fixed, Grid, NonFiniteError, Schedule, State, StateFileError, formulas, invert, sample, steps
from vsvf.predictors import Predictor

X = torch.linspace(-1.0, 1.0, 12, dtype=torch.float64).reshape(2, 6)
GRID = Grid.from_schedule(Schedule.linear(), 12, "log_snr", "smallest")
TAME = [name for name in own.BIDIRECTIONAL if name not in ("belm(3)", "stable_belm(6)")]  # which explode here


def by_hand(predictor, march):
    while not march.done:
        march.give(predictor.epsilon(march.x, march.sigma_bar, march.t))
    return march.state()


@pytest.mark.parametrize("arithmetic", ["float32", "float64", "fixed"])
@pytest.mark.parametrize("starter", ["ddim", "heun", "rk4:2"])
@pytest.mark.parametrize("name", TAME)
def test_stepped_marches_have_the_bits_of_the_others(name, starter, arithmetic):
    predictor = own.tanh_network()
    options = {"starter": starter, "arithmetic": arithmetic}
    for march, direction in ((sample, "sampling"), (invert, "inversion")):
        whole = march(predictor, X, GRID, name, warn=False, **options)
        stepped = by_hand(predictor, steps(predictor, X, GRID, name, direction=direction, **options))
        assert torch.equal(stepped.values, whole.values) and stepped.record == whole.record
        assert stepped.tape.keys() == whole.tape.keys()


def test_a_schedule_is_enough_and_gives_the_times():
    schedule = Schedule.linear()
    grid = Grid.from_schedule(schedule, 6, "trailing", "smallest")
    march = steps(schedule, X, grid, "belm(2)")
    asked = []
    while not march.done:
        asked.append((march.sigma_bar, march.t))
        march.give(torch.tanh(march.x))
    assert [s for s, _ in asked] == grid.sigma_bar[:0:-1].tolist()
    assert np.allclose([t for _, t in asked], grid.timesteps[:0:-1])
    assert march.sigma_bar == grid.sigma_bar[0] and march.nfe == 6


def test_two_marches_in_lockstep_share_one_call():
    """Source and target of an edit: each has its own states, and every node is one batched evaluation."""
    predictor, calls = own.tanh_network(), []
    one, other = (steps(predictor, x, GRID, "stable_belm(3)") for x in (X, -2.0 * X))
    while not one.done:
        assert one.sigma_bar == other.sigma_bar
        both = predictor.epsilon(torch.cat([one.x, other.x]), one.sigma_bar, one.t)
        calls.append(len(both))
        one.give(both[:2])
        other.give(both[2:])
    assert calls == [4] * GRID.steps
    for march, x in ((one, X), (other, -2.0 * X)):
        assert torch.allclose(march.x, sample(predictor, x, GRID, "stable_belm(3)").x, rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("arithmetic", ["float64", "fixed"])
def test_replacing_a_state_by_itself_changes_nothing(arithmetic):
    predictor = own.tanh_network()
    march = steps(predictor, X, GRID, "stable_belm(3)", starter="heun", arithmetic=arithmetic)
    while not march.done:
        march.replace(march.x)
        march.give(predictor.epsilon(march.x, march.sigma_bar, march.t))
    assert torch.equal(
        march.state().values, sample(predictor, X, GRID, "stable_belm(3)", starter="heun", arithmetic=arithmetic).values
    )


def test_a_replaced_state_is_where_the_march_goes_on():
    march, plain = (steps(Schedule.linear(), X, GRID, "ddim") for _ in range(2))
    for _ in range(4):
        march.give(torch.zeros_like(X))
        plain.give(torch.zeros_like(X))
    march.replace(3.0 * march.x)
    while not march.done:
        march.give(torch.zeros_like(X))
        plain.give(torch.zeros_like(X))
    assert torch.allclose(march.x, 3.0 * plain.x, rtol=1e-14)


def test_what_cannot_be_stepped_or_given_is_named():
    with pytest.raises(ValueError, match="implicit"):
        steps(Schedule.linear(), X, GRID, "bdf(2)")
    with pytest.raises(ValueError, match="not backward explicit"):
        steps(Schedule.linear(), X, GRID, "deis(2)", direction="inversion")
    with pytest.raises(ValueError, match="direction"):
        steps(Schedule.linear(), X, GRID, "ddim", direction="upwards")
    with pytest.raises(TypeError, match="scale"):
        steps(torch.tanh, X, GRID, "ddim")
    march = steps(Schedule.linear(), X, GRID, "belm(2)")
    for wrong in (torch.zeros(3, 6), torch.zeros(2, 5)):
        with pytest.raises(ValueError, match="shape"):
            march.give(wrong)
        with pytest.raises(ValueError, match="shape"):
            march.replace(wrong)
    with pytest.raises(ValueError, match="starter is not done"):
        march.state()
    coupled = steps(Schedule.linear(), X, GRID, "edict(0.93)")
    coupled.give(torch.zeros_like(X))
    with pytest.raises(ValueError, match="within a step"):
        coupled.state()
    while not march.done:
        march.give(torch.zeros_like(X))
    with pytest.raises(ValueError, match="done"):
        march.give(torch.zeros_like(X))


def test_a_slope_that_is_not_finite_is_named_at_the_end_or_at_once():
    for every in (None, 1):
        march = steps(Schedule.linear(), X, GRID, "belm(2)", check_every=every)
        given = 0
        with pytest.raises(NonFiniteError, match="evaluation 3"):
            while not march.done:
                given += 1
                march.give(torch.full_like(X, float("nan")) if given == 3 else torch.zeros_like(X))
        assert given == (3 if every else GRID.steps)


# ---- states that are handed over -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ddim", "belm(2)", "stable_belm(4)", "mccallum_foster(1)"])
def test_k_states_of_ones_own_are_a_start(name):
    """The exact solution of a linear problem at the k first nodes, instead of a starter."""
    predictor, formula = own.linear_ode(), formulas.by_name(name)
    grid = Grid.from_sigma_bar(np.linspace(0.2, 1.0, 41))
    plan = formula.plan(grid)

    def exact(s):
        return torch.full((1, 2), float(np.sqrt(s * s + 0.25)), dtype=torch.float64)

    first = torch.stack([exact(s) for s in plan.position[: formula.steps]])
    out = sample(predictor, State.at("noise", first, formula, grid), grid, formula, warn=False)
    assert torch.allclose(out.x, exact(0.2), rtol=0.0, atol=0.05 if formula.order == 1 else 1e-3)
    last = torch.stack([exact(s) for s in plan.position[-formula.steps :]])
    if plan.backward_explicit:
        back = invert(predictor, State.at("data", last, formula, grid), grid, formula, warn=False)
        assert torch.allclose(back.x, exact(1.0), rtol=0.0, atol=0.1 if formula.order == 1 else 3e-3)
    with pytest.raises(ValueError, match="end"):
        State.at("middle", first, formula, grid)
    with pytest.raises(ValueError, match="floating states"):
        State.at("noise", torch.stack([*first, first[0]]), formula, grid)


def test_a_state_is_refused_under_another_schedule_with_the_same_alpha():
    """Two variance-preserving schedules have the same alpha at a sigma_bar, and ask their networks at other times."""
    grid = Grid.from_sigma_bar(np.linspace(0.5, 3.0, 9))
    one, other = (Predictor(lambda x, t: torch.tanh(x), schedule) for schedule in (Schedule.linear(), Schedule.scaled_linear()))
    for arithmetic in ("float64", "fixed"):
        state = sample(one, X, grid, "belm(2)", arithmetic=arithmetic)
        with pytest.raises(StateFileError, match="another schedule"):
            invert(other, state, grid, "belm(2)")
        with pytest.raises(StateFileError, match="another schedule"):
            steps(other, state, grid, "belm(2)", direction="inversion")


@pytest.mark.parametrize("data_range", [1.0, 255.0, 2000.0, 1e5])
@pytest.mark.parametrize("name", TAME)
def test_the_scales_planned_are_those_of_the_record(name, data_range):
    """A state says what was asked for, and its own formula and grid plan the same scales again."""
    predictor = own.tanh_network()
    state = sample(predictor, X, GRID, name, arithmetic=Fixed(data_range=data_range), warn=False)
    back = invert(predictor, state, GRID, name, warn=False)
    again = sample(predictor, back, GRID, name, warn=False)
    assert torch.equal(again.values, state.values)
    assert back.record.scales.data_range == data_range


def test_a_state_can_be_pickled():
    state = sample(own.tanh_network(), X, GRID, "belm(2)", arithmetic="fixed")
    copy = pickle.loads(pickle.dumps(state))
    assert torch.equal(copy.values, state.values) and copy.record == state.record
