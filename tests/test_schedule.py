import diffusers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsvf import Schedule

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers with numpy 2

TABLES = {
    "linear": (Schedule.linear, diffusers.DDPMScheduler()),
    "scaled_linear": (
        Schedule.scaled_linear,
        diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
    ),
    "cosine": (Schedule.cosine, diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2")),
}
SCHEDULES = {
    "linear": Schedule.linear(),
    "short": Schedule.linear(10, 1e-3, 0.3),
    "scaled_linear": Schedule.scaled_linear(),
    "cosine": Schedule.cosine(),
    "edm": Schedule.edm(),
    "rectified_flow": Schedule.rectified_flow(),
    "rectified_flow x 1000": Schedule.rectified_flow(time_scale=1000.0),
}


def times(schedule, count=501):
    """Model times inside the trained range."""
    if schedule.table is not None:
        return np.linspace(0.0, schedule.table - 1.0, count)
    low, high = schedule.timestep([schedule.sigma_bar_min, schedule.sigma_bar_max])
    return np.linspace(low, high, count)


@pytest.mark.parametrize("name", TABLES)
def test_tables_equal_those_of_diffusers(name):
    make, scheduler = TABLES[name]
    t = np.arange(1000)
    found = make().alpha(t) ** 2
    # diffusers multiplies up in float32: 1,000 roundings
    assert np.allclose(found, scheduler.alphas_cumprod.numpy(), rtol=1000 * 2.0**-24, atol=0.0)


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_the_product_of_the_betas_to_float64(name):
    make, _ = TABLES[name]
    betas = {
        "linear": np.linspace(1e-4, 0.02, 1000),
        "scaled_linear": np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2,
    }.get(name)
    if betas is None:
        f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - f[1:] / f[:-1], 0.999)
    table = np.cumprod(1.0 - betas)
    t = np.arange(1000)
    schedule = make()
    assert np.allclose(schedule.alpha(t) ** 2, table, rtol=1e-12)
    assert np.allclose(schedule.sigma_bar(t), np.sqrt((1 - table) / table), rtol=1e-11)
    assert np.allclose(schedule.log_snr(t), np.log(table / (1 - table)), rtol=1e-10, atol=1e-10)


def test_the_smallest_sigma_bar_keeps_its_digits():
    # 1 - alphas_cumprod[0] = 1e-4 exactly, which float32 tables hold to 3 digits only
    assert Schedule.linear().sigma_bar(0.0) == pytest.approx(np.sqrt(1e-4 / (1 - 1e-4)), rel=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_timestep_undoes_sigma_bar(name):
    schedule = SCHEDULES[name]
    t = times(schedule)
    assert np.allclose(schedule.timestep(schedule.sigma_bar(t)), t, rtol=1e-9, atol=1e-9 * t.max())


@given(st.sampled_from(sorted(SCHEDULES)), st.floats(0.0, 1.0))
def test_sigma_bar_undoes_timestep(name, u):
    schedule = SCHEDULES[name]
    target = schedule.sigma_bar_min ** (1.0 - u) * schedule.sigma_bar_max**u
    assert schedule.sigma_bar(schedule.timestep(target)) == pytest.approx(target, rel=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_sigma_bar_increases_strictly(name):
    schedule = SCHEDULES[name]
    assert np.all(np.diff(schedule.sigma_bar(times(schedule, 4001))) > 0.0)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine", "short"])
def test_integer_timesteps_come_back_as_integers(name):
    schedule = SCHEDULES[name]
    t = np.arange(float(schedule.table))
    assert np.array_equal(schedule.timestep(schedule.sigma_bar(t)), t)


@pytest.mark.parametrize("name", SCHEDULES)
def test_time_is_kept_inside_the_trained_range(name):
    schedule = SCHEDULES[name]
    t = times(schedule)
    assert schedule.timestep(0.0) == pytest.approx(t[0], rel=1e-12)
    assert schedule.timestep(1e9) == pytest.approx(t[-1], rel=1e-12)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine", "short"])
def test_variance_is_preserved(name):
    schedule = SCHEDULES[name]
    t = times(schedule)
    assert np.allclose(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, 1.0, rtol=1e-14)
    assert np.allclose(schedule.sigma(t) / schedule.alpha(t), schedule.sigma_bar(t), rtol=1e-14)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine"])
def test_at_minus_one_there_is_no_noise(name):
    assert SCHEDULES[name].sigma_bar(-1.0) == 0.0


@pytest.mark.parametrize("t", [-1.5, 1000.0, [0.0, 999.5]])
def test_times_outside_a_table_are_refused(t):
    with pytest.raises(ValueError, match=r"t must lie in \[-1, 999\]"):
        Schedule.linear().sigma_bar(t)


def test_edm_is_variance_exploding():
    schedule = Schedule.edm(0.01, 50.0)
    s = np.array([0.01, 1.0, 50.0])
    assert np.array_equal(schedule.sigma_bar(s), s)
    assert np.array_equal(schedule.alpha(s), np.ones(3))
    assert np.array_equal(schedule.sigma(s), s)
    assert (schedule.sigma_bar_min, schedule.sigma_bar_max, schedule.table) == (0.01, 50.0, None)


def test_rectified_flow_interpolates_linearly():
    schedule = Schedule.rectified_flow(time_scale=1000.0)
    t = np.array([1.0, 250.0, 500.0, 999.0])
    assert np.allclose(schedule.alpha(t), 1.0 - t / 1000.0, rtol=1e-12)
    assert np.allclose(schedule.sigma(t), t / 1000.0, rtol=1e-12)


def test_rectified_flow_is_pure_noise_at_the_end():
    schedule = Schedule.rectified_flow(t_max=1.0)
    assert np.isinf(schedule.sigma_bar(1.0))
    assert schedule.alpha(1.0) == 0.0
    assert schedule.sigma(1.0) == 1.0


# ---- diffusers' configurations


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.DDIMScheduler(),
        diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        diffusers.DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2"),
        diffusers.DDPMScheduler(beta_schedule="sigmoid"),
        diffusers.DDIMScheduler(trained_betas=np.linspace(1e-3, 0.05, 200).tolist()),
        diffusers.DDIMScheduler(num_train_timesteps=100, beta_start=0.001, beta_end=0.2),
        diffusers.LMSDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        diffusers.PNDMScheduler(),
    ],
    ids=lambda s: f"{type(s).__name__}-{s.config.beta_schedule}",
)
def test_configurations_of_diffusers_schedulers(scheduler):
    schedule = Schedule.from_diffusers(scheduler.config)
    table = scheduler.alphas_cumprod.numpy()
    assert schedule.table == len(table)
    assert np.allclose(schedule.alpha(np.arange(len(table))) ** 2, table, rtol=len(table) * 2.0**-24, atol=0.0)


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_zero_terminal_snr_as_in_diffusers(kind):
    scheduler = diffusers.DDIMScheduler(beta_schedule=kind, rescale_betas_zero_snr=True)
    schedule = Schedule.from_diffusers(scheduler.config)
    table = scheduler.alphas_cumprod.double().numpy()
    assert np.allclose(schedule.alpha(np.arange(999)) ** 2, table[:-1], rtol=1e-3, atol=1e-7)
    assert np.isinf(schedule.sigma_bar(999.0)) and np.isinf(schedule.sigma_bar_max)
    assert schedule.alpha(999.0) == 0.0


def test_zero_terminal_snr_is_pure_noise_at_the_end():
    schedule = Schedule.from_diffusers({"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True})
    assert schedule.sigma(999.0) == 1.0


def test_flow_matching_configurations():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    config = dict(scheduler.config)
    config["_class_name"] = "FlowMatchEulerDiscreteScheduler"
    schedule = Schedule.from_diffusers(config)
    t, sigma = scheduler.timesteps.numpy()[1:], scheduler.sigmas.numpy()[1 : len(scheduler.timesteps)]
    assert np.allclose(schedule.sigma(t), sigma, rtol=1e-6)
    assert np.allclose(schedule.alpha(t), 1.0 - sigma, rtol=1e-5, atol=1e-7)


def test_edm_configurations():
    config = {"_class_name": "EDMEulerScheduler", "sigma_min": 0.01, "sigma_max": 12.0}
    assert Schedule.from_diffusers(config).sigma_bar_max == 12.0


def test_unknown_configurations_are_refused():
    with pytest.raises(ValueError, match="laplace"):
        Schedule.from_diffusers({"beta_schedule": "laplace"})


# ---- errors


@pytest.mark.parametrize("table", [[0.5], [[0.9, 0.8]], [0.9, 0.95], [0.9, 0.9], [1.1, 0.5], [0.9, -0.1], [0.9, float("nan")]])
def test_bad_tables_are_refused(table):
    with pytest.raises(ValueError, match="alphas_cumprod must"):
        Schedule.from_alphas_cumprod(table)


@pytest.mark.parametrize("betas", [[0.1, 0.0], [0.1, 1.5], [-0.1], [[0.1, 0.2]], [0.1, float("nan")]])
def test_bad_betas_are_refused(betas):
    with pytest.raises(ValueError, match=r"betas|alphas_cumprod"):
        Schedule.from_betas(betas)


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (2.0, 1.0), (0.1, float("inf"))])
def test_bad_edm_ranges_are_refused(low, high):
    with pytest.raises(ValueError, match="sigma_min < sigma_max"):
        Schedule.edm(low, high)


@pytest.mark.parametrize("low, high", [(0.0, 0.9), (0.9, 0.1), (0.1, 1.2)])
def test_bad_flow_ranges_are_refused(low, high):
    with pytest.raises(ValueError, match="t_min < t_max"):
        Schedule.rectified_flow(low, high)
