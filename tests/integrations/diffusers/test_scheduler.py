"""VSVFScheduler: the same bits as vsvf.sample and vsvf.invert, one evaluation at a time."""

from __future__ import annotations

import copy
import pickle
import warnings
from importlib import resources
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers_models import DDPM, SD, diffusers, noise, small_unet
from safetensors.torch import load

import vsvf
from vsvf.integrations.diffusers import VSVFScheduler, unet

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

EXPLICIT = [
    "ddim",
    "adams_bashforth(3)",
    "deis(2)",
    "dpm_solver_pp(2)",
    "belm(2)",
    "bdia(0.5)",
    "edict(0.93)",
    "mccallum_foster(0.9)",
    "stable_belm(4)",
]
INVERTIBLE = EXPLICIT[4:]


@torch.no_grad()
def run(scheduler: VSVFScheduler, network: Any, x: torch.Tensor) -> torch.Tensor:
    """The loop that every pipeline has."""
    for t in scheduler.timesteps:
        model_output = network(scheduler.scale_model_input(x, t), t).sample
        x = scheduler.step(model_output, t, x).prev_sample
    return x


@pytest.fixture(scope="module")
def network() -> Any:
    return small_unet()


def make(formula: str, **changes: Any) -> VSVFScheduler:
    return VSVFScheduler.from_config({**SD, "timestep_spacing": "trailing"}, formula=formula, **changes)


# ---- the same bits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arithmetic", [None, "float64"])
@pytest.mark.parametrize("formula", EXPLICIT)
def test_pipeline_loop_gives_the_bits_of_sample_and_invert(network: Any, formula: str, arithmetic: str | None) -> None:
    scheduler = make(formula, arithmetic=arithmetic)
    scheduler.set_timesteps(10)
    eps, x = unet(network, scheduler), noise(2, 3, 8, 8)
    sampled = vsvf.sample(eps, x, scheduler.grid, formula, arithmetic=arithmetic)
    out = run(scheduler, network, x)
    assert torch.equal(out, sampled.x.to(x.dtype))
    assert torch.equal(scheduler.state().values, sampled.values)
    assert scheduler.state().record == sampled.record
    if formula in INVERTIBLE:
        inverse = scheduler.inverse()
        back = run(inverse, network, inverse.start_from(scheduler.state()))
        inverted = vsvf.invert(eps, sampled, scheduler.grid, formula)
        assert torch.equal(back, inverted.x.to(x.dtype))
        assert inverse.state().record == inverted.record
        forward = inverse.inverse()
        again = run(forward, network, forward.start_from(inverse.state()))
        assert torch.equal(again, vsvf.sample(eps, inverted, scheduler.grid, formula).x.to(x.dtype))


@pytest.mark.parametrize("kind", ["sample", "v_prediction"])
@pytest.mark.parametrize("starter", ["heun", "rk4:2", "lower_order"])
def test_starters_and_prediction_types(network: Any, starter: str, kind: str) -> None:
    scheduler = make("adams_bashforth(3)", starter=starter, prediction_type=kind)
    scheduler.set_timesteps(8)
    x = noise(2, 3, 8, 8)
    sampled = vsvf.sample(unet(network, scheduler), x, scheduler.grid, "adams_bashforth(3)", starter=starter)
    assert torch.equal(run(scheduler, network, x), sampled.x)
    assert len(scheduler.timesteps) == sampled.nfe == {"heun": 10, "rk4:2": 22, "lower_order": 8}[starter]


@pytest.mark.parametrize("formula", ["belm(2)", "stable_belm(3)", "mccallum_foster(0.999)"])
def test_fixed_arithmetic_returns_every_bit(network: Any, formula: str) -> None:
    scheduler = make(formula, arithmetic="fixed")
    scheduler.set_timesteps(10)
    x = noise(2, 3, 8, 8)
    image = run(scheduler, network, x)
    inverse = scheduler.inverse()
    latent = inverse.start_from(scheduler.state())
    assert latent.dtype == torch.float32
    run(inverse, network, latent)
    first = vsvf.sample(unet(network, scheduler), x, scheduler.grid, formula, arithmetic="fixed")
    assert torch.equal(vsvf.invert(unet(network, scheduler), first, scheduler.grid, formula).values, inverse.state().values)
    forward = inverse.inverse()
    assert torch.equal(run(forward, network, forward.start_from(inverse.state())), image)
    assert torch.equal(forward.state().values, first.values)


def test_inversion_of_an_image_starts_as_invert_does(network: Any) -> None:
    scheduler = make("stable_belm(3)", inverse=True, starter="heun")
    scheduler.set_timesteps(10)
    eps, image = unet(network, scheduler), noise(2, 3, 8, 8)
    inverted = vsvf.invert(eps, image, scheduler.grid, "stable_belm(3)", starter="heun")
    assert torch.equal(run(scheduler, network, image), inverted.x)
    assert list(scheduler.timesteps) == sorted(scheduler.timesteps)
    assert scheduler.state().nfe == inverted.nfe


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_networks_keep_full_precision_states(dtype: torch.dtype) -> None:
    network = small_unet().to(dtype)
    scheduler = make("belm(2)", arithmetic="float64")
    scheduler.set_timesteps(10)
    x = noise(2, 3, 8, 8, dtype=dtype)
    out = run(scheduler, network, x)
    assert out.dtype == dtype and scheduler.state().values.dtype == torch.float64
    expected = vsvf.sample(unet(network, scheduler), x, scheduler.grid, "belm(2)", arithmetic="float64")
    assert torch.equal(scheduler.state().values, expected.values)


# ---- timesteps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [5, 10, 50, 500])
@pytest.mark.parametrize("config", [SD, DDPM, {**SD, "timestep_spacing": "trailing"}], ids=["sd", "ddpm", "trailing"])
def test_timesteps_are_those_of_ddim(config: dict[str, Any], steps: int) -> None:
    ddim = diffusers.DDIMScheduler(**config)
    scheduler = VSVFScheduler.from_config(ddim.config)
    ddim.set_timesteps(steps)
    scheduler.set_timesteps(steps)
    assert torch.equal(scheduler.timesteps, ddim.timesteps)


def test_the_end_is_read_from_the_config() -> None:
    smallest = (0.00085 / (1 - 0.00085)) ** 0.5
    for keys, sigma in (
        ({}, 0.0),
        ({"set_alpha_to_one": False}, smallest),
        ({"final_sigmas_type": "zero", "set_alpha_to_one": False}, 0.0),
        ({"final_sigmas_type": "sigma_min"}, smallest),
    ):
        betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
        scheduler = VSVFScheduler.from_config({**betas, **keys})
        scheduler.set_timesteps(10)
        assert scheduler.grid.sigma_bar[0] == pytest.approx(sigma, rel=1e-12)


def test_leading_without_offset_to_the_smallest_sigma_draws_one_more() -> None:
    """DDIM would spend its tenth evaluation on a step from t = 0 to t = 0."""
    scheduler = VSVFScheduler.from_config({**DDPM, "set_alpha_to_one": False})
    scheduler.set_timesteps(10)
    expected = vsvf.Grid.from_schedule(scheduler.schedule, 10, "leading", "smallest")
    assert np.array_equal(scheduler.grid.sigma_bar, expected.sigma_bar)
    assert scheduler.timesteps.tolist() == expected.timesteps[:0:-1].tolist()
    assert len(scheduler.timesteps) == 10 and int(scheduler.timesteps[-1]) > 0 and expected.timesteps[0] == 0


def test_formulas_that_blow_up_are_warned_of() -> None:
    with pytest.warns(vsvf.ZeroStabilityWarning, match=r"belm\(3\)"):
        make("belm(3)").set_timesteps(50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make("belm(2)").set_timesteps(50)


def test_own_timesteps_and_sigmas(network: Any) -> None:
    scheduler = make("belm(2)")
    scheduler.set_timesteps(timesteps=[999, 850, 736, 645, 24])
    assert scheduler.timesteps.tolist() == [999, 850, 736, 645, 24]
    assert scheduler.grid.timesteps.tolist() == [0, 24, 645, 736, 850, 999]
    scheduler.set_timesteps(sigmas=[14.0, 6.0, 2.0, 0.4, 0.0])
    assert np.array_equal(scheduler.grid.sigma_bar, [0.0, 0.4, 2.0, 6.0, 14.0])
    assert scheduler.timesteps.dtype == torch.float32 and len(scheduler.timesteps) == 4
    x = noise(1, 3, 8, 8)
    assert torch.equal(run(scheduler, network, x), vsvf.sample(unet(network, scheduler), x, scheduler.grid, "belm(2)").x)
    for wrong in ([1, 2, 3], [999, 0], []):
        with pytest.raises(ValueError, match="timesteps must"):
            scheduler.set_timesteps(timesteps=wrong)
    with pytest.raises(ValueError, match="give one of"):
        scheduler.set_timesteps(5, timesteps=[3, 1])


def test_coupled_methods_repeat_their_timesteps() -> None:
    for formula in ("edict(0.93)", "mccallum_foster(0.9)"):
        scheduler = make(formula)
        scheduler.set_timesteps(10)
        assert len(scheduler.timesteps) == 20 and scheduler.order == 2
    scheduler = make("edict(0.93)")
    scheduler.set_timesteps(10)
    assert torch.equal(scheduler.timesteps[::2], scheduler.timesteps[1::2])


def test_zero_terminal_snr_says_where_to_start(network: Any) -> None:
    config = {**SD, "timestep_spacing": "trailing", "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    scheduler = VSVFScheduler.from_config(config)
    with pytest.raises(ValueError, match=r"timesteps=\[998, …\]"):
        scheduler.set_timesteps(10)
    scheduler.set_timesteps(timesteps=[998, 799, 599, 399, 199])
    assert torch.isfinite(run(scheduler, network, noise(1, 3, 8, 8))).all()


def test_karras_spacing_from_the_config() -> None:
    scheduler = VSVFScheduler.from_config({**SD, "use_karras_sigmas": True})
    scheduler.set_timesteps(10)
    expected = vsvf.Grid.from_schedule(scheduler.schedule, 10, "karras", "smallest")
    assert np.array_equal(scheduler.grid.sigma_bar, expected.sigma_bar)


# ---- the config ------------------------------------------------------------------------------------------------


def test_config_round_trip(tmp_path: Any) -> None:
    scheduler = make("root_placed_belm((-1,),0.5)", starter="rk4:2", arithmetic="float64", inverse=True)
    scheduler.save_config(tmp_path)

    def public(config: Any) -> dict[str, Any]:
        return {k: v for k, v in config.items() if k[0] != "_"}

    for loaded in (VSVFScheduler.from_pretrained(tmp_path), VSVFScheduler.from_config(scheduler.config)):
        assert public(loaded.config) == public(scheduler.config)
        assert loaded.formula.name == scheduler.formula.name and loaded.config.inverse


def test_formula_by_name_steps_and_parameters() -> None:
    first = VSVFScheduler.from_config(SD, formula="belm", steps=2)
    assert first.config.formula == "belm(2)" and first.config.steps is None
    assert VSVFScheduler.from_config(first.config, formula="ddim").formula.name == "ddim"
    assert VSVFScheduler.from_config(SD, formula="edict", parameters=[0.9]).formula.name == "edict(0.9)"
    with pytest.raises(ValueError, match="has its arguments already"):
        VSVFScheduler.from_config(SD, formula="belm(2)", steps=2)
    with pytest.raises(ValueError, match="is not known"):
        VSVFScheduler.from_config(SD, formula="euler")
    with pytest.raises(TypeError, match="must be a name"):
        VSVFScheduler.from_config(SD, formula=vsvf.formulas.belm(2))


def test_other_schedulers_take_the_config_back() -> None:
    scheduler = VSVFScheduler.from_config(diffusers.DDIMScheduler(**SD).config)
    back = diffusers.DDIMScheduler.from_config(scheduler.config)
    assert all(back.config[key] == value for key, value in SD.items())


@pytest.mark.parametrize("formula", ["adams_moulton(2)", "bdf(2)"])
def test_implicit_formulas_are_refused(formula: str) -> None:
    with pytest.raises(ValueError, match=r"is implicit.*vsvf\.sample"):
        make(formula)


@pytest.mark.parametrize("formula", ["ddim", "adams_bashforth(2)", "deis(2)", "dpm_solver_pp(2)", "bdia(0)"])
def test_iterative_inverses_are_refused(formula: str) -> None:
    with pytest.raises(ValueError, match=r"not backward explicit.*vsvf\.invert"):
        make(formula, inverse=True)


def test_configs_that_cannot_be_followed_are_refused() -> None:
    for config, message in (
        (diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True).config, "stochastic_sampling"),
        (diffusers.EDMEulerScheduler().config, "has no betas"),
        ({**SD, "use_lu_lambdas": True}, "use_lu_lambdas"),
        ({**SD, "final_sigmas_type": "big"}, "final_sigmas_type"),
        ({**SD, "prediction_type": "noise"}, "prediction_type"),
        ({**SD, "arithmetic": "float8"}, "arithmetic"),
        ({**SD, "starter": "midpoint"}, "starter"),
    ):
        with pytest.raises(ValueError, match=message):
            VSVFScheduler.from_config(config)


def test_clipping_is_not_applied_and_says_so(network: Any) -> None:
    with pytest.warns(UserWarning, match="clip_sample"):
        VSVFScheduler.from_config(diffusers.DDPMScheduler().config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VSVFScheduler.from_config(diffusers.DDIMScheduler(**SD).config)


# ---- stepping --------------------------------------------------------------------------------------------------


def test_steps_out_of_order_are_refused(network: Any) -> None:
    scheduler = make("belm(2)")
    x = noise(1, 3, 8, 8)
    with pytest.raises(ValueError, match="set_timesteps"):
        scheduler.step(x, 999, x)
    scheduler.set_timesteps(4)
    with pytest.raises(ValueError, match="eta must be 0"):
        scheduler.step(x, 999, x, eta=0.5)
    with pytest.raises(ValueError, match="clipping"):
        scheduler.step(x, 999, x, use_clipped_model_output=True)
    with pytest.raises(ValueError, match="model_output has shape"):
        scheduler.step(noise(1, 6, 8, 8), 999, x)
    y = scheduler.step(x, 999, x).prev_sample
    with pytest.raises(ValueError, match="the next of timesteps is 749"):
        scheduler.step(x, 499, y)
    for t in scheduler.timesteps[1:]:
        y = scheduler.step(x, t, y, return_dict=False)[0]
    with pytest.raises(ValueError, match="all timesteps have been stepped"):
        scheduler.step(x, 249, y)


def test_a_prediction_that_is_not_finite_is_named() -> None:
    scheduler = make("belm(2)")
    scheduler.set_timesteps(4)
    x = noise(1, 3, 8, 8)
    with pytest.raises(vsvf.NonFiniteError, match="evaluation 2"):  # at the end: no step waits for the device
        for n, t in enumerate(scheduler.timesteps):
            x = scheduler.step(x * (torch.nan if n == 1 else 0.1), t, x).prev_sample
    assert n == 3


def test_learned_variance_is_split_off() -> None:
    model = small_unet(out_channels=6)
    scheduler = make("belm(2)", variance_type="learned_range")
    scheduler.set_timesteps(5)
    x = noise(1, 3, 8, 8)
    assert torch.equal(run(scheduler, model, x), vsvf.sample(unet(model, scheduler), x, scheduler.grid, "belm(2)").x)


def test_states_start_anew_with_set_timesteps(network: Any) -> None:
    scheduler, x = make("belm(2)"), noise(1, 3, 8, 8)
    results = []
    for steps in (6, 9, 6):
        scheduler.set_timesteps(steps)
        results.append(run(scheduler, network, x))
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("arithmetic", [None, "fixed"])
@pytest.mark.parametrize("formula", ["stable_belm(3)", "edict(0.93)", "mccallum_foster(1)"])
@pytest.mark.parametrize("done", [0, 1, 2, 5])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda scheduler: pickle.loads(pickle.dumps(scheduler))])
def test_a_scheduler_can_be_copied_in_mid_run(network: Any, copied: Any, done: int, formula: str, arithmetic: str | None) -> None:
    scheduler, x = make(formula, arithmetic=arithmetic), noise(1, 3, 8, 8)
    scheduler.set_timesteps(8)
    with torch.no_grad():
        for t in scheduler.timesteps[:done]:
            x = scheduler.step(network(x, t).sample, t, x).prev_sample
        ends = []
        for one in (copied(scheduler), scheduler):
            y = x
            for t in one.timesteps[done:]:
                y = one.step(network(y, t).sample, t, y).prev_sample
            ends.append(copied(one).state())
    assert torch.equal(ends[0].values, ends[1].values) and ends[0].record == ends[1].record


@torch.no_grad()
def test_a_batch_that_grows_between_steps_is_refused(network: Any) -> None:
    for arithmetic in (None, "fixed"):
        scheduler, x = make("belm(2)", arithmetic=arithmetic), noise(1, 3, 8, 8)
        scheduler.set_timesteps(5)
        x = scheduler.step(network(x, 999).sample, scheduler.timesteps[0], x).prev_sample
        x = torch.cat([x, x])
        with pytest.raises(ValueError, match="shape"):
            scheduler.step(network(x, 800).sample, scheduler.timesteps[1], x)


def test_inference_mode_changes_nothing(network: Any) -> None:
    for formula in ("belm(2)", "edict(0.93)"):
        ends = []
        for mode in (torch.no_grad, torch.inference_mode):
            scheduler = make(formula)
            scheduler.set_timesteps(5)
            with mode():
                ends.append(run(scheduler, network, noise(1, 3, 8, 8)))
        assert torch.equal(ends[0], ends[1])


@torch.no_grad()
def test_starting_from_the_end_that_a_state_stands_at_is_refused(network: Any) -> None:
    scheduler = make("belm(2)")
    scheduler.set_timesteps(5)
    run(scheduler, network, noise(1, 3, 8, 8))
    state = scheduler.state()
    with pytest.raises(ValueError, match="at its end already"):
        scheduler.start_from(state)
    assert torch.isfinite(scheduler.inverse().start_from(state)).all()


def test_a_begin_index_is_an_entry_of_the_timesteps() -> None:
    scheduler = make("belm(2)")
    scheduler.set_timesteps(5)
    for wrong, error in ((-1, ValueError), (5, ValueError), (1.5, TypeError), (True, TypeError), ("1", TypeError)):
        with pytest.raises(error, match="begin_index"):
            scheduler.set_begin_index(wrong)


@torch.no_grad()
def test_a_scheduler_refuses_the_states_that_sample_and_invert_refuse(network: Any) -> None:
    """A state of fixed-point numbers made under another alpha at the same nodes and times."""
    scheduler = make("belm(2)", arithmetic="fixed")
    scheduler.set_timesteps(5)
    run(scheduler, network, noise(1, 3, 8, 8))
    state, grid = scheduler.state(), scheduler.grid
    other = unet(network, diffusers.DDPMScheduler(**{**DDPM, "beta_end": 0.03}))
    with pytest.raises(vsvf.StateFileError, match="another schedule"):
        vsvf.invert(other, state, grid, "belm(2)")
    inverse = VSVFScheduler.from_config({**DDPM, "beta_end": 0.03}, formula="belm(2)", arithmetic="fixed", inverse=True)
    inverse.grid, inverse.timesteps = grid, scheduler.timesteps
    with pytest.raises(vsvf.StateFileError, match="another schedule"):
        inverse.start_from(state)


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("formula", ["belm(2)", "edict(0.93)"])
def test_starting_in_the_middle_as_image_to_image_does(network: Any, formula: str, announced: bool) -> None:
    scheduler, x = make(formula), noise(1, 3, 8, 8)
    scheduler.set_timesteps(10)
    start = 4 * scheduler.order
    timesteps = scheduler.timesteps[start:]
    if announced:
        scheduler.set_begin_index(start)
    y = scheduler.add_noise(x, noise(1, 3, 8, 8, seed=1), timesteps[:1])
    grid = vsvf.Grid(scheduler.grid.sigma_bar[:7], scheduler.grid.alpha[:7])
    expected = vsvf.sample(unet(network, scheduler), y, grid, formula)
    with torch.no_grad():
        for t in timesteps:
            y = scheduler.step(network(y, t).sample, t, y).prev_sample
    assert torch.equal(y, expected.x)


@pytest.mark.parametrize("done", [4, 7])
def test_two_states_to_a_node_begin_with_as_few_nodes_as_they_need(network: Any, done: int) -> None:
    """After 7 of 10 steps 4 nodes are left, on the first 2 of which the window of 4 states stands."""
    scheduler, x = make("pec_belm", set_alpha_to_one=False), noise(1, 3, 8, 8)
    scheduler.set_timesteps(10)
    timesteps = scheduler.timesteps[done:]
    scheduler.set_begin_index(done)
    y = scheduler.add_noise(x, noise(1, 3, 8, 8, seed=1), timesteps[:1])
    left = 11 - done
    grid = vsvf.Grid(scheduler.grid.sigma_bar[:left], scheduler.grid.alpha[:left])
    expected = vsvf.sample(unet(network, scheduler), y, grid, "pec_belm")
    with torch.no_grad():
        for t in timesteps:
            y = scheduler.step(network(y, t).sample, t, y).prev_sample
    assert torch.equal(y, expected.x) and len(timesteps) == expected.nfe == left


def test_within_a_step_there_is_no_beginning_and_no_state(network: Any) -> None:
    scheduler, x = make("edict(0.93)"), noise(1, 3, 8, 8)
    scheduler.set_timesteps(5)
    with pytest.raises(ValueError, match="no state yet"):
        scheduler.state()
    scheduler.set_begin_index(3)
    with pytest.raises(ValueError, match="start of a step"):
        scheduler.step(x, scheduler.timesteps[3], x)
    scheduler.set_timesteps(5)
    scheduler.step(x, scheduler.timesteps[0], x)
    with pytest.raises(ValueError, match="within a step"):
        scheduler.state()


@torch.no_grad()
def test_latents_edited_between_steps_take_the_place_of_the_state(network: Any) -> None:
    """As inpainting and callbacks do; multistep methods keep their older states."""
    scheduler, x = make("ddim"), noise(1, 3, 8, 8)
    scheduler.set_timesteps(10)
    ddim = diffusers.DDIMScheduler(**SD, timestep_spacing="trailing")
    ddim.set_timesteps(10)
    y, z = x, x
    for n, t in enumerate(ddim.timesteps):
        y = scheduler.step(network(y, t).sample, t, y).prev_sample
        z = ddim.step(network(z, t).sample, t, z).prev_sample
        if n == 2:
            y, z = y * 0.5, z * 0.5
        if n == 3:
            y += 0.1  # in place
            z = z + 0.1
    assert torch.allclose(y, z, rtol=1e-4, atol=1e-4)


def test_add_noise_follows_the_schedule() -> None:
    scheduler, ddim = make("belm(2)"), diffusers.DDIMScheduler(**SD)
    x, e, t = noise(3, 3, 8, 8), noise(3, 3, 8, 8, seed=1), torch.tensor([0, 500, 999])
    assert torch.allclose(scheduler.add_noise(x, e, t), ddim.add_noise(x, e, t), atol=1e-5)
    assert scheduler.add_noise(x.half(), e.half(), t[1:2]).dtype == torch.float16
    assert scheduler.init_noise_sigma == 1.0 and len(scheduler) == 1000


# ---- states ----------------------------------------------------------------------------------------------------


def test_states_of_another_grid_are_refused(network: Any) -> None:
    scheduler = make("belm(2)")
    scheduler.set_timesteps(6)
    run(scheduler, network, noise(1, 3, 8, 8))
    inverse = scheduler.inverse()
    with pytest.raises(vsvf.StateFileError, match="another grid"):
        inverse.start_from(scheduler.state(), 7)
    inverse.set_timesteps(7)  # the refused states are forgotten
    latents = inverse.start_from(scheduler.state(), 6)
    with pytest.raises(ValueError, match="start_from returned"):
        inverse.step(latents, inverse.timesteps[0], latents + 1.0)
    with pytest.raises(ValueError, match="would change them"):
        make("belm(2)", arithmetic="float64").start_from(scheduler.state(), 6)


def test_states_wait_for_a_pipelines_own_set_timesteps(network: Any) -> None:
    scheduler, x = make("stable_belm(2)"), noise(1, 3, 8, 8)
    scheduler.set_timesteps(6)
    run(scheduler, network, x)
    inverse = scheduler.inverse()
    latents = inverse.start_from(scheduler.state())
    inverse.set_timesteps(6)
    assert len(inverse.timesteps) == 5
    assert float((run(inverse, network, latents) - x).abs().max()) < 1e-3
    inverse.set_timesteps(6)
    assert len(inverse.timesteps) == 6  # used up


@pytest.mark.parametrize("arithmetic", [None, "fixed"])
def test_a_march_goes_on_from_a_state_saved_in_the_middle(network: Any, tmp_path: Any, arithmetic: str | None) -> None:
    scheduler, x = make("belm(2)", arithmetic=arithmetic), noise(1, 3, 8, 8)
    scheduler.set_timesteps(8)
    whole = run(scheduler, network, x)
    scheduler.set_timesteps(8)
    with torch.no_grad():
        for t in scheduler.timesteps[:4]:
            x = scheduler.step(network(x, t).sample, t, x).prev_sample
    scheduler.state().save(tmp_path / "state")
    later = make("belm(2)", arithmetic=arithmetic)
    latents = later.start_from(vsvf.State.load(tmp_path / "state"), 8)
    assert torch.equal(run(later, network, latents), whole)


@pytest.mark.parametrize(("formula", "warned"), [("stable_belm(3)", 0), ("stable_belm(4)", 1)])
def test_spurious_modes_are_told_of_at_the_end(formula: str, warned: int) -> None:
    scheduler = VSVFScheduler.from_config({**DDPM, "timestep_spacing": "leading"}, formula=formula)
    scheduler.set_timesteps(20)
    data = load((resources.files("vsvf") / "assets" / "digits_test.safetensors").read_bytes())["images"].double()[:, None]
    images = data / 127.5 - 1.0
    exact = vsvf.predictors.ideal_denoiser(images, 0.05, scheduler.schedule)

    def network(x: torch.Tensor, t: Any) -> Any:
        return SimpleNamespace(sample=exact.epsilon(x, float(scheduler.schedule.sigma_bar(np.array(float(t))))))

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run(scheduler, network, noise(2, 1, 28, 28).double())
    assert sum(warning.category is vsvf.SpuriousModeWarning for warning in said) == warned
