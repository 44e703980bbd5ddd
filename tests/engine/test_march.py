"""The engine against plain loops, its counts, and what it watches for."""

import numpy as np
import pytest
import strategies as own
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import alpha_at, euler_states, invert_multistep, sample_multistep
from torch.utils._python_dispatch import TorchDispatchMode

from vsvf import ConvergenceError, Grid, NonFiniteError, Schedule, formulas, integrate, invert, sample
from vsvf.engine.evaluator import Evaluator
from vsvf.engine.march import Question
from vsvf.predictors import ClosedForm, Predictor, from_ode


class Recorder(ClosedForm):
    """A closed-form predictor that keeps what it was asked."""

    def __init__(self, function=lambda x, s: torch.sin(x), schedule=None):
        super().__init__(function, schedule)
        self.levels, self.inputs = [], []

    def epsilon(self, x, sigma_bar, t=None):
        self.levels.append(float(sigma_bar))
        self.inputs.append(x.clone())
        return super().epsilon(x, sigma_bar, t)


# ---- equal to a plain loop


@settings(max_examples=80)
@given(st.sampled_from(own.MULTISTEP), own.predictors(), own.tensors(), st.data())
def test_sampling_equals_a_plain_loop(name, predictor, x, data):
    formula = formulas.by_name(name)
    grid = data.draw(own.grids(min_steps=formula.steps, max_steps=formula.steps + 5, zero=False))
    tolerance = {} if name in own.EXPLICIT else {"tolerance": 1e-14, "max_iterations": 300}
    try:
        out = sample(predictor, x, grid, formula, **tolerance)
        downwards = grid.sigma_bar[::-1]
        first = euler_states(predictor, x / alpha_at(predictor, downwards[0]), downwards[: formula.steps])
        states = sample_multistep(predictor, first, grid, formula)
    except ConvergenceError:  # a step too large for a fixed-point iteration
        return
    expected = states[-1] * alpha_at(predictor, grid.sigma_bar[0])
    size = max(1.0, max(float(z.abs().max()) for z in states))
    assert torch.allclose(out.x, expected, rtol=0.0, atol=(1e-10 if name == "belm(3)" else 1e-11) * size)
    window = torch.stack([z * alpha_at(predictor, s) for z, s in zip(states, downwards)][-formula.steps :])
    assert torch.allclose(out.values, window, rtol=0.0, atol=1e-10 * size)


@settings(max_examples=80)
@given(st.sampled_from([n for n in own.BACKWARD_EXPLICIT if n in own.MULTISTEP and "bdf" not in n]), own.tensors(), st.data())
def test_inversion_equals_a_plain_loop(name, x, data):
    predictor = data.draw(own.predictors())
    formula = formulas.by_name(name)
    grid = data.draw(own.grids(min_steps=formula.steps, max_steps=formula.steps + 5, zero=False))
    out = invert(predictor, x, grid, formula)
    upwards = grid.sigma_bar
    first = euler_states(predictor, x / alpha_at(predictor, upwards[0]), upwards[: formula.steps])
    states = invert_multistep(predictor, first, grid, formula)
    size = max(1.0, max(float(z.abs().max()) for z in states))
    assert torch.allclose(out.x, states[-1] * alpha_at(predictor, upwards[-1]), rtol=0.0, atol=1e-10 * size)


@pytest.mark.parametrize("name", [f"bdf({k})" for k in range(1, 7)])
def test_bdf_is_inverted_explicitly(name, generator):
    formula = formulas.by_name(name)
    grid = Grid.from_sigma_bar(np.linspace(0.3, 1.0, formula.steps + 5))
    x = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    predictor = own.linear_ode()
    first = euler_states(predictor, x, grid.sigma_bar[: formula.steps])
    states = invert_multistep(predictor, first, grid, formula)
    out = invert(predictor, x, grid, formula, arithmetic="float64")
    alpha = 1.0
    assert torch.allclose(out.x, states[-1] * alpha, rtol=1e-9, atol=0.0)


# ---- the sign test


@settings(max_examples=80)
@given(st.sampled_from(own.METHODS), st.data())
def test_a_constant_slope_is_integrated_exactly_by_sampling(name, data):
    formula = formulas.by_name(name)
    grid = data.draw(own.grids(min_steps=formula.steps, max_steps=formula.steps + 6, name=name))
    one = from_ode(lambda x, s: torch.ones_like(x))
    top, bottom = grid.sigma_bar[[-1, 0]]
    out = sample(one, torch.full((2, 3), top, dtype=torch.float64), grid, formula)
    growth = companion_growth(formula.plan(grid))
    assert torch.allclose(out.x, torch.full((2, 3), bottom, dtype=torch.float64), rtol=0.0, atol=200 * growth * 2**-53 * top)


@settings(max_examples=80)
@given(st.sampled_from([n for n in own.METHODS if n in own.BACKWARD_EXPLICIT or n in ("ddim", "adams_moulton(1)")]), st.data())
def test_a_constant_slope_is_integrated_exactly_by_inversion(name, data):
    formula = formulas.by_name(name)
    grid = data.draw(own.grids(min_steps=formula.steps, max_steps=formula.steps + 6, name=name))
    one = from_ode(lambda x, s: torch.ones_like(x))
    bottom, top = grid.sigma_bar[[0, -1]]
    back = invert(one, torch.full((2, 3), bottom, dtype=torch.float64), grid, formula)
    growth = companion_growth(formula.plan(grid).inverse())
    assert torch.allclose(back.x, torch.full((2, 3), top, dtype=torch.float64), rtol=0.0, atol=200 * growth * 2**-53 * top)


def companion_growth(plan, slope=0.0):
    """Largest ||C_m … C_n|| of the plan's recursion for eps = slope(node) z, times the rows' own size."""
    k = plan.steps
    growth, size = 1.0, max(1.0, float(np.abs(plan.a).sum(1).max()))
    products = []
    for m in range(plan.rows):
        companion = np.eye(k, k=-1)
        companion[0] = plan.a[m]
        products = [companion @ p for p in products] + [companion]
        growth = max(growth, max(float(np.abs(p).sum(1).max()) for p in products))
    return growth * size * plan.rows


# ---- function evaluations


@pytest.mark.parametrize("name", [n for n in own.EXPLICIT if n in own.MULTISTEP])
@pytest.mark.parametrize("steps", [6, 11])
def test_an_explicit_method_evaluates_once_per_step(name, steps):
    grid = own.ddpm_grid(steps, own.final(name))
    recorder = Recorder(schedule=Schedule.linear())
    out = sample(recorder, torch.zeros(1, 2, dtype=torch.float64) + 0.1, grid, name)
    assert out.nfe == steps
    assert recorder.levels == grid.sigma_bar[:0:-1].tolist()


@pytest.mark.parametrize("name", [n for n in own.BIDIRECTIONAL if n in own.MULTISTEP])
def test_the_way_back_from_a_state_evaluates_the_inner_nodes(name):
    grid = own.ddpm_grid(12, own.final(name))
    out = sample(own.tanh_network(), torch.full((1, 2), 0.1, dtype=torch.float64), grid, name)
    recorder = Recorder(schedule=Schedule.linear())
    back = invert(recorder, out, grid, name)
    assert back.nfe == 11
    assert sorted(recorder.levels) == grid.sigma_bar[1:-1].tolist()


@pytest.mark.parametrize("name", [n for n in own.BIDIRECTIONAL if n in own.MULTISTEP])
def test_inverting_an_image_evaluates_once_per_step(name):
    grid = own.ddpm_grid(12, own.final(name))
    recorder = Recorder(schedule=Schedule.linear())
    assert invert(recorder, torch.full((1, 2), 0.1, dtype=torch.float64), grid, name).nfe == 12
    assert sorted(recorder.levels) == grid.sigma_bar[:-1].tolist()


@pytest.mark.parametrize("name", own.COUPLED)
def test_coupled_methods_evaluate_twice_per_step_both_ways(name):
    grid = own.ddpm_grid(7)
    recorder = Recorder(schedule=Schedule.linear())
    out = sample(recorder, torch.full((1, 2), 0.1, dtype=torch.float64), grid, name)
    assert out.nfe == len(recorder.levels) == 14
    assert invert(recorder, out, grid, name).nfe == 14


@pytest.mark.parametrize("name", own.EXPLICIT)
def test_no_state_is_evaluated_twice(name):
    grid = own.sd_grid(9, own.final(name))
    recorder = Recorder(schedule=Schedule.scaled_linear())
    x = torch.linspace(-1.0, 1.0, 4, dtype=torch.float64)[None]
    out = sample(recorder, x, grid, name, starter="rk4")
    seen = {(level, tuple(value.flatten().tolist())) for level, value in zip(recorder.levels, recorder.inputs)}
    assert len(seen) == len(recorder.levels) == out.nfe


@pytest.mark.parametrize("name", [n for n in own.EXPLICIT if not n.startswith(("mccallum", "corrected", "pec"))])
def test_the_final_state_is_not_evaluated(name):
    recorder = Recorder(schedule=Schedule.scaled_linear())
    sample(recorder, torch.full((1, 2), 0.1, dtype=torch.float64), own.sd_grid(9, own.final(name)), name)
    assert own.sd_grid(9, own.final(name)).sigma_bar[0] not in recorder.levels


def test_every_row_of_an_implicit_method_counts_its_iterations():
    grid = Grid.from_sigma_bar(np.linspace(0.0, 2.0, 21))
    recorder = Recorder(lambda x, s: 0.1 * torch.sin(x), Schedule.linear())
    out = sample(recorder, torch.full((1, 2), 0.1, dtype=torch.float64), grid, "bdf(2)")
    assert out.nfe == len(recorder.levels) > 2 * 19


# ---- what is watched for


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("direction", [sample, invert])
def test_a_prediction_that_is_not_finite_is_named(direction, bad):
    calls = []

    def network(x, s):
        calls.append(s)
        out = torch.sin(x)
        if len(calls) == 4:
            out.view(-1)[-1] = bad
        return out

    grid, x = own.ddpm_grid(10), torch.full((2, 3), 0.1, dtype=torch.float64)
    for every, made in ((None, 10), (1, 4), (3, 6)):  # read at the end, or every so many evaluations
        calls.clear()
        with pytest.raises(NonFiniteError, match="evaluation 4") as caught:
            direction(ClosedForm(network, Schedule.linear()), x, grid, "belm(2)", check_every=every)
        assert f"sigma_bar = {calls[3]:.6g}" in str(caught.value)
        assert "belm(2)" in str(caught.value)
        assert len(calls) == made


def test_the_step_of_a_bad_prediction_is_counted_from_the_start_of_the_march():
    def network(x, s):
        return torch.full_like(x, float("nan")) if s < 0.5 else torch.sin(x)

    grid = Grid.from_sigma_bar(np.linspace(0.05, 1.05, 11))
    bad = int(np.flatnonzero(grid.sigma_bar[::-1] < 0.5)[0])
    with pytest.raises(NonFiniteError, match=f"state {bad} "):
        sample(from_ode(network), torch.ones(1, 2, dtype=torch.float64), grid, "adams_bashforth(2)")


def test_changing_the_input_in_place_is_an_error():
    grid = own.ddpm_grid(5)

    class Careless(Predictor):
        """Overrides what hands the network a copy."""

        def epsilon(self, x, sigma_bar, t=None):
            return x.mul_(0.5)

    predictor = Careless(lambda x, t: x, Schedule.linear())
    with pytest.raises(ValueError, match="in place"):
        sample(predictor, torch.ones(1, 2, dtype=torch.float64), grid, "belm(2)")


@pytest.mark.parametrize("arithmetic", ["float32", "fixed"])
@pytest.mark.parametrize("name", ["ddim", "belm(2)", "stable_belm(4)", "edict(0.93)"])
@pytest.mark.parametrize("way", [sample, invert])
def test_a_march_reads_the_device_no_oftener_when_it_is_longer(way, name, arithmetic):
    """Every number that leaves a tensor for Python makes a GPU's queue wait: their count must not depend on N."""
    if name == "ddim" and (way is invert or arithmetic == "fixed"):
        return  # its inverse is an iteration

    class Counting(TorchDispatchMode):
        reads = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            copies = function is torch.ops.aten._to_copy.default
            self.reads += function is torch.ops.aten._local_scalar_dense.default or (copies and kwargs.get("device") is not None)
            return function(*args, **(kwargs or {}))

    counts = []
    for steps in (10, 40):
        grid = Grid.from_schedule(Schedule.linear(), steps, "log_snr", "smallest")
        with Counting() as counting:
            way(own.tanh_network(), torch.full((1, 4), 0.1), grid, name, arithmetic=arithmetic, warn=False)
        counts.append(counting.reads)
    assert counts[0] == counts[1]


def test_the_callers_noise_is_left_alone(generator):
    x = torch.randn(2, 3, generator=generator)
    before = x.clone()
    grid = Grid.from_sigma_bar(np.linspace(0.1, 0.9, 9))
    for name in ("ddim", "belm(2)", "edict(0.93)", "bdf(2)", "deis(2)"):
        sample(own.tanh_network(), x, grid, name)
        invert(own.tanh_network(), x, grid, name)
        assert torch.equal(x, before)


def test_an_overflow_is_an_error():
    grid = own.ddpm_grid(100)
    with pytest.raises(NonFiniteError, match=r"belm\(4\)"):
        sample(own.tanh_network(), torch.ones(1, 2), grid, "belm(4)")


def test_marching_under_inference_mode():
    x = torch.full((1, 2), 0.3, dtype=torch.float64)
    expected = sample(own.tanh_network(), x, own.ddpm_grid(6), "belm(2)").x
    with torch.inference_mode():
        assert torch.equal(sample(own.tanh_network(), x.clone(), own.ddpm_grid(6), "belm(2)").x, expected)


def test_no_graph_is_kept():
    layer = torch.nn.Linear(3, 3)
    x = torch.ones(2, 3, requires_grad=True)
    predictor = Predictor(lambda x, t: layer(x), Schedule.linear())
    grid = Grid.from_sigma_bar(np.linspace(0.1, 0.9, 9))
    for name in ("belm(2)", "edict(0.93)", "bdf(1)"):
        assert not sample(predictor, x, grid, name).values.requires_grad
        assert not invert(predictor, x, grid, name).values.requires_grad
    assert not invert(predictor, x, grid, "deis(2)").values.requires_grad
    assert not integrate(predictor, x, grid.sigma_bar)[0].requires_grad


def test_an_implicit_row_that_cannot_be_solved_says_so():
    jump = from_ode(lambda x, s: torch.where(x > 0.5, 50.0, -50.0).to(x))  # x = 1 - h f(x) has no solution
    grid = Grid.from_sigma_bar(np.linspace(0.1, 1.1, 6))
    with pytest.raises(ConvergenceError, match="implicit row") as caught:
        sample(jump, torch.ones(1, 2, dtype=torch.float64), grid, "bdf(1)", max_iterations=20)
    assert caught.value.iterations == 20
    assert caught.value.residual > 0.1


def test_rows_at_which_a_plain_iteration_would_diverge_are_solved():
    """Backward Euler of x' = -50 x: the plain iteration multiplies its error by -10, the accelerated one solves a linear row."""
    grid = Grid.from_sigma_bar(np.linspace(0.1, 1.1, 6))
    x = sample(from_ode(lambda x, s: -50.0 * x), torch.ones(1, 2, dtype=torch.float64), grid, "bdf(1)", max_iterations=20).x
    assert torch.allclose(x, torch.full_like(x, (1.0 - 10.0) ** -5), rtol=1e-7)


def test_implicit_rows_are_solved_to_the_tolerance():
    grid = Grid.from_sigma_bar(np.linspace(0.2, 1.0, 9))
    predictor = own.linear_ode()
    x = torch.ones(1, 2, dtype=torch.float64)
    exact = x.clone()
    for here, there in zip(grid.sigma_bar[:0:-1], grid.sigma_bar[-2::-1]):  # backward Euler of a linear ODE, in closed form
        exact = exact / (1.0 - (there - here) * there / (there**2 + 0.25))
    for tolerance in (1e-4, 1e-8, 1e-13):
        out = sample(predictor, x, grid, "bdf(1)", tolerance=tolerance)
        assert float((out.x - exact).abs().max()) < 10 * tolerance


# ---- callbacks


@pytest.mark.parametrize("name", own.METHODS)
def test_the_callback_sees_every_row(name):
    grid = own.sd_grid(8, own.final(name))
    formula = formulas.by_name(name)
    seen = []

    def keep(step):
        seen.append((step.row, step.rows, step.sigma_bar, step.x.clone(), step.nfe))

    out = sample(own.tanh_network(), torch.full((1, 2), 0.3, dtype=torch.float64), grid, name, callback=keep)
    plan = formula.plan(grid)
    assert [row for row, *_ in seen] == list(range(1, plan.rows + 1))
    assert {rows for _, rows, *_ in seen} == {plan.rows}
    assert [s for _, _, s, *_ in seen] == plan.position[plan.steps :].tolist()
    assert torch.equal(seen[-1][3], out.values[-1])
    counts = [nfe for *_, nfe in seen]
    assert counts == sorted(counts) and counts[-1] == out.nfe


def test_the_callback_of_an_inversion_climbs():
    grid = own.sd_grid(8)
    seen = []
    invert(own.tanh_network(), torch.ones(1, 2), grid, "belm(2)", callback=lambda step: seen.append(step.sigma_bar))
    assert seen == grid.sigma_bar[2:].tolist()


def test_a_callback_may_stop_the_march():
    class Enough(Exception):
        pass

    def stop(step):
        if step.row == 3:
            raise Enough

    with pytest.raises(Enough):
        sample(own.tanh_network(), torch.ones(1, 2), own.sd_grid(8), "belm(2)", callback=stop)


def test_a_progress_bar_on_request(capsys):
    sample(own.tanh_network(), torch.ones(1, 2), own.sd_grid(8), "belm(2)")
    assert capsys.readouterr().err == ""
    sample(own.tanh_network(), torch.ones(1, 2), own.sd_grid(8), "belm(2)", progress=True)
    assert "belm(2) sampling" in capsys.readouterr().err


def test_an_evaluator_counts():
    plan = formulas.ddim().plan(own.sd_grid(4))
    evaluate = Evaluator(own.tanh_network(), [plan])
    for _ in range(3):
        evaluate(Question(torch.ones(1, 2), 0, plan))
    assert evaluate.nfe == 3


# ---- what networks may do with tensors


GENTLE = Grid.from_sigma_bar(np.linspace(0.1, 0.9, 10))
CAREFUL = {"tolerance": 1e-13, "max_iterations": 300}


@pytest.mark.parametrize("name", own.METHODS)
def test_a_network_may_return_the_same_memory_every_time(name, generator):
    x = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    memory = torch.empty(2, 3, dtype=torch.float64)

    def reusing(x, t):
        return torch.tanh(x, out=memory)

    expected = sample(Predictor(lambda x, t: torch.tanh(x), Schedule.linear()), x, GENTLE, name, **CAREFUL)
    found = sample(Predictor(reusing, Schedule.linear()), x, GENTLE, name, **CAREFUL)
    assert torch.equal(found.values, expected.values)
    again = Predictor(reusing, Schedule.linear())
    half = sample(again, x, GENTLE, name, stop=3, **CAREFUL)  # going on from a state asks for several slopes at once
    assert torch.allclose(sample(again, half, GENTLE, name, **CAREFUL).x, expected.x, rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("name", own.METHODS)
def test_a_network_may_return_its_input(name, generator):
    x = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    expected = sample(Predictor(lambda x, t: x.clone(), Schedule.linear()), x, GENTLE, name, **CAREFUL)
    for same in (lambda x, t: x, lambda x, t: x.view(2, 3), lambda x, t: x.flip(0).flip(0)):
        assert torch.equal(sample(Predictor(same, Schedule.linear()), x, GENTLE, name, **CAREFUL).values, expected.values)


@pytest.mark.parametrize("name", ["belm(2)", "adams_bashforth(3)", "bdf(2)"])
def test_a_network_may_return_any_layout(name, generator):
    x = torch.randn(4, 4, dtype=torch.float64, generator=generator)
    for layout in (lambda x, t: torch.tanh(x.t()).t(), lambda x, t: torch.tanh(x[:, :1]).expand(4, 4)):
        expected = sample(Predictor(lambda x, t, f=layout: f(x, t).contiguous().clone(), Schedule.linear()), x, GENTLE, name)
        assert torch.equal(sample(Predictor(layout, Schedule.linear()), x, GENTLE, name).values, expected.values)


@pytest.mark.parametrize("name", own.METHODS)
def test_watching_does_not_change_the_march(name, generator):
    x = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    plain = sample(own.tanh_network(), x, GENTLE, name, **CAREFUL).values
    watched = sample(own.tanh_network(), x, GENTLE, name, callback=lambda step: None, **CAREFUL).values
    assert torch.allclose(watched, plain, rtol=0.0, atol=1e-7 if name == "belm(3)" else 1e-12)


@pytest.mark.parametrize("dtype", own.DTYPES)
@pytest.mark.parametrize("name", ["ddim", "belm(2)", "belm(3)", "adams_bashforth(4)", "edict(0.93)", "bdf(2)"])
def test_large_states_march_as_small_ones(name, dtype, generator):
    """More entries than any block that the engine might cut a state into, and not a multiple of one."""
    grid = Grid.from_sigma_bar([0.1, 0.2, 0.35, 0.5, 0.75, 1.0])
    x = torch.randn(1, 300_007, generator=generator, dtype=torch.float64)
    options = {} if name in own.EXPLICIT else {"tolerance": 1e-2}
    large = sample(own.tanh_network(), x, grid, name, arithmetic=dtype, **options).x
    unit = torch.finfo(large.dtype).eps
    for part in (slice(0, 50), slice(150_000, 150_050), slice(299_957, 300_007)):
        small = sample(own.tanh_network(), x[:, part], grid, name, arithmetic=dtype, **options).x
        atol = (1e4 if name == "belm(3)" else 30) * unit * 5.0
        if name in own.EXPLICIT:
            assert torch.allclose(large[:, part], small, rtol=0.0, atol=atol)
        else:  # the whole decides when the iteration has converged
            assert torch.allclose(large[:, part], small, rtol=0.0, atol=0.2)


def test_an_implicit_row_keeps_its_last_slope():
    """One iteration per row: two slopes for the first row, one for each of the N - 1 rows; none is evaluated again."""
    recorder = Recorder()
    out = sample(recorder, torch.ones(1, 2, dtype=torch.float64), GENTLE, "adams_moulton(2)", tolerance=1e6)
    assert out.nfe == len(recorder.levels) == 2 + GENTLE.steps - 1
