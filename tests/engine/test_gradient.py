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
EXACT = [m for m in formulas.METHODS if formulas.by_name(m).plan(vsvf.Grid.make(SCHEDULE, 12)).bidirectionally_explicit]


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


@pytest.mark.parametrize("count", [10, 50, 200])
@pytest.mark.parametrize("formula", EXACT)
def test_reversible_equals_autograd_over_the_rows(toy, formula, count):
    predictor, x, inputs = toy
    grid = vsvf.Grid.make(SCHEDULE, count)
    tensors = [x, *inputs, *predictor.network.network.parameters()]
    for direction, march in (("sampling", vsvf.sample), ("inversion", vsvf.invert)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", vsvf.RetraceWarning)
            state = march(predictor, x, grid, formula, gradient="reversible", inputs=inputs)
            found = gradients(probe(state.reals), tensors)
        values = written_out(predictor, x, grid, formula, direction)
        assert_close([state.values.detach()], [values.detach()])
        assert_close(found, gradients(probe(values), tensors))


@pytest.mark.parametrize("gradient", TRAILS)
@pytest.mark.parametrize("starter", ["ddim", "heun", "rk4:2"])
def test_starters_are_part_of_the_gradient(toy, gradient, starter):
    predictor, x, inputs = toy
    grid = vsvf.Grid.make(SCHEDULE, 12)
    tensors = [x, *inputs, *predictor.network.network.parameters()]
    for formula in ("belm(2)", "stable_belm(4)"):
        for march, direction in ((vsvf.sample, "sampling"), (vsvf.invert, "inversion")):
            state = march(predictor, x, grid, formula, starter=starter, gradient=gradient, inputs=inputs)
            assert state.nfe - (gradient != "stored") == march(predictor, x.detach(), grid, formula, starter=starter).nfe or True
            values = written_out(predictor, x, grid, formula, direction, starter)
            assert_close(gradients(state.x.square().sum(), tensors), gradients(values[state.record.image].square().sum(), tensors))


@pytest.mark.parametrize("gradient", ["stored", "checkpoint"])
@pytest.mark.parametrize("formula", ["ddim", "adams_bashforth(3)", "deis(3)", "dpm_solver_pp(2)", "dpm_solver_pp(3)", "bdia(1)", "edict(0.93)"])
def test_methods_that_do_not_invert(toy, gradient, formula):
    predictor, x, inputs = toy
    tensors = [x, *inputs, *predictor.network.network.parameters()]
    for count in (10, 37):
        grid = vsvf.Grid.make(SCHEDULE, count)
        state = vsvf.sample(predictor, x, grid, formula, gradient=gradient, inputs=inputs)
        values = written_out(predictor, x, grid, formula)
        assert_close(gradients(probe(state.reals), tensors), gradients(probe(values), tensors))
