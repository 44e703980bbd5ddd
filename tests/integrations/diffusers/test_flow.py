"""VSVFScheduler in flow matching: against diffusers' Euler scheduler, against an exact solution, and in real pipelines."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

diffusers = pytest.importorskip("diffusers")

from diffusers_models import noise, small_autoencoder  # noqa: E402

import vsvf  # noqa: E402
from vsvf.integrations.diffusers import VSVFScheduler  # noqa: E402
from vsvf.integrations.diffusers.flow import flow_schedule  # noqa: E402
from vsvf.predictors import Predictor  # noqa: E402

Euler = diffusers.FlowMatchEulerDiscreteScheduler

CONFIGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "shifted": ({"shift": 3.0}, {}),
    "dynamic": ({"use_dynamic_shifting": True}, {"mu": 0.8}),
    "linear dynamic": ({"use_dynamic_shifting": True, "time_shift_type": "linear"}, {"mu": 1.3}),
    "terminal": ({"use_dynamic_shifting": True, "shift_terminal": 0.02}, {"mu": 0.8}),
    "karras": ({"shift": 2.0, "use_karras_sigmas": True}, {}),
}


def velocity(x: torch.Tensor, t: Any) -> torch.Tensor:
    """A smooth field, for steps against diffusers' own."""
    return torch.tanh(1.5 * x + 0.3) - float(t) / 900.0


def run(scheduler: Any, x: torch.Tensor) -> torch.Tensor:
    for t in scheduler.timesteps:
        x = scheduler.step(velocity(x, t), t, x, return_dict=False)[0]
    return x


def made(config: dict[str, Any], **own: Any) -> VSVFScheduler:
    return VSVFScheduler.from_config(Euler(**config).config, **own)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("given", ["steps", "sigmas"])
def test_ddim_takes_the_steps_of_diffusers_euler_scheduler(name: str, given: str) -> None:
    config, more = CONFIGS[name]
    how = {"num_inference_steps": 7} if given == "steps" else {"sigmas": np.linspace(1.0, 1.0 / 7.0, 7).tolist()}
    reference, own = Euler(**config), made(config, formula="ddim")
    reference.set_timesteps(**how, **more)
    own.set_timesteps(**how, **more)
    assert torch.equal(own.timesteps, reference.timesteps)
    x = noise(2, 4, 5, 5)
    torch.testing.assert_close(run(own, x), run(reference, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("formula", "order"), [("ddim", 1), ("belm(2)", 2), ("stable_belm(3)", 2)])
def test_orders_on_gaussian_data_with_the_exact_solution(formula: str, order: int) -> None:
    """x_0 ~ N(0, s^2): v = (sigma - (1 - sigma) s^2) x / r^2, r^2 = (1 - sigma)^2 s^2 + sigma^2, and x is proportional to r."""
    s = 0.5
    x = noise(1, 1, 3, 3, dtype=torch.float64)
    errors = []
    for steps in (40, 80):
        scheduler = made({"shift": 1.5}, formula=formula, starter="rk4")
        scheduler.set_timesteps(steps)
        y = x
        for t in scheduler.timesteps:
            u = float(t) / 1000.0
            rate = (u - (1.0 - u) * s**2) / ((1.0 - u) ** 2 * s**2 + u**2)
            y = scheduler.step(rate * y, t, y).prev_sample
        errors.append(float((y - s * x).abs().max()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("formula", ["belm(2)", "stable_belm(3)", "bdia(1)", "edict(0.93)"])
def test_inversion_reaches_sigma_one_and_returns_the_noise(formula: str) -> None:
    scheduler = made({"shift": 3.0}, formula=formula, arithmetic="fixed")
    scheduler.set_timesteps(12)
    x = noise(2, 4, 5, 5)
    image = run(scheduler, x)
    back = scheduler.inverse()
    first = back.start_from(scheduler.state())
    found = run(back, first)
    torch.testing.assert_close(found, x, rtol=0.0, atol=1e-6)
    again = back.inverse()
    assert torch.equal(run(again, again.start_from(back.state())), image)
    assert torch.equal(again.state().values, scheduler.state().values)


def test_states_and_grid_are_those_of_the_functions() -> None:
    scheduler = made({"shift": 3.0}, formula="belm(2)")
    scheduler.set_timesteps(9)
    x = noise(2, 4, 5, 5, dtype=torch.float64)
    run(scheduler, x)
    eps = Predictor(lambda y, t: velocity(y, t[0].float()), flow_schedule(), kind="epsilon")  # times as the scheduler gives them
    expected = vsvf.sample(eps, x, scheduler.grid, "belm(2)", warn=False)
    torch.testing.assert_close(scheduler.state().values, expected.values, rtol=1e-6, atol=1e-6)
    back = vsvf.invert(eps, scheduler.state(), scheduler.grid, "belm(2)", warn=False)
    torch.testing.assert_close(back.x, x, rtol=1e-9, atol=1e-9)


def test_the_config_survives_saving_and_pickling(tmp_path: Path) -> None:
    scheduler = made({"shift": 3.0, "use_dynamic_shifting": True}, formula="stable_belm(3)")
    scheduler.save_pretrained(tmp_path)
    for other in (VSVFScheduler.from_pretrained(tmp_path), pickle.loads(pickle.dumps(scheduler))):
        assert other.config["flow"] == scheduler.config["flow"]
        other.set_timesteps(6, mu=0.7)
        scheduler.set_timesteps(6, mu=0.7)
        assert torch.equal(other.timesteps, scheduler.timesteps)


def test_noise_is_added_along_the_flow() -> None:
    scheduler, reference = made({}, formula="belm(2)"), Euler()
    for each in (scheduler, reference):
        each.set_timesteps(10)
    x, eps, t = noise(2, 4, 5, 5), noise(2, 4, 5, 5, seed=1), reference.timesteps[3].expand(2)
    torch.testing.assert_close(scheduler.scale_noise(x, t, eps), reference.scale_noise(x, t, eps))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="invert_sigmas=True"):
        made({"invert_sigmas": True})
    with pytest.raises(ValueError, match="mu"):
        made({"use_dynamic_shifting": True}).set_timesteps(5)
    with pytest.raises(ValueError, match="mu is for the dynamic shifting"):
        VSVFScheduler().set_timesteps(5, mu=1.0)
    with pytest.raises(ValueError, match="give one of"):
        made({}).set_timesteps()


# ---- real pipelines with small random weights ------------------------------------------------------------------


def stable_diffusion_3() -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, caption_projection_dim=16, pooled_projection_dim=12, out_channels=4, pos_embed_max_size=16,
    ).eval()  # fmt: skip
    pipe = diffusers.StableDiffusion3Pipeline(
        transformer=transformer, scheduler=Euler(shift=3.0), vae=small_autoencoder(shift_factor=0.06), text_encoder=None,
        tokenizer=None, text_encoder_2=None, tokenizer_2=None, text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip
    given = {"height": 8 * pipe.vae_scale_factor, "width": 8 * pipe.vae_scale_factor, "guidance_scale": 3.0}
    given |= {"prompt_embeds": noise(1, 5, 16), "pooled_prompt_embeds": noise(1, 12, seed=1)}
    given |= {"negative_prompt_embeds": noise(1, 5, 16, seed=2), "negative_pooled_prompt_embeds": noise(1, 12, seed=3)}
    return pipe, {**given, "latents": noise(1, 4, 8, 8, seed=4)}


def flux() -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=12, axes_dims_rope=(4, 4, 8),
    ).eval()  # fmt: skip
    pipe = diffusers.FluxPipeline(
        transformer=transformer, scheduler=Euler(shift=3.0, use_dynamic_shifting=True), vae=small_autoencoder(), text_encoder=None,
        tokenizer=None, text_encoder_2=None, tokenizer_2=None,
    )  # fmt: skip
    given = {"height": 8 * pipe.vae_scale_factor, "width": 8 * pipe.vae_scale_factor}
    given |= {"prompt_embeds": noise(1, 5, 16), "pooled_prompt_embeds": noise(1, 12, seed=1)}
    return pipe, {**given, "latents": noise(1, 16, 16, seed=4)}


@torch.no_grad()
@pytest.mark.parametrize("make", [stable_diffusion_3, flux])
def test_pipelines_sample_as_with_their_own_scheduler_and_invert_exactly(make: Any) -> None:
    pipe, given = make()
    pipe.set_progress_bar_config(disable=True)
    given |= {"num_inference_steps": 6, "output_type": "latent"}
    expected = pipe(**given).images
    own = pipe.scheduler.config
    pipe.scheduler = VSVFScheduler.from_config(own, formula="ddim")
    torch.testing.assert_close(pipe(**given).images, expected, rtol=1e-4, atol=1e-4)

    pipe.scheduler = VSVFScheduler.from_config(own, formula="stable_belm(3)", arithmetic="fixed")
    image = pipe(**given).images
    states = pipe.scheduler.state()
    pipe.scheduler = pipe.scheduler.inverse()
    found = pipe(**{**given, "latents": pipe.scheduler.start_from(states)}).images
    torch.testing.assert_close(found, given["latents"], rtol=0.0, atol=1e-6)
    states_there = pipe.scheduler.state()
    pipe.scheduler = pipe.scheduler.inverse()
    again = pipe(**{**given, "latents": pipe.scheduler.start_from(states_there)}).images
    assert torch.equal(again, image)
