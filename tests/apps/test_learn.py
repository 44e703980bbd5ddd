"""Numbers of a formula, learned: the gradient is that of marches by the engine, and what is learned holds on other noises."""

import math

import numpy as np
import pytest
import torch

import vsvf
from vsvf import formulas
from vsvf.apps.learn import DIRECTIONS, Case, learn, log_error
from vsvf.formulas.root_placed import roots_at
from vsvf.predictors import ClosedForm
from vsvf.state import State

SCHEDULE = vsvf.Schedule.linear()
VARIANCE = torch.linspace(0.05, 2.0, 6, dtype=torch.float64) ** 2


def gaussian():
    """The exact predictor of a Gaussian, whose solution is known: x_bar / sqrt(variance + sigma_bar^2) is constant."""
    return ClosedForm(lambda x_bar, s: x_bar * s / (s * s + VARIANCE), SCHEDULE)


def case(generator, steps):
    predictor, grid = gaussian(), vsvf.Grid.from_schedule(SCHEDULE, steps, "leading", "smallest")
    z = torch.randn((4, 6), generator=generator, dtype=torch.float64)
    path = {float(s): float(predictor.alpha(s)) * z * torch.sqrt(VARIANCE + s * s) for s in grid.sigma_bar.tolist()}
    return Case(predictor, grid, path)


def family(numbers):
    return formulas.root_placed_belm(roots_at([numbers[0]]), numbers[1])


def by_the_engine(numbers, here, direction):
    """The same error by `vsvf.sample` and `vsvf.invert`."""
    formula, grid = family(numbers), here.grid
    levels = grid.sigma_bar[::-1] if direction == "sampling" else grid.sigma_bar
    plan = formula.plan(grid)
    ends = plan.position[: plan.steps] if direction == "sampling" else plan.position[-plan.steps :]
    start = State.at(
        "noise" if direction == "sampling" else "data", torch.stack([here.path[float(s)] for s in ends]), formula, grid
    )
    march = vsvf.sample if direction == "sampling" else vsvf.invert
    error = march(here.predictor, start, grid, formula, warn=False).x - here.path[float(levels[-1])]
    size = 1.0 if direction == "sampling" else float(here.predictor.alpha(levels[-1]) * levels[-1])
    return float((error / size).square().mean().sqrt().log())


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_error_and_its_gradient_are_those_of_the_engines_march(generator, direction):
    here = case(generator, 12)
    numbers = torch.tensor([0.8, 1.2], dtype=torch.float64, requires_grad=True)
    loss = log_error(family, numbers, here, direction)
    assert float(loss.detach()) == pytest.approx(by_the_engine([0.8, 1.2], here, direction), rel=1e-9)
    (found,) = torch.autograd.grad(loss, numbers)
    for p, step in enumerate(1e-4 * np.eye(2)):
        high, low = (by_the_engine([0.8 + sign * step[0], 1.2 + sign * step[1]], here, direction) for sign in (1, -1))
        assert float(found[p]) == pytest.approx((high - low) / 2e-4, rel=1e-4)


def test_what_is_learned_on_some_noises_holds_on_others(generator):
    some, others = case(generator, 12), case(generator, 12)
    found = learn(family, [0.75, 1.0], [some], steps=25, learning_rate=0.05)
    assert len(found.losses) == 26 and min(found.losses) < found.losses[0] - math.log(1.2)

    def held_back(numbers):
        return np.mean([by_the_engine(numbers, others, direction) for direction in DIRECTIONS])

    assert held_back(found.numbers) < held_back([0.75, 1.0]) - math.log(1.1)


def test_a_formula_without_an_explicit_inverse_is_refused(generator):
    with pytest.raises(ValueError, match="is not explicit both ways"):
        learn(lambda numbers: formulas.adams_bashforth(2), [1.0], [case(generator, 6)], steps=1)
