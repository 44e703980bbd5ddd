"""noise(): of the variance that the schedule has at the grid's last node."""

import pytest
import torch

from vsvf import Grid, Schedule
from vsvf.predictors import Predictor, noise

SCHEDULES = {
    "linear": (Schedule.linear(), "trailing"),
    "edm": (Schedule.edm(), "karras"),
    "rectified_flow": (Schedule.rectified_flow(t_max=0.7), "karras"),
}


def draw(schedule, grid, shape=(40_000, 2), seed=0, **options):
    return noise(shape, schedule, grid, generator=torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("name", SCHEDULES)
def test_its_variance_is_that_of_the_forward_marginal(name):
    """alpha^2 + sigma^2 at the last node, measured on 80,000 numbers (three standard errors: 1.5 %)."""
    schedule, spacing = SCHEDULES[name]
    grid = Grid.from_schedule(schedule, 10, spacing)
    t = schedule.timestep(grid.sigma_bar[-1])
    expected = float(schedule.alpha(t)) ** 2 + float(schedule.sigma(t)) ** 2
    assert float(draw(schedule, grid).double().var()) == pytest.approx(expected, rel=0.015)


def test_edm_noise_is_not_of_unit_size():
    grid = Grid.from_schedule(Schedule.edm(), 10, "karras")
    assert float(draw(Schedule.edm(), grid).std()) == pytest.approx(80.0, rel=0.01)


def test_a_seed_gives_the_same_noise_in_every_dtype_and_from_schedule_predictor_and_level():
    schedule, spacing = SCHEDULES["edm"]
    grid = Grid.from_schedule(schedule, 10, spacing)
    exact = draw(schedule, grid, (3, 2), dtype=torch.float64)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert torch.equal(draw(schedule, grid, (3, 2), dtype=dtype), exact.to(dtype))
    assert draw(schedule, grid, (3, 2)).dtype == torch.float32
    assert torch.equal(draw(Predictor(lambda x, t: x, schedule), 80.0, (3, 2), dtype=torch.float64), exact)
    assert torch.equal(draw(schedule, grid, torch.empty(3, 2, dtype=torch.float64)), exact)
    assert not torch.equal(draw(schedule, grid, (3, 2), seed=1, dtype=torch.float64), exact)


def test_it_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    draw(*[Schedule.edm(), 80.0], (3, 2))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"schedule": "edm"}, "schedule"),
        ({"grid": "karras"}, "grid"),
        ({"grid": float("nan")}, "grid"),
        ({"grid": True}, "grid"),
        ({"generator": 3}, "generator"),
        ({"generator": None}, "generator"),
    ],
)
def test_arguments_are_named(change, name):
    arguments = {"shape": (2, 3), "schedule": Schedule.edm(), "grid": 80.0, "generator": torch.Generator()}
    with pytest.raises((TypeError, ValueError), match=f"{name} must be"):
        noise(**{**arguments, **change})
