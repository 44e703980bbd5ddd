"""Fixed-point arithmetic: every bit comes back, and the samples are those of float64."""

import math
from itertools import pairwise

import numpy as np
import pytest
import strategies as own
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import vsvf
from vsvf import (
    Fixed,
    FixedPointOverflowError,
    Grid,
    NonFiniteError,
    Schedule,
    formulas,
    invert,
    predictors,
    sample,
)
from vsvf.engine.integers import BLOCK, FixedRegister
from vsvf.engine.watch import Watch
from vsvf.fixed import WORD, bits, plan_bits
from vsvf.predictors import Predictor

network, fine_grid = own.counting_network, own.fine_grid
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


WIDE = Fixed(data_range=30.0)  # these networks are no denoisers: their samples are larger than the images they would make


def range_of(name):
    """EDICT's samples of the digits network grow to 1000 with 10 steps, 300 with 20."""
    return Fixed(data_range=2000.0) if name.startswith("edict") else "fixed"


@st.composite
def placed_roots(draw):
    """Root-placed formulas with roots on the circle, away from each other and from 1."""
    pairs = draw(st.lists(st.integers(2, 9), min_size=0, max_size=2, unique=True))
    angles = [np.pi * n / 10.0 for n in pairs]
    roots = [r for a in angles for r in (complex(math.cos(a), math.sin(a)), complex(math.cos(a), -math.sin(a)))]
    if not roots or draw(st.booleans()):
        roots.append(-1.0)
    return formulas.root_placed_belm(roots, draw(st.sampled_from([0.0, 0.5, 1.0, 2.0])))


def any_formula():
    return st.one_of(st.sampled_from(own.BIDIRECTIONAL).map(formulas.by_name), placed_roots())


def largest(march, *arguments, **options):
    """The largest entry of any state of the same march in float64."""
    seen = [0.0]
    try:
        march(*arguments, **options, callback=lambda step: seen.append(float(step.x.abs().max())))
    except NonFiniteError:
        return float("inf")
    return max(seen)


def overflow_is_right(march, predictor, x, grid, formula, plan):
    """A fixed-point overflow is right only where the float64 march leaves the range as well (or comes within a factor of 8)."""
    return largest(march, predictor, x, grid, formula, arithmetic="float64") >= 2.0 ** (WORD - plan.exponents.max() - 3.0)


def trip(march, back, predictor, x, grid, formula, fixed="fixed"):
    """The first window, what comes back, the far state and the far state once more."""
    first = march(predictor, x, grid, formula, arithmetic=fixed, stop=grid.steps if march is sample else 0)
    there = march(predictor, first, grid, formula)
    returned = back(predictor, there, grid, formula)
    return first, there, returned, march(predictor, returned, grid, formula)


# ---- every bit -----------------------------------------------------------------------------------------------


@MANY
@given(any_formula(), own.grids(min_steps=6, max_steps=40, ratio=1.5), own.tensors(), st.sampled_from(own.DTYPES), st.booleans())
@pytest.mark.parametrize("way", ["noise first", "image first"])
def test_zero_bits_differ_after_a_round_trip(way, formula, grid, x, dtype, rough):
    march, back = (sample, invert) if way == "noise first" else (invert, sample)
    predictor = network(dtype, rough)
    try:
        plan = bits(formula, grid, predictor)
    except ValueError as error:
        assert any(said in str(error) for said in ("at once", "does not fit", "sigma_bar > 0"))
        assume(False)
    try:
        first, there, returned, again = trip(march, back, predictor, x, grid, formula)
    except FixedPointOverflowError:
        assert overflow_is_right(march, predictor, x, grid, formula, plan)
        return
    assert torch.equal(returned.values, first.values)
    assert torch.equal(again.values, there.values)
    assert {row: cell.tolist() for row, cell in again.tape.items()} == {row: cell.tolist() for row, cell in there.tape.items()}
    assert torch.allclose(returned.x, x, rtol=2.0**-50, atol=2.0 ** -(plan.fraction_bits - 1))


@settings(max_examples=2, deadline=None)
@given(st.integers(200, 1000), st.sampled_from(own.DTYPES), st.booleans())
@pytest.mark.parametrize(
    "name", ["belm(2)", "bdia(1)", "edict(0.93)", "mccallum_foster(0.999)", "stable_belm(4)", "stable_belm(6)"]
)
def test_up_to_a_thousand_steps(name, steps, dtype, noise_first):
    march, back = (sample, invert) if noise_first else (invert, sample)
    predictor, grid = network(dtype), fine_grid(steps)
    x = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).reshape(2, 3)
    try:
        first, there, returned, again = trip(march, back, predictor, x, grid, name)
    except FixedPointOverflowError:
        assert overflow_is_right(march, predictor, x, grid, name, bits(name, grid, predictor))
        return
    assert torch.equal(returned.values, first.values) and torch.equal(again.values, there.values)


@pytest.mark.parametrize("name", own.BIDIRECTIONAL)
@pytest.mark.parametrize("steps", [10, 100, 1000])
def test_every_method_from_noise_at_10_100_and_1000_steps(name, steps):
    predictor, grid = network("float16"), fine_grid(steps)
    x = torch.linspace(-2.0, 2.0, 4, dtype=torch.float64).reshape(1, 4)
    try:
        first, there, returned, again = trip(sample, invert, predictor, x, grid, name, WIDE)
    except FixedPointOverflowError:
        assert name in ("belm(3)", "stable_belm(6)"), "only what explodes in sampling may leave the range"
        assert overflow_is_right(sample, predictor, x, grid, name, bits(name, grid, predictor, WIDE))
        return
    assert torch.equal(returned.values, first.values) and torch.equal(again.values, there.values)


@pytest.mark.parametrize(("name", "steps"), [("bdia(0.5)", 200), ("edict(0.93)", 1000), ("belm(3)", 50)])
def test_an_inverse_that_explodes_is_an_overflow_and_never_wrong_bits(name, steps):
    predictor, grid = network("float64"), fine_grid(steps)
    x = torch.linspace(-0.9, 0.9, 5, dtype=torch.float64).reshape(1, 5)
    with pytest.raises(FixedPointOverflowError, match=r"state \d+ of the march \(sigma_bar = .*fractional bits"):
        invert(predictor, x, grid, name, arithmetic="fixed")
    assert overflow_is_right(invert, predictor, x, grid, name, bits(name, grid, predictor))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(own.BIDIRECTIONAL), st.floats(0.0, 20.0), st.booleans())
def test_states_far_beyond_the_planned_range_return_or_overflow(name, decades, noise_first):
    march, back = (sample, invert) if noise_first else (invert, sample)
    x = 10.0**decades * torch.linspace(-1.0, 1.0, 4, dtype=torch.float64).reshape(2, 2)
    try:
        first, there, returned, again = trip(march, back, network("float64"), x, own.sd_grid(30, own.final(name)), name)
    except FixedPointOverflowError:
        return
    assert torch.equal(returned.values, first.values) and torch.equal(again.values, there.values)


@pytest.mark.parametrize("name", own.BIDIRECTIONAL)
def test_the_rows_in_python_integers_give_the_same_bits(name):
    """An independent march: integers without bounds, one float operation at a time."""
    grid, predictor = own.ddpm_grid(40, "smallest"), network("float64")
    plan = formulas.by_name(name).plan(grid)
    alpha = predictor.alpha(plan.node)
    rows, k = plan.rescaled(alpha), plan.steps
    scales = plan_bits(rows, alpha, Fixed())
    x = torch.tensor([[0.7, -1.3]], dtype=torch.float64)
    first = sample(predictor, x, grid, name, arithmetic="fixed", stop=grid.steps)
    z = [first.values[n].reshape(-1).tolist() for n in range(k)]
    # as the register: z with the sign of its scale
    unit = [sign * 2.0**-exponent for sign, exponent in zip(scales.signs.tolist(), scales.exponents.tolist())]
    z = [[int(scales.signs[n]) * v for v in z[n]] for n in range(k)]
    tape, times = {}, predictor.time(plan.node).tolist()

    def real(n):
        return [float(v) * unit[n] for v in z[n]]

    def slope(n):
        return predictor.epsilon(torch.tensor([real(n)], dtype=torch.float64), plan.node[n], times[n]).double().reshape(-1).tolist()

    for m in range(rows.rows):
        new = []
        for i in range(2):
            scale = 1.0 / unit[m + k]
            terms = [slope(m + k - j)[i] * (rows.c[m, j] * scale) for j in range(1, k) if rows.c[m, j] != 0.0]
            used = [j for j in range(1, k) if rows.a[m, j - 1] != 0.0]
            terms += [z[m + k - j][i] * (rows.a[m, j - 1] * scale * unit[m + k - j]) for j in used]
            total = 0.0
            for n, term in enumerate(terms):
                total = term if n == 0 else total + term
            oldest, shift = z[m][i], int(scales.shifts[m])
            if shift > 0:
                tape.setdefault(m, []).append(oldest % 2**shift)
                oldest //= 2**shift
            elif shift < 0:
                oldest *= 2**-shift
            new.append(oldest + round(total))
        z.append(new)
    if max(abs(v) for new in z for v in new) >= 2**WORD:
        with pytest.raises(FixedPointOverflowError):
            sample(predictor, first, grid, name)
        return
    found = sample(predictor, first, grid, name)
    last = [[int(sign) * v for v in new] for sign, new in zip(scales.signs[-k:], z[-k:])]
    assert [found.values[n].reshape(-1).tolist() for n in range(k)] == last
    assert {row: cell.reshape(-1).tolist() for row, cell in found.tape.items() if cell.any()} == {
        row: cell for row, cell in tape.items() if any(cell)
    }


def test_a_damping_method_needs_its_tape():
    predictor, grid = network("float64"), own.sd_grid(100)
    x = torch.linspace(-2.0, 2.0, 8, dtype=torch.float64).reshape(2, 4)
    assert bits("bdia(0.5)", grid, predictor, WIDE).tape_cells > 0
    first = sample(predictor, x, grid, "bdia(0.5)", arithmetic=WIDE, stop=100)
    there = sample(predictor, first, grid, "bdia(0.5)")
    assert there.tape and all(cell.shape == x.shape for cell in there.tape.values())
    assert torch.equal(invert(predictor, there, grid, "bdia(0.5)").values, first.values)
    bare = vsvf.State(there.values, there.record)
    try:
        assert not torch.equal(invert(predictor, bare, grid, "bdia(0.5)").values, first.values)
    except FixedPointOverflowError:
        pass


@pytest.mark.parametrize("name", own.BIDIRECTIONAL)
def test_blocks_and_threads_change_no_bit(name, monkeypatch):
    """One block or 2 1/2 of them, of a size that is no multiple of anything, on one thread or two."""
    grid, predictor = own.sd_grid(12, own.final(name)), network("float32")
    x = torch.randn(1, 5 * BLOCK // 16 + 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    threads = torch.get_num_threads()

    def outcome(march):
        try:
            return march(predictor, x, grid, name, arithmetic="fixed").values.tolist()
        except FixedPointOverflowError as error:
            return str(error)

    for march in (sample, invert):
        found = []
        for block, count in ((BLOCK, threads), (BLOCK // 8, 1), (BLOCK // 32, 2)):
            monkeypatch.setattr(vsvf.engine.integers, "BLOCK", block)
            torch.set_num_threads(count)
            try:
                found.append(outcome(march))
            finally:
                torch.set_num_threads(threads)
        assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", own.BIDIRECTIONAL)
def test_a_network_that_reuses_its_output_or_returns_its_input_changes_no_bit(name):
    x = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).reshape(2, 3)
    memory = torch.empty(2, 3, dtype=torch.float64)

    def reusing(x, t):
        return memory.copy_(torch.tanh(x))

    for one, other in ((reusing, lambda x, t: torch.tanh(x)), (lambda x, t: x, lambda x, t: x.clone())):
        states = [
            sample(Predictor(f, Schedule.linear()), x, own.sd_grid(9, own.final(name)), name, arithmetic=WIDE) for f in (one, other)
        ]
        assert torch.equal(states[0].values, states[1].values)


@pytest.mark.parametrize("name", own.BIDIRECTIONAL)
def test_memory_does_not_grow_with_the_grid_but_for_the_tape(name):
    held = []
    for steps in (10, 300):
        plan = formulas.by_name(name).plan(Grid.from_sigma_bar(np.linspace(0.5, 1.5, steps + 1)))
        register = FixedRegister(
            plan, plan_bits(plan, np.ones_like(plan.node), Fixed()), 0, plan.rows, torch.zeros(plan.steps, 77), True, Watch()
        )
        held.append(sum(v.untyped_storage().nbytes() for v in (register.buffer, register.shown)))
    assert held[0] == held[1] <= 2 * plan.steps * 80 * 8


# ---- agreement -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in own.BIDIRECTIONAL if n not in ("belm(3)",)])
def test_the_sample_is_the_one_of_float64(name):
    grid, predictor = own.ddpm_grid(100, "smallest"), network("float64")
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    try:
        fixed = sample(predictor, x, grid, name, arithmetic=WIDE).x
    except FixedPointOverflowError:
        assert name == "stable_belm(6)"
        return
    exact = sample(predictor, x, grid, name, arithmetic="float64").x
    assert float((fixed - exact).abs().max()) <= 1e-6


@pytest.mark.parametrize(
    "name", ["belm(2)", "bdia(1)", "edict(0.93)", "mccallum_foster(0.999)", "stable_belm(3)", "stable_belm(4)"]
)
@pytest.mark.parametrize("dtype", own.DTYPES)
@pytest.mark.parametrize("steps", [10, 20])
def test_the_digits_of_float64_to_a_millionth(name, dtype, steps):
    """A float32 network rounds its input, and a difference of 1e-12 can flip a rounding: never by more than 10 times what its
    precision costs anyway."""
    grid = own.ddpm_grid(steps, "smallest")
    x = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def made(precision, arithmetic):
        return sample(predictors.digits(3, dtype=getattr(torch, precision)), x, grid, name, arithmetic=arithmetic).x

    fixed, exact = made(dtype, range_of(name)), made(dtype, "float64")
    limit = 10.0 * float((exact - made("float64", "float64")).abs().max()) if dtype == "float32" else 1e-6
    assert float((fixed - exact).abs().max()) <= limit


def test_more_fractional_bits_come_closer():
    grid, predictor = own.ddpm_grid(20, "smallest"), network("float64")
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    exact = sample(predictor, x, grid, "belm(2)", arithmetic="float64").x
    errors = [
        float((sample(predictor, x, grid, "belm(2)", arithmetic=Fixed(fraction_bits=b)).x - exact).abs().max())
        for b in (8, 16, 24, 32)
    ]
    for error, finer in pairwise(errors):
        assert 2.0**-11 < finer / error < 2.0**-5


# ---- the digits network --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", own.DTYPES)
@pytest.mark.parametrize("name", ["belm(2)", "edict(0.93)", "stable_belm(4)"])
def test_digits_in_every_precision(dtype, name):
    predictor, grid = predictors.digits(torch.tensor([3, 7]), 2.0, dtype=getattr(torch, dtype)), own.ddpm_grid(10, "smallest")
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(5))
    first, there, returned, _ = trip(sample, invert, predictor, x, grid, name, range_of(name))
    assert torch.equal(returned.values, first.values)
    assert int((there.x != sample(predictor, returned, grid, name).x).sum()) == 0


def test_digits_in_half_precision_from_an_image():
    predictor, grid = predictors.digits(3, dtype=torch.float16), own.ddpm_grid(50, "smallest")
    x = torch.linspace(-1.0, 1.0, 784).reshape(1, 1, 28, 28)
    first, _, returned, _ = trip(invert, sample, predictor, x, grid, "stable_belm(3)")
    assert torch.equal(returned.values, first.values)


def test_digits_in_half_precision_over_a_thousand_steps():
    predictor, grid = predictors.digits(3, dtype=torch.float16), fine_grid(1000)
    x = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(6))
    first = sample(predictor, x, grid, "stable_belm(4)", arithmetic="fixed", stop=1000, warn=False)
    there = sample(predictor, first, grid, "stable_belm(4)", warn=False)
    assert torch.equal(invert(predictor, there, grid, "stable_belm(4)", warn=False).values, first.values)
    assert float(there.x.abs().max()) < 3.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", own.DTYPES)
def test_every_bit_on_a_gpu(dtype):
    predictor, grid = predictors.digits(3, dtype=getattr(torch, dtype), device="cuda"), own.ddpm_grid(50, "smallest")
    x = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(7)).cuda()
    first, there, returned, again = trip(sample, invert, predictor, x, grid, "belm(2)")
    assert returned.values.is_cuda and torch.equal(returned.values, first.values) and torch.equal(again.values, there.values)
    # an elementwise network, so that the arithmetic alone decides: the same bits on both devices
    states = [
        sample(Predictor(lambda x, t: 0.5 * x, Schedule.linear()), y, grid, "stable_belm(4)", arithmetic="fixed")
        for y in (x, x.cpu())
    ]
    assert torch.equal(states[0].values.cpu(), states[1].values)
