"""Gradients through a march, against plain autograd over the rows written out, and against central differences."""

import warnings

import numpy as np
import pytest
import torch

import vsvf
from vsvf import formulas
from vsvf.engine.trail import TRAILS
from vsvf.predictors import Predictor
from vsvf.predictors.guidance import Guided

SCHEDULE = vsvf.Schedule.linear()
EXACT = [
    m
    for m in formulas.METHODS
    if formulas.by_name(m).plan(vsvf.Grid.from_schedule(SCHEDULE, 12, final="smallest")).bidirectionally_explicit
]
AMPLIFYING = ["belm(3)", "edict(0.93)"]  # retraced with growing errors: by roots of -2.6 or so, by 1 / (2 p - 1) a step


class Small(torch.nn.Module):
    """Smooth, and with every kind of input: state, time, condition, parameters."""

    def __init__(self, generator, width=6):
        super().__init__()
        shape = (width, width)
        self.first = torch.nn.Parameter(0.5 * torch.randn(shape, generator=generator, dtype=torch.float64))
        self.second = torch.nn.Parameter(0.5 * torch.randn(shape, generator=generator, dtype=torch.float64))
        self.unused = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, x, t, condition):
        return torch.tanh(x @ self.first + condition + 1e-3 * t[:, None]) @ self.second


@pytest.fixture
def toy(generator):
    return make_toy(generator)


def make_toy(generator):
    network = Small(generator)
    condition = torch.randn((2, 6), generator=generator, dtype=torch.float64).requires_grad_()
    null = torch.zeros((1, 6), dtype=torch.float64)
    scale = torch.tensor([1.5, 2.0], dtype=torch.float64).requires_grad_()
    predictor = Predictor(Guided(network, condition, null, scale), SCHEDULE)
    x = torch.randn((2, 6), generator=generator, dtype=torch.float64).requires_grad_()
    return predictor, x, [condition, scale]


def written_out(predictor, x, grid, formula, direction="sampling", starter="ddim"):
    """The march as one expression in torch, every state and slope kept: the k last states, in sampling order."""
    plan = formulas.by_name(formula).plan(grid)
    rows = plan if direction == "sampling" else plan.inverse()
    positions = rows.position[: rows.steps]
    if np.all(positions == positions[0]):
        first = [x] * rows.steps
    else:
        begin = vsvf.starter.starter_by_name(starter).plan(positions)
        found = marched(predictor, [x] * begin.steps, begin)
        stages = vsvf.starter.starter_by_name(starter).evaluations
        first = [found[begin.steps - 1 + n * stages] for n in range(rows.steps)]
    last = torch.stack(marched(predictor, first, rows)[-rows.steps :])
    return last if direction == "sampling" else last.flip(0)


def marched(predictor, states, rows):
    alpha = predictor.alpha(rows.node)
    states, slopes = list(states), {}
    for m in range(rows.rows):
        new, total = m + rows.steps, 0.0
        for j in range(1, rows.steps + 1):
            s = new - j
            if rows.a[m, j - 1] != 0.0:
                total = total + rows.a[m, j - 1] * states[s] / alpha[s]
            if rows.c[m, j] != 0.0:
                if s not in slopes:
                    slopes[s] = predictor.epsilon(states[s], rows.node[s])
                total = total + rows.c[m, j] * slopes[s]
        states.append(alpha[new] * total)
    return states


def gradients(value, tensors):
    return torch.autograd.grad(value, tensors, allow_unused=True)


def assert_close(found, wanted, tolerance=1e-10):
    for n, (f, w) in enumerate(zip(found, wanted, strict=True)):
        assert (f is None) == (w is None), n
        if w is not None:
            assert f.dtype == w.dtype and f.shape == w.shape
            assert float((f - w).abs().max()) <= tolerance * float(w.abs().max()), n


def probe(values):
    """A number that depends on every entry of every state."""
    return (values * torch.linspace(-1.0, 2.0, values.numel(), dtype=values.dtype).view_as(values)).sum() + values.square().sum()


def even_grid(count):
    """Equal steps of sigma_bar, on which the retracing amplifies as little as a formula allows."""
    return vsvf.Grid.from_sigma_bar(np.linspace(0.02, 4.0, count + 1))


@pytest.mark.parametrize("count", [10, 200])
@pytest.mark.parametrize("formula", [m for m in EXACT if m not in AMPLIFYING])
def test_reversible_equals_autograd_over_the_rows(toy, formula, count):
    predictor, x, inputs = toy
    grid = even_grid(count)
    tensors = [x, *inputs, *predictor.network.network.parameters()]
    if (formula, count) == ("bdia(0.5)", 200):  # its inverse multiplies rounding by 2^200, and says so
        state = vsvf.sample(predictor, x, grid, formula, gradient="reversible", inputs=inputs)
        with pytest.warns(vsvf.RetraceWarning):
            gradients(probe(state.reals), tensors)
        return
    for direction, march in (("sampling", vsvf.sample), ("inversion", vsvf.invert)):
        state = march(predictor, x, grid, formula, gradient="reversible", inputs=inputs)
        found = gradients(probe(state.reals), tensors)
        values = written_out(predictor, x, grid, formula, direction)
        assert_close([state.values.detach()], [values.detach()])
        assert_close(found, gradients(probe(values), tensors))


@pytest.mark.parametrize("formula", AMPLIFYING)
def test_formulas_that_amplify_are_recomputed_or_fixed(toy, formula):
    predictor, x, inputs = toy
    grid = even_grid(40)
    values = written_out(predictor, x, grid, formula)
    wanted = gradients(probe(values), [x, *inputs])
    state = vsvf.sample(predictor, x, grid, formula, gradient="checkpoint", inputs=inputs)
    assert_close(gradients(probe(state.reals), [x, *inputs]), wanted)
    grid = even_grid(6)
    values = written_out(predictor, x, grid, formula)
    state = vsvf.sample(predictor, x, grid, formula, gradient="reversible", inputs=inputs)
    assert_close(gradients(probe(state.reals), [x, *inputs]), gradients(probe(values), [x, *inputs]))


@pytest.mark.parametrize("gradient", TRAILS)
@pytest.mark.parametrize("starter", ["ddim", "heun", "rk4:2"])
def test_starters_are_part_of_the_gradient(toy, gradient, starter):
    predictor, x, inputs = toy
    grid = vsvf.Grid.from_schedule(SCHEDULE, 12)
    tensors = [x, *inputs, *predictor.network.network.parameters()]
    for formula in ("belm(2)", "stable_belm(4)"):
        for march, direction in ((vsvf.sample, "sampling"), (vsvf.invert, "inversion")):
            state = march(predictor, x, grid, formula, starter=starter, gradient=gradient, inputs=inputs)
            assert state.nfe == march(predictor, x.detach(), grid, formula, starter=starter).nfe
            values = written_out(predictor, x, grid, formula, direction, starter)
            assert_close(gradients(state.x.square().sum(), tensors), gradients(values[state.record.image].square().sum(), tensors))


@pytest.mark.parametrize("gradient", ["stored", "checkpoint"])
@pytest.mark.parametrize("formula", ["ddim", "adams_bashforth(3)", "deis(3)", "dpm_solver_pp(3)", "bdia(1)", "edict(0.93)"])
def test_methods_that_do_not_invert(toy, gradient, formula):
    predictor, x, inputs = toy
    tensors = [x, *inputs, *predictor.network.network.parameters()]
    for count in (10, 37):
        grid = vsvf.Grid.from_schedule(SCHEDULE, count)
        state = vsvf.sample(predictor, x, grid, formula, gradient=gradient, inputs=inputs)
        values = written_out(predictor, x, grid, formula)
        assert_close(gradients(probe(state.reals), tensors), gradients(probe(values), tensors))


@pytest.mark.parametrize("gradient", TRAILS)
@pytest.mark.parametrize("formula", ["belm(2)", "edict(0.93)", "stable_belm(3)", "corrected(stable_belm(3), 0.7, 4)"])
def test_equal_to_central_differences(toy, formula, gradient):
    predictor, x, inputs = toy
    grid = vsvf.Grid.from_schedule(SCHEDULE, 12, final="smallest")
    tensors = [x, *inputs, predictor.network.network.first]

    def value(**options):
        return vsvf.sample(predictor, x, grid, formula, starter="heun", **options).x.square().sum()

    found = gradients(value(gradient=gradient, inputs=inputs), tensors)
    for tensor, derivative in zip(tensors, found):
        place, step = (0,) * tensor.ndim, 1e-5
        with torch.no_grad():
            kept = tensor[place].item()
            tensor[place] = kept + step
            above = float(value())
            tensor[place] = kept - step
            below = float(value())
            tensor[place] = kept
        assert float(derivative[place]) == pytest.approx((above - below) / (2.0 * step), rel=1e-6, abs=1e-8)


FITTED = ["power_fitted_belm(0.6, 5/6, 2.25, 0.85)", "corrected(stable_belm(3), 0.7, 4)", "root_placed_belm((-1,),0)"]


@pytest.mark.parametrize("formula", ["belm(2)", "bdia(1)", "edict(0.93)", "mccallum_foster(0.999)", "stable_belm(4)", *FITTED])
def test_fixed_point_gives_the_bits_of_the_kept_march(toy, formula):
    predictor, x, inputs = toy
    grid = vsvf.Grid.from_schedule(SCHEDULE, 40, final="smallest")
    tensors = [x, *inputs, *predictor.network.network.parameters()]
    for march in (vsvf.sample, vsvf.invert):
        found = {}
        for gradient in TRAILS:
            state = march(predictor, x, grid, formula, arithmetic="fixed", gradient=gradient, inputs=inputs)
            found[gradient] = gradients(probe(state.reals), tensors)
        plain = march(predictor, x, grid, formula, arithmetic="fixed")
        assert torch.equal(state.values, plain.values) and torch.equal(state.x.detach(), plain.x)
        for gradient in ("reversible", "checkpoint"):
            for one, other in zip(found[gradient], found["stored"], strict=True):
                assert (one is None) == (other is None)
                assert one is None or torch.equal(one, other)


def test_fixed_point_is_near_the_gradient_without_rounding(toy):
    predictor, x, inputs = toy
    grid = vsvf.Grid.from_schedule(SCHEDULE, 20)
    state = vsvf.sample(predictor, x, grid, "stable_belm(2)", arithmetic="fixed", gradient="reversible", inputs=inputs)
    values = written_out(predictor, x, grid, "stable_belm(2)")
    assert_close(gradients(probe(state.reals), [x, *inputs]), gradients(probe(values), [x, *inputs]), 1e-7)


@pytest.mark.parametrize("arithmetic", ["float64", "fixed"])
def test_gradients_go_through_an_inversion_and_a_sampling_in_turn(toy, arithmetic):
    predictor, x, inputs = toy
    grid = vsvf.Grid.from_schedule(SCHEDULE, 20)
    options = {"gradient": "reversible", "inputs": inputs}
    noise = vsvf.invert(predictor, x, grid, "stable_belm(2)", arithmetic=arithmetic, **options)
    again = vsvf.sample(predictor, noise, grid, "stable_belm(2)", **options)
    by_x, by_condition, by_scale = gradients(again.x.sum(), [x, *inputs])
    # what goes up and comes down is the image itself
    assert torch.allclose(by_x, torch.ones_like(x), atol=1e-9)
    assert float(by_condition.abs().max()) < 1e-9 and float(by_scale.abs().max()) < 1e-9


@pytest.mark.parametrize("arithmetic", ["float64", "fixed"])
def test_all_first_states_have_a_gradient(toy, arithmetic):
    predictor, x, inputs = toy
    grid = vsvf.Grid.from_schedule(SCHEDULE, 16)
    noise = vsvf.invert(predictor, x.detach(), grid, "belm(2)", arithmetic=arithmetic).leaf()
    state = vsvf.sample(predictor, noise, grid, "belm(2)", gradient="reversible", inputs=inputs)
    state.x.square().sum().backward()
    plan = formulas.by_name("belm(2)").plan(grid)
    first = noise.reals.detach().requires_grad_()
    wanted = marched(predictor, list(first), plan)[-1]
    assert_close([noise.reals.grad], gradients(wanted.square().sum(), [first]), 1e-10 if arithmetic == "float64" else 1e-7)


@pytest.mark.parametrize("arithmetic", ["float16", "bfloat16", "float32"])
def test_coarse_states_have_coarse_gradients(toy, arithmetic):
    predictor, x, inputs = toy
    grid = vsvf.Grid.from_schedule(SCHEDULE, 10, final="smallest")
    wanted = gradients(written_out(predictor, x, grid, "stable_belm(2)")[-1].sum(), [x, *inputs])
    state = vsvf.sample(predictor, x, grid, "stable_belm(2)", arithmetic=arithmetic, gradient="reversible", inputs=inputs)
    found = gradients(state.x.double().sum(), [x, *inputs])
    assert_close(found, wanted, {"float16": 2e-2, "bfloat16": 2e-1, "float32": 1e-4}[arithmetic])


def test_memory_does_not_grow_with_the_steps(toy):
    predictor, x, inputs = toy
    held = {}
    for gradient in TRAILS:
        for count in (20, 200):
            state = vsvf.sample(
                predictor, x, vsvf.Grid.from_schedule(SCHEDULE, count), "stable_belm(2)", gradient=gradient, inputs=inputs
            )
            held[gradient, count] = reachable(state.x.grad_fn)
            state.x.sum().backward()
    assert held["reversible", 200] == held["reversible", 20]
    assert held["checkpoint", 200] <= 2.5 * held["checkpoint", 20]
    assert held["stored", 200] > 5 * held["stored", 20]


def reachable(node):
    """Tensors of a state's size or more that a march keeps for its backward pass."""
    import gc

    job = node.next_functions[0][0].job if hasattr(node, "next_functions") and not hasattr(node, "job") else node.job
    found, seen, open_objects = 0, set(), [job.trail.__dict__, job.started]
    while open_objects:
        for thing in gc.get_referents(open_objects.pop()):
            if id(thing) in seen or isinstance(thing, (type, torch.nn.Module)) or callable(thing):
                continue
            seen.add(id(thing))
            found += isinstance(thing, torch.Tensor) and thing.numel() >= 12
            open_objects.append(thing)
    return found


def test_the_march_itself_is_that_without_a_gradient(toy):
    predictor, x, inputs = toy
    grid = vsvf.Grid.from_schedule(SCHEDULE, 12)
    plain = vsvf.sample(predictor, x, grid, "stable_belm(3)")
    for gradient in TRAILS:
        state = vsvf.sample(predictor, x, grid, "stable_belm(3)", gradient=gradient, inputs=inputs)
        assert torch.equal(state.values.detach(), plain.values) and state.record == plain.record
        with torch.no_grad():
            assert not vsvf.sample(predictor, x, grid, "stable_belm(3)", gradient=gradient, inputs=inputs).x.requires_grad


def test_an_unstable_retracing_is_noticed_and_fixed_point_has_none(toy):
    predictor, x, inputs = toy
    grid = vsvf.Grid.from_schedule(SCHEDULE, 100, final="smallest")
    # O-BELM's inverse on this grid amplifies by (h_N / h_1)^2
    with pytest.warns(vsvf.RetraceWarning, match="away from where the march began"):
        vsvf.sample(predictor, x, grid, "belm(2)", arithmetic="float16", gradient="reversible", inputs=inputs).x.sum().backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error", vsvf.RetraceWarning)
        vsvf.sample(predictor, x, grid, "belm(2)", arithmetic="fixed", gradient="reversible", inputs=inputs).x.sum().backward()


# ---- what is refused ---------------------------------------------------------------------------------------


def test_what_cannot_be_differentiated_is_said(toy):
    predictor, x, inputs = toy
    grid = vsvf.Grid.from_schedule(SCHEDULE, 10)
    network = predictor.network.network
    with pytest.raises(ValueError, match="gradient='adjoint' is not known; choose one of reversible, stored, checkpoint"):
        vsvf.sample(predictor, x, grid, "belm(2)", gradient="adjoint")
    with pytest.raises(ValueError, match="not bidirectionally explicit: use 'checkpoint' or"):
        vsvf.sample(predictor, x, grid, "ddim", gradient="reversible", inputs=inputs)
    with pytest.raises(ValueError, match="its steps are implicit"):
        vsvf.sample(predictor, x, grid, "adams_moulton(2)", gradient="stored", inputs=inputs)
    for formula in ("ddim", "deis(2)"):
        with pytest.raises(ValueError, match="its inversion iterates"):
            vsvf.invert(predictor, x, grid, formula, gradient="stored", inputs=inputs)
    with pytest.raises(ValueError, match=r"tensor of shape \(2,\) that requires a gradient and is not named"):
        vsvf.sample(predictor, x, grid, "belm(2)", gradient="reversible", inputs=inputs[:1])
    with pytest.raises(TypeError, match=r"inputs must be a list of tensors"):
        vsvf.sample(predictor, x, grid, "belm(2)", gradient="reversible", inputs=inputs[0])
    with pytest.raises(ValueError, match=r"inputs\[0\], of shape \(2, 6\), requires no gradient"):
        vsvf.sample(predictor, x, grid, "belm(2)", gradient="reversible", inputs=[x.detach()])
    network.requires_grad_(False)
    fixed = Predictor(Guided(network, inputs[0].detach()), SCHEDULE)
    with pytest.raises(ValueError, match="neither x nor the network's parameters require a gradient"):
        vsvf.sample(fixed, x.detach(), grid, "belm(2)", gradient="reversible")


@pytest.mark.parametrize("gradient", TRAILS)
@pytest.mark.parametrize("without_graph", [torch.no_grad(), torch.inference_mode(), lambda call: lambda x, t: call(x, t).detach()])
def test_a_network_without_a_graph_is_said_at_the_first_evaluation(toy, gradient, without_graph):
    predictor, x, inputs = toy
    asked = []

    def network(x, t):
        asked.append(t)
        return predictor.network(x, t)

    grid = vsvf.Grid.from_schedule(SCHEDULE, 10)
    with pytest.raises(ValueError, match=r"the predictor's output has no graph.*under torch\.no_grad or torch\.inference_mode"):
        vsvf.sample(Predictor(without_graph(network), SCHEDULE), x, grid, "belm(2)", gradient=gradient, inputs=inputs)
    assert len(asked) == 1


def test_a_network_whose_weights_are_frozen_has_a_gradient_by_its_input(toy):
    predictor, x, inputs = toy
    predictor.network.network.requires_grad_(False)
    grid = vsvf.Grid.from_schedule(SCHEDULE, 10)
    state = vsvf.sample(predictor, x, grid, "belm(2)", gradient="reversible", inputs=inputs)
    values = written_out(predictor, x, grid, "belm(2)")
    assert_close(gradients(probe(state.reals), [x, *inputs]), gradients(probe(values), [x, *inputs]))


@pytest.mark.parametrize("gradient", TRAILS)
def test_a_second_derivative_is_refused(toy, gradient):
    predictor, x, inputs = toy
    state = vsvf.sample(predictor, x, vsvf.Grid.from_schedule(SCHEDULE, 5), "belm(2)", gradient=gradient, inputs=inputs)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        torch.autograd.grad(state.x.sum(), x, create_graph=True)


@pytest.mark.parametrize("gradient", ["reversible", "checkpoint"])
@pytest.mark.filterwarnings("ignore::vsvf.errors.TrainingModeWarning")
def test_dropout_is_refused_where_slopes_are_taken_again(toy, gradient):
    _, x, _ = toy
    network = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Dropout(0.5)).double()
    predictor = Predictor(lambda x, t: network(x), SCHEDULE)
    options = {"gradient": gradient, "inputs": list(network.parameters())}
    grid = vsvf.Grid.from_schedule(SCHEDULE, 5)
    with pytest.raises(vsvf.DeterminismError, match="put the network in eval mode"):
        vsvf.sample(predictor, x, grid, "belm(2)", **options)
    network.eval()
    assert vsvf.sample(predictor, x, grid, "belm(2)", **options).x.requires_grad


def test_a_prediction_that_is_not_finite_is_said_as_such(toy):
    _, x, _ = toy
    broken = Predictor(lambda x, t: x / 0.0 - x / 0.0, SCHEDULE)
    for gradient in TRAILS:
        with pytest.raises(vsvf.NonFiniteError, match="is not finite"):
            vsvf.sample(broken, x, vsvf.Grid.from_schedule(SCHEDULE, 5), "belm(2)", gradient=gradient)


def test_parameters_that_changed_since_the_march_are_refused(toy):
    predictor, x, inputs = toy
    state = vsvf.sample(predictor, x, vsvf.Grid.from_schedule(SCHEDULE, 5), "belm(2)", gradient="reversible", inputs=inputs)
    with torch.no_grad():
        predictor.network.network.first.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        state.x.sum().backward()


def test_a_graph_that_is_kept_can_be_used_again(toy):
    predictor, x, inputs = toy
    for gradient in TRAILS:
        state = vsvf.sample(predictor, x, vsvf.Grid.from_schedule(SCHEDULE, 8), "belm(2)", gradient=gradient, inputs=inputs)
        one = torch.autograd.grad(state.x.sum(), x, retain_graph=True)[0]
        assert torch.equal(torch.autograd.grad(state.x.sum(), x)[0], one)


def test_a_condition_that_was_computed_has_a_gradient_through_what_made_it(toy):
    predictor, x, _ = toy
    network = predictor.network.network
    raw = torch.ones((1, 6), dtype=torch.float64).requires_grad_()
    condition = torch.sin(raw)
    own = Predictor(Guided(network, condition), SCHEDULE)
    grid = vsvf.Grid.from_schedule(SCHEDULE, 8)
    state = vsvf.sample(own, x, grid, "belm(2)", gradient="reversible", inputs=[condition])
    found = torch.autograd.grad(state.x.sum(), raw, retain_graph=True)  # sin(raw) is used twice
    assert_close(found, gradients(written_out(own, x, grid, "belm(2)")[-1].sum(), [raw]))
