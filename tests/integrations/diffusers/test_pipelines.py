"""Whole pipelines: swap the scheduler, make an image, invert it, get the latents back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers_models import DDPM, diffusers, noise, small_stable_diffusion, small_unet

import vsvf
from vsvf.integrations.diffusers import Autoencoder, VSVFScheduler, from_pipeline

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning", "ignore:__array_wrap__:DeprecationWarning")

N = 12


@pytest.fixture
def pipe(tmp_path: Path) -> Any:
    return small_stable_diffusion(tmp_path)


def latents_of(pipe: Any, latents: torch.Tensor, guidance: float, **kwargs: Any) -> torch.Tensor:
    return pipe(
        ["a cat", "a car"],
        negative_prompt=["", "bad"],
        latents=latents,
        num_inference_steps=N,
        guidance_scale=guidance,
        output_type="latent",
        **kwargs,
    ).images


def round_trip(pipe: Any, x: torch.Tensor, guidance: float, **kwargs: Any) -> tuple[torch.Tensor, ...]:
    """Sample, invert, sample again, all in the pipeline: the image, the first noise states, both ends once more."""
    pipe.scheduler = VSVFScheduler.from_config(pipe.scheduler.config, **kwargs)
    image = latents_of(pipe, x, guidance)
    states = pipe.scheduler.state()
    pipe.scheduler = pipe.scheduler.inverse()
    back = latents_of(pipe, pipe.scheduler.start_from(states), guidance)
    noises = pipe.scheduler.state()
    pipe.scheduler = pipe.scheduler.inverse()
    again = latents_of(pipe, pipe.scheduler.start_from(noises), guidance)
    assert torch.equal(again.to(x.dtype), pipe.scheduler.state().x.to(x.dtype))
    return image, back, again


# ---- the same as vsvf.sample -----------------------------------------------------------------------------------


@pytest.mark.parametrize("formula", ["belm(2)", "stable_belm(3)", "edict(0.93)"])
@pytest.mark.parametrize("guidance", [1.0, 3.0, 7.5])
def test_stable_diffusion_agrees_with_sample(pipe: Any, formula: str, guidance: float) -> None:
    """To the last bit without guidance. With it the pipeline forms u + w (c - u), `Guided` the same by torch.lerp: one rounding
    apart per evaluation, hence a tolerance (float32 units of rounding, amplified by guidance and steps)."""
    x = noise(2, 4, 8, 8)
    pipe.scheduler = VSVFScheduler.from_config(pipe.scheduler.config, formula=formula, timestep_spacing="trailing")
    image = latents_of(pipe, x, guidance)
    eps = from_pipeline(pipe, ["a cat", "a car"], ["", "bad"], guidance)
    expected = vsvf.sample(eps, x, pipe.scheduler.grid, formula)
    assert len(pipe.scheduler.timesteps) == expected.nfe
    if guidance == 1.0:
        assert torch.equal(image, expected.x)
    assert float((image - expected.x).abs().max() / expected.x.abs().max()) < 1e-4


@pytest.mark.parametrize("kind", ["DDPMPipeline", "DDIMPipeline"])
def test_image_pipelines_agree_with_sample_to_the_last_bit(kind: str) -> None:
    pipe = getattr(diffusers, kind)(small_unet(), diffusers.DDIMScheduler(**DDPM))
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = VSVFScheduler.from_config(pipe.scheduler.config, formula="belm", steps=2)
    image = pipe(batch_size=2, num_inference_steps=N, generator=torch.Generator().manual_seed(0), output_type="np").images
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = vsvf.sample(from_pipeline(pipe), x, pipe.scheduler.grid, "belm(2)").x
    assert np.array_equal(image, (expected / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy())


# ---- there and back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=lambda d: str(d)[6:])
@pytest.mark.parametrize("guidance", [1.0, 3.0, 7.5])
def test_every_bit_comes_back_in_fixed_arithmetic(pipe: Any, guidance: float, dtype: torch.dtype) -> None:
    pipe.to(dtype)
    x = noise(2, 4, 8, 8, dtype=dtype)
    for formula in ("belm(2)", "stable_belm(3)"):
        image, back, again = round_trip(pipe, x, guidance, formula=formula, arithmetic="fixed")
        assert torch.equal(again, image)
        # the noise itself was rounded to fixed point (2^-32 or finer) before the first evaluation
        assert torch.equal(back, x)


@pytest.mark.parametrize("guidance", [1.0, 3.0, 7.5])
def test_floating_point_errors_are_as_stated(pipe: Any, guidance: float) -> None:
    """belm(2) amplifies rounding by (h_N/h_1)^2 on its way back, 6e4 on this grid, which leaves two digits of float32;
    stable_belm(3), amplifying by h_N/h_1 = 254, leaves four. float64 states return every digit of float32 latents."""
    x = noise(2, 4, 8, 8)
    errors = {}
    for formula in ("belm(2)", "stable_belm(3)"):
        for arithmetic in ("float32", "float64"):
            _, back, _ = round_trip(pipe, x, guidance, formula=formula, arithmetic=arithmetic)
            errors[formula, arithmetic] = float((back - x).abs().max())
    h = pipe.scheduler.grid.h
    assert h[-1] / h[0] == pytest.approx(254, abs=1)
    assert 1e-3 < errors["belm(2)", "float32"] < 1e-1
    assert errors["stable_belm(3)", "float32"] < 1e-3
    assert max(errors["belm(2)", "float64"], errors["stable_belm(3)", "float64"]) < 1e-6


@torch.no_grad()
def test_an_image_is_inverted_and_reconstructed(pipe: Any) -> None:
    """A new user's path: an image, not a sample; k states are made by a starter, carried to noise and brought back."""
    image = noise(2, 3, 16, 16).clamp(-1, 1)
    auto = Autoencoder(pipe.vae)
    latents = auto.encode(image)
    pipe.scheduler = VSVFScheduler.from_config(pipe.scheduler.config, formula="belm", steps=2, inverse=True, arithmetic="fixed")
    latents_of(pipe, latents, 1.0)
    states = pipe.scheduler.state()
    pipe.scheduler = pipe.scheduler.inverse()
    again = latents_of(pipe, pipe.scheduler.start_from(states), 1.0)
    assert torch.equal(again, latents)
    assert torch.equal(auto.decode(again), auto.decode(latents))


def test_a_state_goes_from_the_pipeline_to_invert_through_a_file(pipe: Any, tmp_path: Path) -> None:
    x = noise(2, 4, 8, 8)
    pipe.scheduler = VSVFScheduler.from_config(pipe.scheduler.config, formula="belm", steps=2, arithmetic="fixed")
    latents_of(pipe, x, 1.0)
    pipe.scheduler.state().save(tmp_path / "latent")
    eps = from_pipeline(pipe, ["a cat", "a car"], guidance=1.0)
    back = vsvf.invert(eps, vsvf.State.load(tmp_path / "latent"), pipe.scheduler.grid, "belm(2)")
    assert torch.equal(back.x.float(), x)


# ---- beside diffusers' own schedulers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "formula", "config"),
    [
        ("DDIMScheduler", "ddim", {}),
        ("DPMSolverMultistepScheduler", "dpm_solver_pp(2)", {"final_sigmas_type": "zero"}),
        ("DEISMultistepScheduler", "deis(2)", {}),
        ("LMSDiscreteScheduler", "adams_bashforth(4)", {"timestep_spacing": "leading", "final_sigmas_type": "zero"}),
    ],
)
def test_latents_agree_with_diffusers_schedulers(pipe: Any, theirs: str, formula: str, config: dict[str, Any]) -> None:
    config = {"timestep_spacing": "trailing", **config}
    base, x = pipe.scheduler.config, noise(2, 4, 8, 8)
    extra = {"lower_order_final": False} if theirs.startswith(("DPM", "DEIS")) else {}
    pipe.scheduler = getattr(diffusers, theirs).from_config(base, **config, **extra)
    expected = latents_of(pipe, x, 3.0)
    starter = "ddim" if formula == "ddim" else "lower_order"
    pipe.scheduler = VSVFScheduler.from_config(base, formula=formula, starter=starter, **config)
    if theirs.startswith("DDIM"):  # DDIM's trailing nodes are where it steps to only where N divides T
        pipe.scheduler = VSVFScheduler.from_config(base, formula=formula)
        expected = _ddim(pipe, x)
    mine = latents_of(pipe, x, 3.0)
    assert float((mine - expected).abs().max() / expected.abs().max()) < 2e-3


def _ddim(pipe: Any, x: torch.Tensor) -> torch.Tensor:
    mine = pipe.scheduler
    pipe.scheduler = diffusers.DDIMScheduler.from_config(mine.config)
    expected = latents_of(pipe, x, 3.0)
    pipe.scheduler = mine
    return expected


# ---- other pipelines, files, memory ----------------------------------------------------------------------------


@pytest.mark.parametrize("formula", ["belm(2)", "edict(0.93)"])
def test_image_to_image_begins_in_the_middle(pipe: Any, formula: str) -> None:
    parts = {k: v for k, v in pipe.components.items() if k not in ("image_encoder",)}
    other = diffusers.StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    other.scheduler = VSVFScheduler.from_config(pipe.scheduler.config, formula=formula)
    seen: list[int] = []
    other.unet.register_forward_pre_hook(lambda m, args: seen.append(int(args[1])))
    out = other(
        "a cat",
        image=noise(1, 3, 16, 16).clamp(0, 1),
        strength=0.5,
        num_inference_steps=10,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    ).images
    assert torch.isfinite(out).all()
    assert seen == other.scheduler.timesteps[5 * other.scheduler.order :].tolist()


def test_a_pipeline_with_the_scheduler_is_saved_and_loaded(pipe: Any, tmp_path: Path) -> None:
    pipe.scheduler = VSVFScheduler.from_config(pipe.scheduler.config, formula="stable_belm", steps=3)
    x = noise(2, 4, 8, 8)
    expected = latents_of(pipe, x, 3.0)
    pipe.save_pretrained(tmp_path / "pipe")
    again = VSVFScheduler.from_pretrained(tmp_path / "pipe", subfolder="scheduler")
    for scheduler in ({}, {"scheduler": again}):
        loaded = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "pipe", safety_checker=None, **scheduler)
        loaded.set_progress_bar_config(disable=True)
        assert isinstance(loaded.scheduler, VSVFScheduler)
        assert torch.equal(latents_of(loaded, x, 3.0), expected)


def _tensors(thing: Any, seen: set[int]) -> int:
    """Bytes of all distinct tensors that an object holds."""
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        storage = thing.untyped_storage()
        key = storage.data_ptr()
        if key in seen:
            return 0
        seen.add(key)
        return storage.nbytes()
    if isinstance(thing, dict):
        return sum(_tensors(v, seen) for v in thing.values())
    if isinstance(thing, (list, tuple)):
        return sum(_tensors(v, seen) for v in thing)
    if dataclasses.is_dataclass(thing) or type(thing).__module__.startswith("vsvf"):
        return _tensors(vars(thing), seen) if hasattr(thing, "__dict__") else 0
    return 0


@pytest.mark.parametrize("guidance", [1.0, 7.5])
@pytest.mark.parametrize("formula", ["belm(2)", "stable_belm(4)"])
def test_memory_does_not_grow_with_steps_or_guidance(formula: str, guidance: float, tmp_path: Path) -> None:
    pipe = small_stable_diffusion(tmp_path)
    x = noise(2, 4, 32, 32)
    pipe.scheduler = VSVFScheduler.from_config(pipe.scheduler.config, formula=formula, timestep_spacing="trailing")
    k = pipe.scheduler.formula.steps
    held = {}
    for steps in (8, 32):
        size = dict(height=64, width=64, num_inference_steps=steps)
        pipe(["a", "b"], latents=x, guidance_scale=guidance, output_type="latent", **size)
        held[steps] = _tensors(vars(pipe.scheduler), set()) / (x.numel() * 4)
    # k + 1 states and k - 1 slopes, and what went out last; the rest is small tables
    assert held[8] <= held[32] <= 2 * k + 1 + 0.3


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_other_predictions_come_back_bit_by_bit(tmp_path: Path, prediction_type: str) -> None:
    pipe = small_stable_diffusion(tmp_path, prediction_type=prediction_type)
    x = noise(2, 4, 8, 8)
    image, back, again = round_trip(pipe, x, 3.0, formula="belm(2)", arithmetic="fixed")
    assert torch.equal(again, image) and torch.equal(back, x)
