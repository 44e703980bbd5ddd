import warnings

import diffusers
import numpy as np
import pytest
import strategies as own
from hypothesis import given

from vsvf import Grid, LowestStepWarning, Schedule

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers with numpy 2

LINEAR = Schedule.linear()
STEPS = (1, 2, 3, 7, 10, 25, 50, 99, 128, 333, 500, 667, 999, 1000)


def diffusers_timesteps(steps, spacing, offset=0):
    scheduler = diffusers.DDIMScheduler(timestep_spacing=spacing, steps_offset=offset, set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    return scheduler.timesteps.numpy()[::-1]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_timesteps_are_those_of_diffusers(steps, spacing):
    grid = Grid.from_schedule(LINEAR, steps, spacing, "zero")
    assert grid.timesteps[0] == -1.0
    assert np.array_equal(grid.timesteps[1:], diffusers_timesteps(steps, spacing))
    assert np.allclose(grid.sigma_bar, LINEAR.sigma_bar(grid.timesteps), rtol=1e-15)


@pytest.mark.parametrize("steps", [n for n in STEPS if n < 999])
def test_leading_timesteps_with_an_offset_are_those_of_diffusers(steps):
    grid = Grid.from_schedule(LINEAR, steps, "leading", "zero", steps_offset=1)
    assert np.array_equal(grid.timesteps[1:], diffusers_timesteps(steps, "leading", 1))


def test_every_number_of_steps_gives_distinct_nodes():
    for steps in range(1, 1001):
        for spacing in ("leading", "linspace", "trailing"):
            grid = Grid.from_schedule(LINEAR, steps, spacing, "zero")
            assert grid.steps == steps


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing", "karras", "log_snr", "sigma_bar"])
@pytest.mark.parametrize("steps", [1, 2, 10, 666, 667])
def test_the_final_node_is_the_one_asked_for(spacing, steps):
    zero = Grid.from_schedule(LINEAR, steps, spacing, "zero")
    smallest = Grid.from_schedule(LINEAR, steps, spacing, "smallest")
    assert zero.steps == smallest.steps == steps
    assert zero.sigma_bar[0] == 0.0 and zero.alpha[0] == 1.0
    assert smallest.sigma_bar[0] == pytest.approx(LINEAR.sigma_bar_min, rel=1e-12)
    assert smallest.timesteps[0] == 0.0


def test_leading_to_the_smallest_with_an_offset_keeps_its_timesteps():
    grid = Grid.from_schedule(LINEAR, 10, "leading", "smallest", steps_offset=1)
    assert grid.timesteps.tolist() == [0.0, *range(1, 1000, 100)]


def test_karras_nodes_are_those_of_diffusers():
    scheduler = diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, timestep_spacing="linspace")
    scheduler.set_timesteps(20)
    grid = Grid.from_schedule(LINEAR, 20, "karras", "zero")
    assert np.allclose(grid.sigma_bar[::-1], scheduler.sigmas.numpy(), rtol=2e-4)


@pytest.mark.parametrize("rho", [3.0, 7.0])
def test_karras_nodes_follow_their_formula(rho):
    n, low, high = 12, 0.002, 80.0
    i = np.arange(n)  # Karras et al. (2022), equation (5): from sigma_max down, then zero
    sigmas = (high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    grid = Grid.from_schedule(Schedule.edm(low, high), n, "karras", "zero", rho=rho)
    assert np.allclose(grid.sigma_bar, [0.0, *sigmas[::-1]], rtol=1e-13)


def test_log_snr_and_sigma_bar_spacings_are_uniform():
    grid = Grid.from_schedule(Schedule.edm(), 30, "log_snr", "smallest")
    assert np.allclose(np.diff(np.log(grid.sigma_bar)), np.log(80.0 / 0.002) / 30, rtol=1e-10)
    grid = Grid.from_schedule(Schedule.edm(), 30, "sigma_bar", "zero")
    assert np.allclose(grid.h, 80.0 / 30, rtol=1e-12)


def test_an_infinite_range_needs_a_start():
    schedule = Schedule.rectified_flow(t_max=1.0)
    with pytest.raises(ValueError, match="sigma_bar_max"):
        Grid.from_schedule(schedule, 10, "log_snr")
    assert Grid.from_schedule(schedule, 10, "log_snr", sigma_bar_max=50.0).sigma_bar[-1] == 50.0


def test_alphas_are_the_schedules():
    for schedule, expected in (
        (Schedule.edm(), lambda s: np.ones_like(s)),
        (Schedule.rectified_flow(), lambda s: 1.0 / (1.0 + s)),
        (LINEAR, lambda s: 1.0 / np.sqrt(1.0 + s**2)),
    ):
        grid = Grid.from_schedule(schedule, 7, "karras", "smallest")
        assert np.allclose(grid.alpha, expected(grid.sigma_bar), rtol=1e-15)


@given(own.grids())
def test_own_nodes_are_kept(grid):
    again = Grid.from_sigma_bar(grid.sigma_bar.tolist())
    assert np.array_equal(again.sigma_bar, grid.sigma_bar)
    assert again.sigma_bar.dtype == again.alpha.dtype == np.float64
    assert again.steps == len(again) - 1 == len(again.h)
    assert again.timesteps is None


def test_a_grid_cannot_be_changed_by_its_makers_array():
    nodes = np.array([0.1, 0.2, 0.3])
    grid = Grid.from_sigma_bar(nodes)
    nodes[0] = 5.0
    assert grid.sigma_bar[0] == 0.1
    with pytest.raises(ValueError, match="read-only"):
        grid.sigma_bar[0] = 5.0


# ---- errors


@pytest.mark.parametrize(
    "nodes, message",
    [
        ([0.1, 0.3, 0.2], r"increase strictly .* sigma_bar\[1\] = 0.3"),
        ([0.1, 0.1], "increase strictly"),
        ([0.3, 0.2, 0.1], "index 0 is the data end"),
        ([-0.1, 0.2], ">= 0"),
        ([0.1, float("inf")], r"sigma_bar\[1\] = inf is not finite"),
        ([float("nan"), 1.0], "not finite"),
        ([0.1], "at least 2 nodes"),
        ([[0.1, 0.2]], "at least 2 nodes"),
    ],
)
def test_bad_nodes_are_refused(nodes, message):
    with pytest.raises(ValueError, match=message):
        Grid.from_sigma_bar(nodes)


@pytest.mark.parametrize("alpha", [[1.0], [1.0, 0.0], [1.0, float("nan")], [1.0, -1.0]])
def test_bad_alphas_are_refused(alpha):
    with pytest.raises(ValueError, match="alpha must be positive"):
        Grid.from_sigma_bar([0.1, 0.2], alpha)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(steps=10, spacing="even"), "spacing='even' is not known"),
        (dict(steps=10, final="one"), "final='one' is not known"),
        (dict(steps=0), "steps must be a positive integer"),
        (dict(steps=-3), "steps must be a positive integer"),
        (dict(steps=10.0), "steps must be a positive integer"),
        (dict(steps=True), "steps must be a positive integer"),
        (dict(steps=1001), "too short"),
        (dict(steps=1000, spacing="linspace", final="smallest"), "too short"),
        (dict(steps=10, spacing="trailing", steps_offset=1), "steps_offset goes with"),
        (dict(steps=10, spacing="leading", sigma_bar_max=3.0), "sigma_bar_max does not go with"),
        (dict(steps=10, spacing="karras", rho=0.0), "rho must be a positive finite number"),
        (dict(steps=10, spacing="karras", sigma_bar_max=1e-9), "must exceed"),
        (dict(steps=1000, spacing="leading", steps_offset=1), "beyond the table"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Grid.from_schedule(LINEAR, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        *(dict(spacing="leading", steps_offset=value) for value in (-1, 1.0, True, "1", None)),
        *(dict(spacing="karras", rho=value) for value in ("7", None, -1.0, float("nan"), float("inf"), 10**400)),
        *(dict(spacing="karras", sigma_bar_max=value) for value in ("80", True, -1.0, float("nan"), float("inf"))),
    ],
    ids=lambda arguments: str(list(arguments.items())[-1])[:30],
)
def test_arguments_of_another_type_are_named(arguments):
    with pytest.raises(ValueError, match=list(arguments)[-1]):
        Grid.from_schedule(LINEAR, 10, **arguments)


@pytest.mark.parametrize("rho", [1e-300, 1e-3, 1e16, 1e300])
def test_a_rho_that_leaves_no_distinct_nodes_is_named(rho):
    with pytest.raises(ValueError, match=r"rho=.* out of range"):
        Grid.from_schedule(LINEAR, 50, "karras", rho=rho)


@pytest.mark.parametrize("schedule", [None, "linear"])
def test_a_grid_needs_a_schedule(schedule):
    with pytest.raises(TypeError, match=r"schedule must be a vsvf\.Schedule"):
        Grid.from_schedule(schedule, 10)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine"])
def test_a_lowest_step_far_shorter_than_the_next_is_warned_of(name):
    schedule = getattr(Schedule, name)()
    for spacing in ("leading", "linspace"):
        with pytest.warns(LowestStepWarning, match="spacing='trailing' or final='smallest'"):
            Grid.from_schedule(schedule, 50, spacing, "zero").warn_if_lowest_step_is_tiny()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for steps in (1, 2, 10, 50, 200):
            Grid.from_schedule(schedule, steps, "trailing", "zero").warn_if_lowest_step_is_tiny()
            Grid.from_schedule(schedule, steps, "leading", "smallest").warn_if_lowest_step_is_tiny()
        Grid.from_sigma_bar([0.1, 0.11, 1.0]).warn_if_lowest_step_is_tiny()  # does not end at zero


def test_timestep_spacings_need_a_table():
    with pytest.raises(ValueError, match="table of timesteps"):
        Grid.from_schedule(Schedule.edm(), 10, "leading")


def test_zero_terminal_snr_has_no_finite_last_node():
    schedule = Schedule.from_diffusers({"rescale_betas_zero_snr": True})
    with pytest.raises(ValueError, match="zero terminal SNR"):
        Grid.from_schedule(schedule, 10, "trailing")
    assert Grid.from_schedule(schedule, 10, "leading").steps == 10
