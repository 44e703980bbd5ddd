"""Whole runs against diffusers' schedulers of the same setting.

The model is that of diffusers' own scheduler tests, x t/(t+1); schedulers get the float64 table in place of their float32 one
where they allow it, so that agreement is to float64. Where they round states to float32 themselves, it is to float32.
"""

import diffusers
import numpy as np
import pytest
import torch
from reference import diffusers_model, diffusers_sample

from vsvf import Grid, Schedule, integrate, invert, sample
from vsvf.predictors import Predictor

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers with numpy 2

LINEAR = Schedule.linear()
STABLE = Schedule.scaled_linear()
CONFIGS = {
    "linear": (LINEAR, dict(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")),
    "scaled_linear": (STABLE, dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")),
}


def predictor(schedule=LINEAR, kind="epsilon"):
    return Predictor(diffusers_model, schedule, kind=kind, integer_time=True)


def smooth_model(x, t):
    t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    return torch.tanh(x) * (0.8 + 0.2 * torch.cos(t / 150.0))


def exact_table(scheduler, schedule):
    """Give the scheduler the table in float64."""
    scheduler.alphas_cumprod = torch.as_tensor(schedule.alpha(np.arange(1000)) ** 2)
    if float(scheduler.final_alpha_cumprod) != 1.0:
        scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    return scheduler


def run(scheduler, model, x):
    for t in scheduler.timesteps:
        x = scheduler.step(model(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    return x


# ---- DDIM

# The published sums come of a table multiplied up in float32: from that very table they are met to a unit of rounding of the
# float32 sum (6e-5 at 672), from the float64 one to the 1e-2 that diffusers' tests allow.
TABLES = [(Schedule.from_alphas_cumprod(diffusers.DDIMScheduler().alphas_cumprod.double()), 1e-4), (LINEAR, 1e-2)]


@pytest.mark.parametrize("schedule, tolerance", TABLES, ids=["float32 table", "float64 table"])
def test_ddim_reproduces_the_published_checksums(schedule, tolerance):
    grid = Grid.from_schedule(schedule, 10, "leading", "zero")
    out = sample(predictor(schedule), diffusers_sample(), grid, "ddim", arithmetic="float64").x
    assert float(out.abs().sum()) == pytest.approx(172.0067, abs=tolerance)
    assert float(out.abs().mean()) == pytest.approx(0.223967, abs=tolerance / 100)


@pytest.mark.parametrize("schedule, tolerance", TABLES, ids=["float32 table", "float64 table"])
def test_ddim_inverse_reproduces_the_published_checksum(schedule, tolerance):
    """DDIMInverseScheduler steps from t - 100 to t with the prediction at t: `integrate` upwards, the model asked at the time of
    the step's end instead of its start. (The first start is t = -100, where it takes alpha = 1: sigma_bar = 0.)"""
    grid = Grid.from_schedule(schedule, 10, "leading", "zero")
    ends = iter(grid.timesteps[1:])
    ahead = Predictor(lambda x, t: diffusers_model(x, torch.full_like(t, int(next(ends)))), schedule)
    out, nfe = integrate(ahead, diffusers_sample(), grid.sigma_bar, "ddim", arithmetic="float64")
    assert nfe == 10
    assert float(out.abs().sum()) == pytest.approx(671.6816, abs=tolerance)
    assert float(out.abs().mean()) == pytest.approx(0.8746, abs=5e-5)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("steps", [10, 37])
@pytest.mark.parametrize("to_one", [True, False])
def test_ddim_equals_the_scheduler(name, spacing, steps, to_one):
    schedule, config = CONFIGS[name]
    scheduler = diffusers.DDIMScheduler(**config, timestep_spacing=spacing, clip_sample=False, set_alpha_to_one=to_one)
    exact_table(scheduler, schedule)
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps.numpy()[::-1].astype(float)
    # the scheduler steps by T // N whatever its spacing: a step ends at t - T // N, not at the next timestep
    ends = times - 1000 // steps
    if spacing == "leading":
        nodes = schedule.sigma_bar(times)
        if to_one:
            grid = Grid.from_schedule(schedule, steps, spacing, "zero")
            assert np.allclose(grid.sigma_bar[1:], nodes, rtol=1e-14)
            expected = run(scheduler, smooth_model, diffusers_sample().double())
            found = sample(Predictor(smooth_model, schedule), diffusers_sample(), grid, "ddim", arithmetic="float64").x
            assert torch.allclose(found, expected, rtol=1e-9, atol=1e-10)
            return
    x = diffusers_sample().double()
    for t, end in zip(times[::-1], ends[::-1]):
        final = 0.0 if to_one else schedule.sigma_bar(0.0)
        low = schedule.sigma_bar(end) if end >= 0 else final
        high = schedule.sigma_bar(t)
        expected = scheduler.step(smooth_model(x, t), int(t), x).prev_sample
        if low < high:
            found = sample(Predictor(smooth_model, schedule), x, Grid.from_sigma_bar([low, high]), "ddim").x
        else:  # t = 0 and the schedule's smallest as the end: a step of length zero
            found = x
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-10)
        x = expected


@pytest.mark.parametrize("prediction", ["sample", "v_prediction"])
def test_ddim_reads_other_predictions_as_the_scheduler_does(prediction):
    scheduler = diffusers.DDIMScheduler(prediction_type=prediction, clip_sample=False, timestep_spacing="leading")
    exact_table(scheduler, LINEAR)
    scheduler.set_timesteps(20)
    expected = run(scheduler, smooth_model, diffusers_sample().double())
    grid = Grid.from_schedule(LINEAR, 20, "leading", "zero")
    kind = {"sample": "sample", "v_prediction": "v"}[prediction]
    # t = 0 belongs to a positive sigma_bar, and sampling takes no slope at sigma_bar = 0
    found = sample(Predictor(smooth_model, LINEAR, kind=kind), diffusers_sample(), grid, "ddim", arithmetic="float64").x
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-9)


def test_ddim_in_float32_equals_the_scheduler_in_float32():
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="leading")
    scheduler.set_timesteps(50)
    expected = run(scheduler, smooth_model, diffusers_sample())
    grid = Grid.from_schedule(LINEAR, 50, "leading", "zero")
    found = sample(Predictor(smooth_model, LINEAR), diffusers_sample(), grid, "ddim")
    assert found.values.dtype == torch.float32
    # its table has 1 - alphas_cumprod in float32: 6e-8/1e-4 relative at t = 0
    assert torch.allclose(found.x, expected, rtol=1e-4, atol=1e-4)


# ---- LMS


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_adams_bashforth_4_equals_lms(name, spacing):
    """LMSDiscreteScheduler holds x_bar, starts with its lower orders and scales what the model gets by 1/sqrt(sigma^2 + 1)."""
    schedule, config = CONFIGS[name]
    scheduler = diffusers.LMSDiscreteScheduler(**config, timestep_spacing=spacing)
    scheduler.set_timesteps(15)
    grid = Grid.from_schedule(schedule, 15, spacing, "zero")
    assert np.array_equal(grid.timesteps[:0:-1], scheduler.timesteps.numpy())
    assert np.allclose(grid.sigma_bar[::-1], scheduler.sigmas.numpy(), rtol=1e-3, atol=0.0)
    scheduler.sigmas = torch.as_tensor(grid.sigma_bar[::-1].copy())
    x_bar = diffusers_sample().double() / grid.alpha[-1]
    expected = run(scheduler, smooth_model, x_bar)
    out = sample(Predictor(smooth_model, schedule), diffusers_sample().double(), grid, "adams_bashforth(4)", starter="lower_order")
    assert torch.allclose(out.x, expected, rtol=1e-8, atol=1e-8)
    assert out.nfe == 15


# ---- DPM-Solver++ and DEIS: their step() rounds the state to float32, their update functions do not


def multistep(scheduler, grid, model, x, order, first, second, third):
    """The loop of `step`, in float64, with the scheduler's own update functions and the grid's nodes."""
    scheduler.sigmas = torch.as_tensor(grid.sigma_bar[::-1].copy())
    outputs = []
    for index in range(grid.steps):
        scheduler._step_index = index
        time = grid.timesteps[grid.steps - index]
        outputs.append(scheduler.convert_model_output(model(x, time), sample=x))
        to_zero = index == grid.steps - 1 and grid.sigma_bar[0] == 0.0
        now = 1 if to_zero else min(order, index + 1)
        if now == 1:
            x = first(outputs[-1], sample=x)
        elif now == 2:
            x = second(outputs[-2:], sample=x)
        else:
            x = third(outputs[-3:], sample=x)
    return x


def table_grid(schedule, times, final):
    times = np.concatenate([[-1.0 if final == "zero" else 0.0], times])
    nodes = schedule.sigma_bar(times)
    return Grid(nodes, schedule.alpha_at(nodes), times)


def linspace_times(steps):
    """Where DPM-Solver++ and DEIS evaluate: N + 1 linspace timesteps without the first, t = 0."""
    return np.linspace(0, 999, steps + 1).round()[1:]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("final", ["zero", "smallest"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_dpm_solver_pp_equals_the_schedulers_updates(name, final, order):
    schedule, config = CONFIGS[name]
    scheduler = diffusers.DPMSolverMultistepScheduler(**config, solver_order=order, algorithm_type="dpmsolver++")
    scheduler.set_timesteps(18)
    grid = table_grid(schedule, linspace_times(18), final)
    assert np.array_equal(scheduler.timesteps.numpy(), grid.timesteps[:0:-1])
    expected = multistep(
        scheduler,
        grid,
        smooth_model,
        diffusers_sample().double(),
        order,
        scheduler.dpm_solver_first_order_update,
        scheduler.multistep_dpm_solver_second_order_update,
        scheduler.multistep_dpm_solver_third_order_update,
    )
    out = sample(
        Predictor(smooth_model, schedule), diffusers_sample().double(), grid, f"dpm_solver_pp({order})", starter="lower_order"
    )
    assert torch.allclose(out.x, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("final, sigmas", [("zero", "zero"), ("smallest", "sigma_min")])
@pytest.mark.parametrize("order", [2, 3])
def test_dpm_solver_pp_equals_the_scheduler(final, sigmas, order):
    scheduler = diffusers.DPMSolverMultistepScheduler(solver_order=order, final_sigmas_type=sigmas, lower_order_final=False)
    scheduler.set_timesteps(20)
    expected = run(scheduler, smooth_model, diffusers_sample())
    grid = table_grid(LINEAR, linspace_times(20), final)
    out = sample(
        Predictor(smooth_model, LINEAR),
        diffusers_sample(),
        grid,
        f"dpm_solver_pp({order})",
        starter="lower_order",
        arithmetic="float64",
    )
    assert torch.allclose(out.x.float(), expected, rtol=1e-4, atol=1e-4)


def test_the_published_third_order_step_is_not_the_corrected_one():
    grid = table_grid(LINEAR, linspace_times(18), "smallest")
    x = diffusers_sample().double()
    a, b = (sample(Predictor(smooth_model, LINEAR), x, grid, name).x for name in ("dpm_solver_pp(3)", "dpm_solver_pp(3, True)"))
    assert float((a - b).abs().max()) > 1e-5


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis_equals_the_schedulers_updates(name, order):
    schedule, config = CONFIGS[name]
    scheduler = diffusers.DEISMultistepScheduler(**config, solver_order=order)
    scheduler.set_timesteps(18)
    grid = Grid.from_schedule(schedule, 18, "linspace", "smallest")
    assert np.array_equal(scheduler.timesteps.numpy(), grid.timesteps[:0:-1])
    expected = multistep(
        scheduler,
        grid,
        smooth_model,
        diffusers_sample().double(),
        order,
        scheduler.deis_first_order_update,
        scheduler.multistep_deis_second_order_update,
        scheduler.multistep_deis_third_order_update,
    )
    out = sample(Predictor(smooth_model, schedule), diffusers_sample().double(), grid, f"deis({order})", starter="lower_order")
    # the scheduler's differences of x (log x - 1) lose digits where steps are short
    assert torch.allclose(out.x, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("order", [2, 3])
def test_deis_equals_the_scheduler(order):
    scheduler = diffusers.DEISMultistepScheduler(solver_order=order, lower_order_final=False)
    scheduler.set_timesteps(20)
    expected = run(scheduler, smooth_model, diffusers_sample())
    grid = Grid.from_schedule(LINEAR, 20, "linspace", "smallest")
    out = sample(
        Predictor(smooth_model, LINEAR), diffusers_sample(), grid, f"deis({order})", starter="lower_order", arithmetic="float64"
    )
    # in float32 its coefficients alone are good to 1e-3 on these nodes (differences of x log x)
    assert torch.allclose(out.x.float(), expected, rtol=2e-3, atol=2e-3)


# ---- Euler and Heun


def test_ddim_on_karras_nodes_equals_the_euler_scheduler():
    scheduler = diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, timestep_spacing="linspace")
    scheduler.set_timesteps(12)
    nodes = scheduler.sigmas.double().numpy()[::-1]
    grid = Grid.from_sigma_bar(nodes)
    scheduler.sigmas = scheduler.sigmas.double()
    net = Predictor(lambda x, t: torch.tanh(x), LINEAR)
    x = diffusers_sample().double()
    expected = run(scheduler, lambda x, t: torch.tanh(x), x / grid.alpha[-1])
    assert torch.allclose(sample(net, x, grid, "ddim").x.float(), expected.float(), rtol=1e-5, atol=1e-5)


def test_inversion_undoes_what_the_scheduler_sampled():
    """A run of diffusers' DDIM, taken back to its noise by the fixed-point inverse."""
    scheduler = exact_table(diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="leading"), LINEAR)
    scheduler.set_timesteps(50)

    def gentle(x, t):
        return 0.3 * torch.tanh(x)

    x = diffusers_sample().double()
    image = run(scheduler, gentle, x)
    grid = Grid.from_schedule(LINEAR, 50, "leading", "zero")
    back = invert(Predictor(gentle, LINEAR), image, grid, "ddim", tolerance=1e-13, max_iterations=1000)
    assert torch.allclose(back.x, x, rtol=0.0, atol=1e-8)
