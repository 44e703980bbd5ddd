"""What users call: round trips, states, batches, dtypes, arguments."""

import warnings

import numpy as np
import pytest
import strategies as own
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vsvf import (
    ConvergenceError,
    Grid,
    Schedule,
    State,
    StateFileError,
    ZeroStabilityWarning,
    formulas,
    integrate,
    invert,
    sample,
    stability,
)
from vsvf.predictors import Predictor, from_ode


def rate(s):
    """d eps / d x_bar of own.linear_ode()."""
    return s / (s * s + 0.25)


def noise(shape, generator, dtype=torch.float64):
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


# ---- round trips


def roundtrip_bound(plan, states, unit):
    """A bound on the error of inverting what was sampled, for eps = rate(s) z: every row, of the march and of its inverse, is
    satisfied up to the rounding of its terms, and the rows of the inverse carry these residuals on to the end.

    `states` are the sizes |z_s| along sampling; one scalar problem. Rounding of K + slopes products, their sum, and the
    slope's own few operations: 16 + 2 (2K + 1) units per term.
    """
    inverse = plan.inverse()
    k = plan.steps
    w = np.asarray(states)[::-1]
    carried = np.zeros((k, 0))  # columns: what a residual in some earlier row has become in the current window
    bound = np.zeros(k)
    for m in range(inverse.rows):
        s = m + k
        rates = np.array([rate(v) for v in inverse.node[s - k : s + 1][::-1]])
        row = inverse.a[m] + inverse.c[m, 1:] * rates[1:]
        terms = np.abs(inverse.a[m]) @ w[s - k : s][::-1] + np.abs(inverse.c[m]) @ (rates * w[s - k : s + 1][::-1])
        # the sampled states satisfy their row up to rounding too: divided by a_K that is a residual of the inverse row
        residual = 2.0 * (16 + 2 * (2 * k + 1)) * unit * (terms + w[s])
        step = np.eye(k, k=-1)
        step[0] = row
        carried = np.concatenate([step @ carried, residual * np.eye(k)[:, :1]], axis=1)
        bound = np.abs(carried).sum(axis=1)
    return float(bound.max())


@settings(max_examples=60)
@given(st.sampled_from(own.BIDIRECTIONAL), st.sampled_from(["float32", "float64"]), st.data())
def test_a_round_trip_is_as_accurate_as_its_amplification_allows(name, arithmetic, data):
    formula = formulas.by_name(name)
    grid = data.draw(own.grids(min_steps=formula.steps, max_steps=20, name=name))
    predictor = own.linear_ode()
    x = torch.ones(1, 1, dtype=torch.float64)
    sizes = []
    exact = sample(predictor, x, grid, formula, callback=lambda step: sizes.append(abs(float(step.x.flatten()[0]))))
    plan = formula.plan(grid)
    back = invert(predictor, exact, grid, formula)
    sizes = [abs(float(v)) for v in back.values.flatten()] + sizes
    out = sample(predictor, x.to(getattr(torch, arithmetic)), grid, formula)
    back = invert(predictor, out, grid, formula)
    bound = roundtrip_bound(plan, sizes, torch.finfo(out.values.dtype).eps / 2)
    assert abs(float(back.x) - 1.0) <= bound


def test_the_round_trip_bound_is_a_sharp_one():
    """It would notice a wrong coefficient: on a real grid it allows float64 an error of 1e-6 at most."""
    grid = own.sd_grid(20)
    predictor = own.linear_ode()
    sizes = [1.0, 1.0]
    sample(
        predictor,
        torch.ones(1, 1, dtype=torch.float64),
        grid,
        "belm(2)",
        callback=lambda step: sizes.append(abs(float(step.x))),
    )
    assert roundtrip_bound(formulas.belm(2).plan(grid), sizes, 2.0**-53) < 1e-8


@pytest.mark.parametrize("make", [own.ddpm_grid, own.sd_grid])
@pytest.mark.parametrize("name", ["belm(2)", "bdia(1)", "edict(0.93)", "mccallum_foster(0.999)", "stable_belm(3)"])
def test_real_grids_round_trip_in_float64(name, make, generator):
    for steps in (10, 50):
        x = noise((2, 1, 4, 4), generator)
        out = sample(own.tanh_network(), x, make(steps), name)
        back = invert(own.tanh_network(), out, make(steps), name)
        assert float((back.x - x).abs().max()) < 1e-6 * float(out.values.abs().max() + x.abs().max())


@pytest.mark.parametrize("name", own.BIDIRECTIONAL)
def test_inverting_first_and_sampling_after_returns_as_well(name, generator):
    grid = Grid.from_sigma_bar(np.linspace(0.3, 1.1, 6 if name == "belm(3)" else 13))  # belm(3) loses a digit per step, twice
    x = noise((2, 3), generator)
    up = invert(own.tanh_network(), x, grid, name)
    down = sample(own.tanh_network(), up, grid, name)
    assert torch.allclose(down.x, x, rtol=0.0, atol=1e-5 if name == "belm(3)" else 1e-9)


@pytest.mark.parametrize("name", ["ddim", "adams_moulton(1)"])
def test_one_step_formulas_are_inverted_by_iteration(name, generator):
    grid = Grid.from_sigma_bar(np.linspace(0.1, 1.3, 15))
    x = noise((2, 3), generator)
    image = sample(own.tanh_network(), x, grid, name, tolerance=1e-14)
    back = invert(own.tanh_network(), image.x, grid, name, tolerance=1e-14, max_iterations=500)
    assert torch.allclose(back.x, x, rtol=0.0, atol=1e-11)
    assert back.nfe > grid.steps
    naive, nfe = integrate(own.tanh_network(), image.x, grid.sigma_bar, "ddim")
    assert nfe == grid.steps
    assert float((naive - x).abs().max()) > 1e-3  # DDIM inversion, equation (8), is another relation


def test_fixed_point_inversion_of_ddim_finds_the_root_of_each_step():
    grid = Grid.from_sigma_bar([0.5, 1.0, 2.0])
    x = torch.tensor([[0.8, -2.0]], dtype=torch.float64)
    back = invert(own.linear_ode(), x, grid, "ddim", tolerance=1e-14, max_iterations=1000)
    expected = x.clone()
    for here, there in ((0.5, 1.0), (1.0, 2.0)):  # x_i = x_{i-1} + h rate(s_i) x_i
        expected = expected / (1.0 - (there - here) * there / (there**2 + 0.25))
    assert torch.allclose(back.x, expected, rtol=1e-12)


def test_a_step_without_a_fixed_point_is_an_error():
    steep = from_ode(lambda x, s: torch.where(x > 0.0, -4.0, 4.0).to(x))  # x = 0.4 + f(x)/2 has no solution
    with pytest.raises(ConvergenceError) as caught:
        invert(steep, torch.full((1, 3), 0.4, dtype=torch.float64), Grid.from_sigma_bar([0.1, 0.6, 1.1]), "ddim")
    assert caught.value.residual > 1e-3 and caught.value.iterations == 100


# ---- stopping and going on


@pytest.mark.parametrize("name", own.METHODS)
@pytest.mark.parametrize("stop", [2, 5])
def test_a_march_may_stop_and_go_on(name, stop, generator):
    grid = Grid.from_sigma_bar(np.linspace(0.2, 1.2, 13) ** 1.2)
    x = noise((2, 3), generator)
    options = {} if name in own.EXPLICIT else {"tolerance": 1e-15, "max_iterations": 300}
    whole = sample(own.tanh_network(), x, grid, name, **options)
    part = sample(own.tanh_network(), x, grid, name, stop=stop, **options)
    assert part.record.node == stop
    assert part.record.sigma_bar == grid.sigma_bar[stop]
    rest = sample(own.tanh_network(), part, grid, name, **options)
    assert rest.record.node == 0
    size = float(whole.values.abs().max())
    assert torch.allclose(rest.values, whole.values, rtol=0.0, atol=(1e-9 if name == "belm(3)" else 1e-12) * max(1.0, size))


@pytest.mark.parametrize("name", own.BIDIRECTIONAL)
def test_an_inversion_may_stop_and_go_on(name, generator):
    grid = Grid.from_sigma_bar(np.linspace(0.2, 1.2, 13) ** 1.2)
    x = noise((2, 3), generator)
    whole = invert(own.tanh_network(), x, grid, name)
    part = invert(own.tanh_network(), x, grid, name, stop=7)
    assert part.record.node == 7
    rest = invert(own.tanh_network(), part, grid, name)
    assert rest.record.node == 12
    size = float(whole.values.abs().max())
    assert torch.allclose(rest.values, whole.values, rtol=0.0, atol=(1e-4 if name == "belm(3)" else 1e-11) * max(1.0, size))


@pytest.mark.parametrize("name", own.BIDIRECTIONAL)
def test_one_may_turn_round_half_way(name, generator):
    grid = Grid.from_sigma_bar(np.linspace(0.2, 1.2, 13))
    x = noise((2, 3), generator)
    half = sample(own.tanh_network(), x, grid, name, stop=4)
    back = invert(own.tanh_network(), half, grid, name)
    assert torch.allclose(back.x, x, rtol=0.0, atol=1e-3 if name == "belm(3)" else 1e-9)


def test_a_state_at_the_end_stays_where_it_is():
    grid = own.sd_grid(6)
    out = sample(own.tanh_network(), torch.ones(1, 2), grid, "belm(2)")
    again = sample(own.tanh_network(), out, grid, "belm(2)")
    assert torch.equal(again.values, out.values) and again.nfe == 0


@pytest.mark.parametrize("name", [n for n in own.METHODS if n in own.EXPLICIT])
@pytest.mark.parametrize("stop", [0, 1, 3, 6])
def test_the_state_stands_at_the_node_asked_for(name, stop):
    grid, formula = own.sd_grid(7, own.final(name)), formulas.by_name(name)
    window = formula.nodes if name in own.TWOFOLD else formula.steps
    found = sample(own.tanh_network(), torch.ones(1, 2), grid, name, stop=stop).record.node
    assert found == min(stop, 7 if name in own.SELF_STARTING else 8 - window)


def test_what_lies_behind_is_refused():
    grid = own.sd_grid(6)
    half = sample(own.tanh_network(), torch.ones(1, 2), grid, "belm(2)", stop=2)
    with pytest.raises(ValueError, match="behind"):
        sample(own.tanh_network(), half, grid, "belm(2)", stop=4)
    with pytest.raises(ValueError, match="behind"):
        invert(own.tanh_network(), half, grid, "belm(2)", stop=1)


@pytest.mark.parametrize(("stop", "error"), [(-1, ValueError), (7, ValueError), (2.0, TypeError), (True, TypeError)])
def test_a_bad_stop_is_refused(stop, error):
    with pytest.raises(error, match=r"stop must be (from 0 to 6|a whole number)"):
        sample(own.tanh_network(), torch.ones(1, 2), own.sd_grid(6), "belm(2)", stop=stop)


@pytest.mark.parametrize("other", [("belm(2)", own.sd_grid(7)), ("bdia(1)", own.sd_grid(6)), ("belm(2)", own.ddpm_grid(6))])
def test_a_state_goes_with_its_formula_and_grid(other):
    out = sample(own.tanh_network(), torch.ones(1, 2), own.sd_grid(6), "belm(2)")
    with pytest.raises(StateFileError, match="another grid or with other parameters"):
        invert(own.tanh_network(), out, other[1], other[0])


# ---- batches


@settings(max_examples=60)
@given(st.sampled_from(own.EXPLICIT), own.predictors(), st.integers(0, 1000), st.permutations(range(4)))
def test_samples_of_a_batch_do_not_know_of_each_other(name, predictor, seed, order):
    grid = Grid.from_sigma_bar(np.linspace(0.1, 1.0, 11))
    x = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    together = sample(predictor, x, grid, name).x
    close = dict(rtol=0.0, atol=(1e-7 if name == "belm(3)" else 1e-12) * float(together.abs().max()))
    assert torch.allclose(sample(predictor, x[list(order)], grid, name).x, together[list(order)], **close)
    assert torch.allclose(torch.cat([sample(predictor, one[None], grid, name).x for one in x]), together, **close)


@pytest.mark.parametrize("name", ["bdf(2)", "deis(2)", "ddim"])
def test_iterations_treat_samples_alike(name, generator):
    grid = Grid.from_sigma_bar(np.linspace(0.3, 1.0, 11))
    x = noise((4, 3), generator)
    together = invert(own.tanh_network(), x, grid, name, tolerance=1e-14, max_iterations=1000).x
    alone = torch.cat([invert(own.tanh_network(), one[None], grid, name, tolerance=1e-14, max_iterations=1000).x for one in x])
    assert torch.allclose(alone, together, rtol=1e-9, atol=1e-9)


@given(own.tensors(), st.sampled_from(own.EXPLICIT))
def test_shapes_are_kept(x, name):
    out = sample(own.tanh_network(), x, Grid.from_sigma_bar(np.linspace(0.1, 1.0, 9)), name)
    assert out.x.shape == x.shape and out.values.shape[1:] == x.shape


def test_layouts_do_not_matter(generator):
    x = noise((2, 3, 4, 4), generator).to(memory_format=torch.channels_last)
    grid = own.sd_grid(6)
    a = sample(own.tanh_network(), x, grid, "belm(2)").x
    assert torch.equal(a, sample(own.tanh_network(), x.contiguous(), grid, "belm(2)").x)
    transposed = x.transpose(2, 3)
    b = sample(own.tanh_network(), transposed, grid, "belm(2)").x
    assert torch.allclose(b.transpose(2, 3), a, rtol=1e-12, atol=1e-12)


# ---- dtypes


@pytest.mark.parametrize("name", ["ddim", "belm(2)", "edict(0.93)", "adams_bashforth(3)", "bdf(2)", "stable_belm(3)"])
@pytest.mark.parametrize("arithmetic", own.DTYPES)
@pytest.mark.parametrize("network", own.DTYPES)
def test_states_and_network_have_dtypes_of_their_own(name, arithmetic, network, generator):
    seen = set()

    def net(x, t):
        seen.add((x.dtype, t.dtype))
        return 0.5 * torch.tanh(x)

    dtype = getattr(torch, network)
    predictor = Predictor(net, Schedule.linear(), dtype=dtype)
    grid = Grid.from_sigma_bar(np.linspace(0.1, 1.0, 9))
    x = noise((2, 3), generator)
    out = sample(predictor, x, grid, name, arithmetic=arithmetic)
    assert out.values.dtype == getattr(torch, arithmetic)
    assert seen == {(dtype, torch.float64 if network == "float64" else torch.float32)}
    reference = sample(Predictor(lambda x, t: 0.5 * torch.tanh(x), Schedule.linear()), x, grid, name)
    unit = max(torch.finfo(dtype).eps, torch.finfo(out.values.dtype).eps)
    assert float((out.x.double() - reference.x).abs().max()) < 40 * unit * float(x.abs().max())


@pytest.mark.parametrize("dtype", own.DTYPES)
def test_the_dtype_of_x_is_the_default(dtype):
    x = torch.ones(1, 2, dtype=getattr(torch, dtype))
    out = sample(own.tanh_network(), x, Grid.from_sigma_bar([0.1, 0.5, 1.0]), "belm(2)")
    assert out.values.dtype == x.dtype and out.record.arithmetic == dtype


def test_a_state_goes_on_in_its_own_arithmetic():
    grid = own.sd_grid(6)
    out = sample(own.tanh_network(), torch.ones(1, 2), grid, "belm(2)", arithmetic="float64")
    assert invert(own.tanh_network(), out, grid, "belm(2)").values.dtype == torch.float64


def test_half_precision_sums_are_rounded_once():
    # 1 + 2^-9 - 1 in float16 slots: a sum in float16 keeps 2^-9 only when formed in float32
    grid = Grid.from_sigma_bar([1.0, 2.0, 3.0])
    one = from_ode(lambda x, s: torch.ones_like(x))
    x = torch.full((1, 1), 1.0 + 2.0**-9, dtype=torch.float16)
    assert float(sample(one, x, grid, "ddim", stop=1).x) == 2.0**-9


def test_float32_states_differ_from_float64_ones_by_rounding_only(generator):
    x = noise((2, 3), generator)
    grid = own.ddpm_grid(50)
    double = sample(own.tanh_network(), x, grid, "belm(2)").x
    single = sample(own.tanh_network(), x, grid, "belm(2)", arithmetic="float32").x
    error = float((double - single).abs().max()) / float(double.abs().max())
    assert 0.0 < error < 1e-5


# ---- arguments


GRID = own.sd_grid(6)
ONES = torch.ones(1, 2)


@pytest.mark.parametrize("call", [sample, invert])
@pytest.mark.parametrize(
    "change, error, message",
    [
        (dict(predictor=lambda x, t: x), TypeError, "predictor must be"),
        (dict(grid=[0.1, 0.2]), TypeError, "grid must be"),
        (dict(formula=3), TypeError, "formula must be"),
        (dict(formula="belm(1)"), ValueError, "k must be"),
        (dict(formula="blem(2)"), ValueError, "not known"),
        (dict(x=np.ones((1, 2))), TypeError, "x must be a tensor"),
        (dict(x=torch.ones(1, 2, dtype=torch.int64)), ValueError, "floating tensor"),
        (dict(x=torch.ones(3)), ValueError, "floating tensor"),
        (dict(x=torch.ones(0, 3)), ValueError, "not empty"),
        (dict(x=torch.tensor([[1.0, float("nan")]])), ValueError, "not finite"),
        (dict(arithmetic="float8"), ValueError, "arithmetic='float8' is not known"),
        (dict(tolerance=0.0), ValueError, "tolerance must be positive"),
        (dict(tolerance=float("nan")), ValueError, "tolerance must be positive"),
        (dict(max_iterations=0), ValueError, "max_iterations must be at least 1"),
        (dict(formula="belm(7)"), ValueError, "at least 7 steps"),
    ],
)
def test_bad_arguments_are_named(call, change, error, message):
    arguments = dict(predictor=own.tanh_network(), x=ONES, grid=GRID, formula="belm(2)") | change
    positional = [arguments.pop(n) for n in ("predictor", "x", "grid", "formula")]
    with pytest.raises(error, match=message):
        call(*positional, **arguments)


def test_integrate_checks_its_arguments_too():
    with pytest.raises(TypeError, match="predictor must be"):
        integrate(lambda x, t: x, ONES, [0.1, 0.2])
    with pytest.raises((TypeError, ValueError), match="x must be"):
        integrate(own.tanh_network(), np.ones((1, 2)), [0.1, 0.2])
    with pytest.raises(ValueError, match="arithmetic"):
        integrate(own.tanh_network(), ONES, [0.1, 0.2], arithmetic="int8")
    with pytest.raises(ValueError, match="starter="):
        integrate(own.tanh_network(), ONES, [0.1, 0.2], "rk5")


def test_the_result_says_how_it_was_made():
    out = sample(own.tanh_network(), ONES, GRID, "belm(2)", starter="heun")
    r = out.record
    assert isinstance(out, State)
    assert (r.formula, r.direction, r.node, r.starter, r.arithmetic) == ("belm(2)", "sampling", 0, "heun", "float32")
    assert r.nfe == out.nfe == 7
    assert r.sigma_bar == 0.0 and r.residual == 0.0
    assert "belm(2)" in repr(out) and "nfe 7" in repr(out)


def test_repeating_a_run_repeats_every_bit(generator):
    x = noise((2, 3, 4), generator, torch.float32)
    for name in own.EXPLICIT:
        first, second = (sample(own.tanh_network(), x, own.sd_grid(8, own.final(name)), name) for _ in range(2))
        assert torch.equal(first.values, second.values)


# ---- warnings


def warnings_of(call, name, steps=20):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(own.linear_ode(), torch.ones(1, 2, dtype=torch.float64), own.sd_grid(steps), name)
    return [w for w in caught if issubclass(w.category, ZeroStabilityWarning)]


@pytest.mark.parametrize("call", [sample, invert])
def test_a_march_that_blows_up_is_announced_every_time(call):
    """Whether it is shown again is for Python's warning filters to say: by default once for each line that calls."""
    for _ in range(2):
        (warning,) = warnings_of(call, "belm(3)")
        assert "belm(3)" in str(warning.message) and warning.filename == __file__


@pytest.mark.parametrize("name", ["edict(0.93)", "mccallum_foster(0.999)", "ddim"])
def test_sampling_warns_where_stability_says_inaccurate(name):
    report = stability(formulas.by_name(name), own.sd_grid(10))
    assert report.too_coarse == ("inaccurate" in report.sentence) == (name != "ddim")
    assert bool(warnings_of(sample, name, 10)) == report.too_coarse


def test_safe_marches_are_silent():
    for name in ("ddim", "belm(2)", "stable_belm(3)", "adams_bashforth(3)", "bdf(2)", "bdia(0.5)"):
        assert not warnings_of(sample, name)
    for name in ("belm(2)", "stable_belm(3)", "mccallum_foster(1)", "bdia(1)"):
        assert not warnings_of(invert, name)


def test_an_inverse_that_blows_up_is_announced():
    assert not warnings_of(sample, "bdia(0.5)")
    assert warnings_of(invert, "bdia(0.5)")
