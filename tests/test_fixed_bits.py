"""Fixed-point arithmetic: bits planned before the run, rows at the edge of the word, and loud failure."""

import math

import numpy as np
import pytest
import strategies as own
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vsvf
from vsvf import Fixed, FixedPointOverflowError, Grid, NonFiniteError, Schedule, formulas, invert, sample
from vsvf.engine.integers import FixedRegister, decoded, encoded
from vsvf.engine.watch import Watch
from vsvf.fixed import CELL, WORD, BitPlan, bits
from vsvf.predictors import Predictor, from_ode

REFUSED = tuple(name for name in own.METHODS if name not in own.BIDIRECTIONAL)
network, fine_grid = own.counting_network, own.fine_grid


# ---- bits planned before the run -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", own.BIDIRECTIONAL)
@pytest.mark.parametrize("steps", [10, 100, 1000])
def test_the_plan_fits_the_word_and_the_run_uses_it(name, steps):
    grid, predictor = fine_grid(steps), network()
    plan = bits(name, grid, predictor)
    assert plan.needed <= WORD and plan.spare == WORD - plan.needed >= 0
    assert plan.exponents.min() >= plan.fraction_bits - 1e-6 and plan.fraction_bits >= 32
    assert str(plan.fraction_bits) in plan.sentence and ("tape of" in plan.sentence) == (plan.tape_cells > 0)
    if steps == 10:
        state = sample(predictor, torch.zeros(1, 2), grid, name, arithmetic="fixed", stop=10)
        assert state.record.scales.fraction_bits is None  # as asked for
        assert state.record.scales.exponents == tuple(plan.exponents[: len(state.values)].tolist())


def test_the_scale_changes_along_a_chain_by_the_oldest_weight():
    grid = own.sd_grid(20)
    plan, rows = bits("belm(2)", grid), formulas.belm(2).plan(grid)
    change = plan.exponents[2:] - plan.exponents[:-2] + plan.shifts
    assert np.allclose(change, -np.log2(np.abs(rows.a[:, -1])), atol=1e-9)


def test_a_predictor_or_its_schedule_gives_the_scale():
    grid, predictor = own.ddpm_grid(20), network()
    assert bits("belm(2)", grid, predictor).key == bits("belm(2)", grid, predictor.schedule).key != bits("belm(2)", grid).key


def test_a_wider_range_takes_bits_from_the_fraction():
    grid = own.sd_grid(20)
    narrow, wide = (bits("belm(2)", grid, network(), Fixed(data_range=r)) for r in (1.0, 1e5))
    assert wide.fraction_bits < narrow.fraction_bits
    assert wide.needed <= WORD


@pytest.mark.parametrize("march", [sample, invert])
@pytest.mark.parametrize("wanted", [50, 52])
def test_too_few_bits_are_an_error_before_the_first_evaluation(march, wanted):
    predictor = network()
    with pytest.raises(ValueError, match=rf"fraction_bits={wanted} does not fit: states near sigma_bar = .* take at most \d+"):
        march(predictor, torch.zeros(1, 2), own.sd_grid(20), "belm(2)", arithmetic=Fixed(fraction_bits=wanted), starter="rk4")
    assert predictor.network.calls == 0


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exact_is_refused_with_the_reason(name):
    predictor = network()
    reason = "implicit" if name in own.IMPLICIT else "not backward explicit: its inverse needs an iteration"
    for ask in (
        lambda: bits(name, own.sd_grid(20)),
        lambda: sample(predictor, torch.zeros(1, 2), own.sd_grid(20), name, arithmetic="fixed"),
        lambda: invert(predictor, torch.zeros(1, 2), own.sd_grid(20), name, arithmetic="fixed"),
    ):
        with pytest.raises(ValueError, match="cannot be bit-exact, it is " + reason):
            ask()
    assert predictor.network.calls == 0


def test_wrong_configurations_are_refused():
    for wrong in (
        {"fraction_bits": 0},
        {"fraction_bits": 53},
        {"data_range": 0.0},
        {"data_range": math.nan},
        {"data_range": math.inf},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Fixed(**wrong)
    with pytest.raises(ValueError, match="arithmetic"):
        sample(network(), torch.zeros(1, 2), own.sd_grid(5), "belm(2)", arithmetic="fixed64")


def test_a_scale_that_changes_too_much_at_once_is_refused():
    nodes = np.cumsum([1.0, 1e-6, 1.0, 1e-6, 1.0])
    with pytest.raises(ValueError, match="changes the scale by 2"):
        bits("belm(2)", Grid.from_sigma_bar(nodes))


# ---- overflow ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("march", [sample, invert])
@pytest.mark.parametrize("size", [1e8, 1e30, 1e300])
@pytest.mark.parametrize("name", ["belm(2)", "edict(0.93)", "stable_belm(4)", "bdia(0.5)"])
def test_an_exploding_predictor_is_an_overflow_with_its_step(march, size, name):
    explodes = from_ode(lambda x, s: torch.full_like(x, size))
    with pytest.raises(FixedPointOverflowError, match=r"state \d+ of the march"):
        march(explodes, torch.ones(1, 2, dtype=torch.float64), own.sd_grid(20), name, arithmetic="fixed")


def test_the_step_of_an_overflow_is_the_one_where_the_predictor_explodes():
    seen = []

    def late(x, s):
        return torch.full_like(x, 1e30 if len(seen) >= 5 else 0.1)

    with pytest.raises(FixedPointOverflowError, match="state 7 of the march"):  # five rows, states 2 … 6, are fine
        sample(
            from_ode(late),
            torch.ones(1, 2, dtype=torch.float64),
            own.sd_grid(20),
            "belm(2)",
            arithmetic="fixed",
            callback=seen.append,
        )


@pytest.mark.parametrize("start", [1e10, 1e25, 1e300])
def test_a_first_state_out_of_range_is_an_overflow(start):
    predictor = network()
    for name in ("belm(2)", "edict(0.93)"):
        with pytest.raises(FixedPointOverflowError, match="state 0 of the march"):
            sample(predictor, torch.full((1, 2), start, dtype=torch.float64), own.sd_grid(20), name, arithmetic="fixed")
    assert predictor.network.calls == 0


def test_slopes_that_overflow_half_precision_are_not_finite():
    halves = Predictor(lambda x, t: x.half() * 6e4 + 6e4, Schedule.linear())
    with pytest.raises(NonFiniteError, match="state"):
        sample(halves, torch.ones(1, 2), own.sd_grid(20), "belm(2)", arithmetic="fixed")


WHOLE = st.integers(-(2**WORD) - 2, 2**WORD + 2) | st.integers(-(2**40), 2**40)


@settings(max_examples=400, deadline=None)
@given(WHOLE, WHOLE, st.booleans(), st.sampled_from([0, CELL, -CELL, 2 * CELL, -2 * CELL]), st.sampled_from([1.0, 3.0, 2.0**9]))
def test_one_row_at_the_edge_of_the_word_is_right_or_an_error(oldest, other, positive, shift, weight):
    """Rows whose integers lie anywhere in the word, with and without a tape: never a wrap-around, and undone exactly."""
    sign = 1.0 if positive else -1.0
    plan = vsvf.Plan("edge", np.array([[weight, sign]]), np.zeros((1, 3)), np.ones(3), np.ones(3))
    scales = BitPlan("edge", 1, np.zeros(3), np.array([1.0, 1.0, sign]), np.array([shift]), np.zeros(3), shift, "")
    kept = oldest >> shift if shift > 0 else oldest << -shift
    # in the scale of the new state, whose sign is that of the oldest one's weight; the product is rounded as any float's
    expected = kept + int(float(other) * sign * weight)
    limit = 2**WORD
    fits = all(abs(n) < limit for n in (oldest, other, kept, expected))
    first = torch.tensor([[oldest], [other]])
    try:
        register = FixedRegister(plan, scales, 0, 1, first, True, watch := Watch())
        register.advance(0)
        watch.check()
    except FixedPointOverflowError:
        assert not fits
        return
    assert fits
    assert int(sign) * int(register.window(1)[1]) == expected
    back = FixedRegister(plan, scales, 0, 1, register.window(1).flip(0), False, watch, register.tape)
    back.advance(0)
    watch.check()
    assert torch.equal(back.window(1).flip(0), first) and (shift < 0 or not back.tape)


def test_no_zero_is_negative():
    """A network could tell -0 from +0, so the integers must never hold one: here every state but the first is a rounded zero."""
    seen = {}

    def watching(x, t):
        seen.setdefault(float(t.reshape(-1)[0]), []).append(torch.signbit(x).tolist())
        return -1e-30 * torch.ones_like(x)

    predictor = Predictor(watching, Schedule.linear())
    for name in own.BIDIRECTIONAL:
        seen.clear()
        grid = own.sd_grid(9, own.final(name))
        there = sample(predictor, torch.zeros(1, 3, dtype=torch.float64), grid, name, arithmetic="fixed")
        invert(predictor, there, grid, name)
        if name.startswith(("belm", "stable", "bdia")):  # one state per node: both ways look at the same ones
            assert all(all(signs == both[0] for signs in both) for both in seen.values())


# ---- reals and integers --------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(-30.0, 30.0), min_size=1, max_size=5), st.floats(10.0, 48.0))
def test_what_was_decoded_is_encoded_to_the_same_reals(values, exponent):
    x = torch.tensor(values, dtype=torch.float64)
    z = encoded(x, exponent)
    seen = decoded(z, exponent)
    assert torch.equal(decoded(encoded(seen, exponent), exponent), seen)
    assert torch.equal(decoded(encoded(seen, exponent), exponent), seen)
    assert torch.allclose(seen, x, rtol=2.0**-51, atol=0.5000001 * 2.0**-exponent)
    exact = [round(v * 2.0**exponent) for v in values]
    assert all(abs(a - b) <= 1 + abs(b) * 2.0**-50 for a, b in zip(z.tolist(), exact))
