"""Where diffusers' own schedulers compute the same thing, they give the same numbers; where not, the difference is explained.

diffusers multiplies its table up in float32, which is off by up to 2e-4 (relative) in sigma_bar near t = 0. `exact` gives its
schedulers the float64 table, so that what remains is the arithmetic of the steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers_models import DDPM, SD, diffusers, noise

import vsvf
from vsvf.integrations.diffusers import VSVFScheduler
from vsvf.predictors import Predictor

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

SCHEDULE = vsvf.Schedule.scaled_linear()
TABLE = torch.from_numpy(SCHEDULE.alpha(np.arange(1000)) ** 2)


def exact(scheduler: Any) -> Any:
    """The scheduler with its table in float64."""
    scheduler.alphas_cumprod = TABLE
    for name in ("final_alpha_cumprod", "initial_alpha_cumprod"):
        if hasattr(scheduler, name) and float(getattr(scheduler, name)) != 1.0:
            setattr(scheduler, name, TABLE[0])
    return scheduler


def model(x: torch.Tensor, t: Any) -> torch.Tensor:
    """Smooth, non-linear, of size about 1; depends on time."""
    return torch.tanh(0.7 * x + 0.1 * x.roll(1, -1)) * (0.6 + 0.4 * torch.cos(torch.as_tensor(t, dtype=x.dtype) / 300.0))


def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return model(x, t.reshape(-1, 1, 1, 1))


EPS = Predictor(predict, SCHEDULE)
X = noise(2, 3, 8, 8, dtype=torch.float64)
BETAS = {k: SD[k] for k in ("beta_schedule", "beta_start", "beta_end")}


def run(scheduler: Any, x: torch.Tensor, steps: int | list[int], **kwargs: Any) -> torch.Tensor:
    if isinstance(steps, int):
        scheduler.set_timesteps(steps)
    else:
        scheduler.set_timesteps(timesteps=steps)
    x = x * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(model(scheduler.scale_model_input(x, t), t), t, x, **kwargs).prev_sample
    return x


def ours(steps: int, formula: str, starter: str = "ddim", **config: Any) -> torch.Tensor:
    return run(VSVFScheduler.from_config({**SD, **config}, formula=formula, starter=starter), X, steps)


# ---- DDIM ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_ddim(spacing: str, one: bool, kind: str) -> None:
    config = {**SD, "timestep_spacing": spacing, "set_alpha_to_one": one, "prediction_type": kind}
    theirs = run(exact(diffusers.DDIMScheduler(**config)), X, 20)
    assert torch.allclose(ours(20, "ddim", **config), theirs, rtol=1e-11, atol=1e-11)


def test_ddim_in_its_own_float32() -> None:
    theirs = run(diffusers.DDIMScheduler(**SD), X.float(), 20)
    mine = run(VSVFScheduler.from_config(SD, formula="ddim"), X.float(), 20)
    assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(mine, theirs, rtol=1e-7, atol=1e-7)  # the float32 table


def test_ddim_differs_where_its_previous_timestep_is_not_a_node() -> None:
    """DDIM steps to t - T//N. With linspace, or trailing and an N that does not divide T, the next evaluation is elsewhere: it
    reads the state at a noise level that it does not have. Ours steps to the next node."""
    for spacing, steps in (("linspace", 20), ("trailing", 30)):
        scheduler = diffusers.DDIMScheduler(**{**SD, "timestep_spacing": spacing})
        scheduler.set_timesteps(steps)
        following = (scheduler.timesteps - 1000 // steps)[:-1]
        assert not torch.equal(following, scheduler.timesteps[1:])
        mine = VSVFScheduler.from_config(scheduler.config, formula="ddim", final_sigmas_type="zero")
        mine.set_timesteps(steps)
        assert torch.equal(mine.timesteps, scheduler.timesteps)
        # linear in t exactly: eps constant and x_0 = 0 stay on x = sigma eps only when every step ends at its node
        ends = []
        for one in (exact(scheduler), mine):
            x = SCHEDULE.sigma(999) * torch.ones(1, 1, 1, 1, dtype=torch.float64)
            for t in one.timesteps[:-1]:
                x = one.step(torch.ones_like(x), t, x).prev_sample
            ends.append(float(x) / float(SCHEDULE.sigma(float(one.timesteps[-1]))) - 1.0)
        assert abs(ends[1]) < 1e-12 < 1e-3 < abs(ends[0])


def test_ddim_leading_without_offset_ends_with_a_step_of_length_zero() -> None:
    """set_alpha_to_one=False and t = 0 drawn: its last step goes from t = 0 to t = 0 and leaves x as it is (ours: none)."""
    config = {**DDPM, "set_alpha_to_one": False}
    scheduler = diffusers.DDIMScheduler(**config)
    scheduler.set_timesteps(10)
    assert int(scheduler.timesteps[-1]) == 0
    assert torch.allclose(scheduler.step(model(X, 0), 0, X).prev_sample, X, atol=1e-6)


def test_clipping_is_what_separates_ddim_from_the_formula() -> None:
    config = {**SD, "clip_sample": True, "clip_sample_range": 1.0}
    clipped = run(exact(diffusers.DDIMScheduler(**config)), X, 20)
    with pytest.warns(UserWarning, match="clip_sample"):
        mine = run(VSVFScheduler.from_config(config, formula="ddim"), X, 20)
    assert float((clipped - mine).abs().max()) > 0.01
    wide = run(exact(diffusers.DDIMScheduler(**{**config, "clip_sample_range": 1e6})), X, 20)
    assert torch.allclose(mine, wide, rtol=1e-11, atol=1e-11)


def test_reference_sums_of_diffusers_own_tests() -> None:
    """DDIM with the model x t/(t+1), 10 steps: sum 172.0067, mean 0.223967 (diffusers' scheduler tests)."""
    shape = (4, 3, 8, 8)
    x = torch.arange(4 * 3 * 8 * 8).reshape(3, 8, 8, 4) / (4 * 3 * 8 * 8)
    x = x.permute(3, 0, 1, 2)
    assert x.shape == shape
    with pytest.warns(UserWarning, match="clip_sample"):
        scheduler = VSVFScheduler.from_config({**DDPM, "clip_sample": True}, formula="ddim")
    scheduler.set_timesteps(10)
    clipped = diffusers.DDIMScheduler(clip_sample=True)
    clipped.set_timesteps(10)
    plain = diffusers.DDIMScheduler(clip_sample=False)
    plain.set_timesteps(10)
    results = {}
    for name, one in (("clipped", clipped), ("plain", plain), ("ours", scheduler)):
        y = x
        for t in one.timesteps:
            y = one.step(y * t / (t + 1), t, y).prev_sample
        results[name] = float(y.abs().sum())
    assert results["clipped"] == pytest.approx(172.0067, abs=1e-2)
    assert results["ours"] == pytest.approx(results["plain"], rel=1e-4)


# ---- DDIM inversion --------------------------------------------------------------------------------------------


def test_ddim_inverse_is_an_explicit_step_upwards() -> None:
    """DDIMInverseScheduler's update is `vsvf.integrate` upwards. Its loop asks the network for the step's *end* t at a state of
    the step's start; with the network asked at the start they agree."""
    scheduler = exact(diffusers.DDIMInverseScheduler(**{k: v for k, v in SD.items()}))
    scheduler.set_timesteps(20)
    grid = vsvf.Grid.from_schedule(SCHEDULE, 20, "leading", "smallest", steps_offset=1)
    expected, _ = vsvf.integrate(EPS, X, grid.sigma_bar[:-1])
    starts = [0, *scheduler.timesteps[:-1].tolist()]
    x = y = X
    for start, t in list(zip(starts, scheduler.timesteps.tolist()))[:-1]:
        x = scheduler.step(model(x, start), t, x).prev_sample
        y = scheduler.step(model(y, t), t, y).prev_sample
    assert torch.allclose(x, expected, rtol=1e-10, atol=1e-10)
    assert float((y - expected).abs().max()) > 1e-3


def test_ddim_inverse_does_not_invert_and_belm_does() -> None:
    """The same latents, the same number of steps: what comes back."""
    errors = {}
    sampled = run(exact(diffusers.DDIMScheduler(**SD)), X, 20)
    inverse = exact(diffusers.DDIMInverseScheduler(**{k: v for k, v in SD.items()}))
    errors["ddim"] = float((run(inverse, sampled, 20) - X).abs().max())
    scheduler = VSVFScheduler.from_config(SD, formula="belm", steps=2)
    run(scheduler, X, 20)
    back = scheduler.inverse()
    x = back.start_from(scheduler.state())
    for t in back.timesteps:
        x = back.step(model(x, t), t, x).prev_sample
    errors["belm"] = float((x - X).abs().max())
    assert errors["ddim"] > 1e-2 and errors["belm"] < 1e-7


# ---- multistep solvers -----------------------------------------------------------------------------------------

GRIDS = [dict(timestep_spacing="trailing"), dict(timestep_spacing="leading", steps_offset=0), dict(timestep_spacing="linspace")]


@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: g["timestep_spacing"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_dpm_solver_pp(grid: dict[str, Any], order: int) -> None:
    """Both finals, on the solver's own timesteps. They are ours for trailing, and for linspace down to "sigma_min"; its leading
    ones are j (T // (N+1)), which leave out the top of the range."""
    for final in ("zero", "sigma_min"):
        config = {**BETAS, **grid, "final_sigmas_type": final}
        solver = exact(diffusers.DPMSolverMultistepScheduler(solver_order=order, lower_order_final=False, **config))
        mine = VSVFScheduler.from_config(config, formula=f"dpm_solver_pp({order})", starter="lower_order")
        theirs = run(solver, X, 20)
        out = run(mine, X, solver.timesteps.tolist())
        mine.set_timesteps(20)
        if (grid["timestep_spacing"], final) in (("trailing", "zero"), ("trailing", "sigma_min"), ("linspace", "sigma_min")):
            assert torch.equal(mine.timesteps, solver.timesteps)
        # its sigmas are float32 whatever the table: 1e-7 relative
        assert torch.allclose(out, theirs, rtol=1e-5, atol=1e-5)


def test_dpm_solver_takes_lower_orders_at_the_end_of_short_runs() -> None:
    """lower_order_final: below 15 steps its last rows are of lower order; the formula's are not."""
    config = {**BETAS, "timestep_spacing": "trailing", "final_sigmas_type": "sigma_min"}
    formula = dict(formula="dpm_solver_pp(2)", starter="lower_order")
    mine = {n: run(VSVFScheduler.from_config(config, **formula), X, n) for n in (10, 20)}
    gaps = {}
    for lower in (True, False):
        for n in (10, 20):
            solver = exact(diffusers.DPMSolverMultistepScheduler(solver_order=2, lower_order_final=lower, **config))
            gaps[n, lower] = float((run(solver, X, n) - mine[n]).abs().max())
    assert gaps[10, True] > 1e-3 and max(gaps[10, False], gaps[20, True], gaps[20, False]) < 1e-4


@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: g["timestep_spacing"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis(grid: dict[str, Any], order: int) -> None:
    """DEISMultistepScheduler always ends at the smallest sigma_bar."""
    config = {**BETAS, **grid}
    solver = exact(diffusers.DEISMultistepScheduler(solver_order=order, lower_order_final=False, **config))
    mine = VSVFScheduler.from_config(config, formula=f"deis({order})", starter="lower_order", final_sigmas_type="sigma_min")
    theirs = run(solver, X, 20)
    out = run(mine, X, solver.timesteps.tolist())
    assert torch.allclose(out, theirs, rtol=2e-4, atol=2e-4)  # float32 logarithms cancel


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_lms_is_adams_bashforth_in_sigma_bar(order: int) -> None:
    """LMSDiscreteScheduler keeps x_bar and divides by sqrt(1 + sigma_bar^2) for the network; it ends at sigma_bar = 0, where
    both are x_0. Its coefficients are quadratures with epsrel = 1e-4 of float32 sigmas."""
    config = {**BETAS, "timestep_spacing": "leading", "steps_offset": 1}
    solver = exact(diffusers.LMSDiscreteScheduler(**config))
    theirs = run(solver, X, 20, order=order)
    mine = VSVFScheduler.from_config(config, formula=f"adams_bashforth({order})", starter="lower_order")
    assert torch.allclose(run(mine, X, 20), theirs, rtol=1e-5, atol=1e-5)


def test_lms_starts_with_another_variance_for_trailing() -> None:
    """For linspace and trailing its noise is sigma_max eps in x_bar, ours (sigma_max^2 + 1)^(1/2) eps: a factor 1.0023 here."""
    solver = exact(diffusers.LMSDiscreteScheduler(**BETAS, timestep_spacing="trailing"))
    solver.set_timesteps(20)
    s = float(SCHEDULE.sigma_bar(999))
    assert float(solver.init_noise_sigma) == pytest.approx(s, rel=1e-6)
    x = X * (1 + s**2) ** 0.5 / s
    config = {**BETAS, "timestep_spacing": "trailing"}
    mine = VSVFScheduler.from_config(config, formula="adams_bashforth(2)", starter="lower_order")
    assert torch.allclose(run(mine, X, 20), run(solver, x, 20, order=2), rtol=1e-5, atol=1e-5)


# ---- EDICT -----------------------------------------------------------------------------------------------------


class EDICT:
    """The update of diffusers' community EDICT pipeline, written from its equations: x' = a x + b eps, coupled and mixed."""

    def __init__(self, steps: int, p: float, leapfrog: bool) -> None:
        self.p, self.leapfrog = p, leapfrog
        self.times = [(n * (1000 // steps) + 1) for n in range(steps)][::-1]
        self.width = 1000 // steps

    def coefficients(self, t: int) -> tuple[float, float]:
        here, there = float(TABLE[t]), float(TABLE[max(t - self.width, 0)])
        a = (there / here) ** 0.5
        return a, (1 - there) ** 0.5 - a * (1 - here) ** 0.5

    def sample(self, x: torch.Tensor, network: Any) -> list[torch.Tensor]:
        z = [x, x]
        for i, t in enumerate(self.times):
            a, b = self.coefficients(t)
            for k in (1, 0) if self.leapfrog and i % 2 else (0, 1):
                z[k] = a * z[k] + b * network(z[1 - k], t)
            z[0] = self.p * z[0] + (1 - self.p) * z[1]
            z[1] = self.p * z[1] + (1 - self.p) * z[0]
        return z

    def invert(self, z: list[torch.Tensor], network: Any) -> list[torch.Tensor]:
        z = list(z)
        for i, t in enumerate(self.times[::-1]):  # i counts from the data end: that is the defect
            a, b = self.coefficients(t)
            z[1] = (z[1] - (1 - self.p) * z[0]) / self.p
            z[0] = (z[0] - (1 - self.p) * z[1]) / self.p
            for k in (0, 1) if self.leapfrog and i % 2 == 0 else (1, 0):
                z[k] = (z[k] - b * network(z[1 - k], t)) / a
        return z


def unscaled(x: torch.Tensor, t: Any) -> torch.Tensor:
    """A network that does not see the scale of x."""
    return torch.tanh(x / x.square().mean((1, 2, 3), keepdim=True).sqrt()) * (0.6 + 0.4 * np.cos(float(t) / 300.0))


def our_edict(steps: int, network: Any) -> torch.Tensor:
    scheduler = VSVFScheduler.from_config(SD, formula="edict(0.93)")
    scheduler.set_timesteps(steps)
    x = X
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t), t, x).prev_sample
    return x


def test_edict_without_alternation_is_the_plan() -> None:
    assert torch.allclose(our_edict(20, unscaled), EDICT(20, 0.93, False).sample(X, unscaled)[0], rtol=1e-9, atol=1e-9)


def test_edict_feeds_its_second_evaluation_in_the_next_nodes_scale() -> None:
    """X' belongs to the next node when the pipeline gives it to the network with this node's t. Ours stays in x_bar: a
    difference of O(h), which halves with the steps."""
    gaps = [float((our_edict(n, model) - EDICT(n, 0.93, False).sample(X, model)[0]).abs().max()) for n in (250, 500)]
    assert gaps[0] > 1e-4 and 1.5 < gaps[0] / gaps[1] < 2.6


def test_edict_parity_defect() -> None:
    """The pipeline alternates which state goes first, counting from the end it starts at: its inverse undoes the updates in
    the order in which they were made only for an even number of steps. Without alternation both are exact, as ours is."""
    errors = {}
    for leapfrog in (True, False):
        for steps in (20, 25):
            method = EDICT(steps, 0.93, leapfrog)
            errors[leapfrog, steps] = float((method.invert(method.sample(X, model), model)[0] - X).abs().max())
    assert errors[True, 25] > 1e-3
    assert max(errors[True, 20], errors[False, 20], errors[False, 25]) < 1e-8
    for steps in (20, 25):
        scheduler = VSVFScheduler.from_config(SD, formula="edict(0.93)")
        run(scheduler, X, steps)
        inverse = scheduler.inverse()
        x = inverse.start_from(scheduler.state())
        for t in inverse.timesteps:
            x = inverse.step(model(x, t), t, x).prev_sample
        assert float((x - X).abs().max()) < 1e-8
