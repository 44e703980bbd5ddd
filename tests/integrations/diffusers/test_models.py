"""Real diffusers architectures behind the adapters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_models import (
    CELEBAHQ,
    CIFAR10,
    DDPM,
    SD,
    SD15,
    noise,
    small_autoencoder,
    small_conditional_unet,
    small_stable_diffusion,
    small_unet,
)

import vsvf

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

from vsvf.integrations.diffusers import (  # noqa: E402
    Autoencoder,
    conditional_unet,
    conditioned,
    from_pipeline,
    load_model,
    transformer,
    unet,
)

# ---- full sizes ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cifar10() -> Any:
    torch.manual_seed(0)
    return diffusers.UNet2DModel(**CIFAR10).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=lambda d: str(d)[6:])
def test_cifar10_unet_returns_every_bit_in_fixed_arithmetic(cifar10: Any, dtype: torch.dtype) -> None:
    assert sum(p.numel() for p in cifar10.parameters()) == 35_746_307
    eps = unet(cifar10.to(dtype), diffusers.DDPMScheduler(**DDPM))
    grid = vsvf.Grid.from_schedule(eps.schedule, 5, "leading", "smallest")
    x = noise(1, 3, 32, 32)
    there = vsvf.sample(eps, x, grid, "belm(2)", arithmetic="fixed")
    back = vsvf.invert(eps, there, grid, "belm(2)")
    again = vsvf.sample(eps, back, grid, "belm(2)")
    assert there.nfe == 5 and back.nfe == 4
    assert torch.equal(again.values, there.values)
    assert torch.equal(back.values, _first_states(eps, x, grid))


def _first_states(eps: vsvf.predictors.Predictor, x: torch.Tensor, grid: vsvf.Grid) -> torch.Tensor:
    """The states that the starter makes: a march of no rows."""
    return vsvf.sample(eps, x, grid, "belm(2)", arithmetic="fixed", stop=grid.steps - 1).values


def test_cifar10_unet_float_error_is_the_amplified_rounding(cifar10: Any) -> None:
    eps = unet(cifar10.to(torch.float32), diffusers.DDPMScheduler(**DDPM))
    grid = vsvf.Grid.from_schedule(eps.schedule, 5, "leading", "smallest")
    x = noise(1, 3, 32, 32)
    errors = {}
    for name in ("belm(2)", "stable_belm(2)"):
        there = vsvf.sample(eps, x, grid, name)
        errors[name] = float((vsvf.invert(eps, there, grid, name).x - x).abs().max())
    # float32 rounding (6e-8 of the states' size) times (h_N/h_1)^2 for O-BELM, h_N/h_1 for the root-placed formula
    gain = float(grid.h[-1] / grid.h[0])
    assert errors["belm(2)"] < 1e-6 * gain**2
    assert errors["stable_belm(2)"] < 1e-6 * gain


def test_celebahq_and_sd15_layouts_on_the_meta_device() -> None:
    with torch.device("meta"):
        faces = diffusers.UNet2DModel(**CELEBAHQ)
        sd15 = diffusers.UNet2DConditionModel(**SD15)
        embeddings = torch.empty(2, 77, 768)
    assert sum(p.numel() for p in faces.parameters()) == 113_673_219
    assert sum(p.numel() for p in sd15.parameters()) == 859_520_964
    with torch.no_grad():
        out = unet(faces, diffusers.DDPMScheduler(**DDPM)).epsilon(torch.empty(1, 3, 256, 256, device="meta"), 1.0)
        assert out.shape == (1, 3, 256, 256) and out.is_meta
        eps = conditional_unet(sd15, diffusers.DDIMScheduler(**SD), embeddings, embeddings[:1], 7.5)
        assert eps.epsilon(torch.empty(2, 4, 64, 64, device="meta"), 1.0).shape == (2, 4, 64, 64)


# ---- conditions ------------------------------------------------------------------------------------------------


def test_guidance_is_one_call_and_keeps_the_states_single() -> None:
    model = small_conditional_unet()
    batches: list[int] = []
    model.register_forward_pre_hook(lambda m, args: batches.append(args[0].shape[0]))
    eps = conditional_unet(model, diffusers.DDIMScheduler(**SD), noise(2, 5, 16), noise(1, 5, 16, seed=1), 3.0)
    grid = vsvf.Grid.from_schedule(eps.schedule, 6, "leading", "smallest")
    out = vsvf.sample(eps, noise(2, 4, 8, 8), grid, "belm(2)")
    assert batches == [4] * 6 and out.nfe == 6
    assert out.values.shape == (2, 2, 4, 8, 8)


@torch.no_grad()
def test_guidance_per_sample() -> None:
    # in float64: in float32, kernels of another batch size differ by some units of rounding, which guidance multiplies
    model, config = small_conditional_unet().double(), diffusers.DDIMScheduler(**SD).config
    condition, null, x = (noise(*s, seed=n, dtype=torch.float64) for n, s in enumerate([(3, 5, 16), (1, 5, 16), (3, 4, 8, 8)]))
    together = conditional_unet(model, config, condition, null, torch.tensor([1.0, 3.0, 7.5])).epsilon(x, 1.0)
    for n, w in enumerate([1.0, 3.0, 7.5]):
        alone = conditional_unet(model, config, condition[n : n + 1], null, w).epsilon(x[n : n + 1], 1.0)
        assert torch.allclose(together[n : n + 1], alone, rtol=0.0, atol=1e-12)


@torch.no_grad()
def test_class_labels_pick_the_models_own_classes() -> None:
    model = small_unet(num_class_embeds=4)
    eps = unet(model, DDPM, label=torch.tensor([0, 2]), null_label=3, guidance=2.0)
    x = noise(2, 3, 8, 8)
    t = torch.full((2,), float(eps.time(1.0)))
    plain = [model(x, t, class_labels=torch.tensor(labels)).sample for labels in ([0, 2], [3, 3])]
    assert torch.allclose(eps.epsilon(x, 1.0), plain[1] + 2.0 * (plain[0] - plain[1]), atol=1e-5)
    with pytest.raises(ValueError, match="from 0 to 3"):
        unet(model, DDPM, label=4)
    with pytest.raises(ValueError, match="takes a class label"):
        unet(model, DDPM)
    with pytest.raises(ValueError, match="has no classes"):
        unet(small_unet(), DDPM, label=1)


@torch.no_grad()
def test_stable_diffusion_xl_conditions() -> None:
    model = small_conditional_unet(
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=6 * 4 + 8
    )
    added = {"text_embeds": noise(2, 8), "time_ids": torch.ones(1, 6)}
    eps = conditional_unet(model, SD, noise(2, 5, 16), noise(1, 5, 16, seed=1), 5.0, added=added)
    assert eps.epsilon(noise(2, 4, 8, 8), 1.0).shape == (2, 4, 8, 8)
    with pytest.raises(ValueError, match="needs added"):
        conditional_unet(model, SD, noise(2, 5, 16))


def test_conditions_that_do_not_fit_are_named() -> None:
    model = small_conditional_unet()
    with pytest.raises(ValueError, match=r"\(B, L, 16\)"):
        conditional_unet(model, SD, noise(2, 5, 17))
    with pytest.raises(ValueError, match="needs the null condition"):
        conditional_unet(model, SD, noise(2, 5, 16), guidance=3.0)
    with pytest.raises(ValueError, match="different numbers of rows"):
        conditioned(model, SD, {"encoder_hidden_states": noise(2, 5, 16), "class_labels": torch.zeros(3)})
    with pytest.raises(ValueError, match="takes 4 channels"):
        conditional_unet(model, SD, noise(2, 5, 16)).epsilon(noise(2, 3, 8, 8), 1.0)
    with pytest.raises(ValueError, match="needs a condition"):
        conditioned(small_unet(), DDPM, guidance=2.0)


# ---- what the scheduler's config says --------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_prediction_type_is_read_as_diffusers_reads_it(prediction_type: str) -> None:
    scheduler = diffusers.DDIMScheduler(**{**SD, "prediction_type": prediction_type})
    model, x, t = small_unet(), noise(2, 3, 8, 8), 400
    eps = unet(model, scheduler)
    s = float(eps.schedule.sigma_bar(t))
    scheduler.set_timesteps(10)
    x_0 = scheduler.step(model(x, t).sample, t, x).pred_original_sample
    alpha = float(eps.alpha(s))
    assert torch.allclose(x - alpha * s * eps.epsilon(x, s), alpha * x_0, atol=1e-5)


def test_learned_variance_is_left_out() -> None:
    model = small_unet(out_channels=6)
    assert unet(model, DDPM).epsilon(noise(1, 3, 8, 8), 1.0).shape == (1, 3, 8, 8)


def test_zero_terminal_snr_has_no_grid_through_its_last_timestep() -> None:
    eps = unet(small_unet(), diffusers.DDIMScheduler(**SD, rescale_betas_zero_snr=True, timestep_spacing="trailing"))
    with pytest.raises(ValueError, match="start the grid below it"):
        vsvf.Grid.from_schedule(eps.schedule, 10, "trailing")
    assert vsvf.Grid.from_schedule(eps.schedule, 10, "leading").steps == 10


def test_a_table_of_timesteps_refuses_fractional_ones() -> None:
    model = small_unet(time_embedding_type="learned", num_train_timesteps=1000)
    eps = unet(model, DDPM)
    x = noise(1, 3, 8, 8)
    vsvf.sample(eps, x, vsvf.Grid.from_schedule(eps.schedule, 4, "trailing"), "belm(2)")
    with pytest.raises(ValueError, match="table of integer timesteps"):
        vsvf.sample(eps, x, vsvf.Grid.from_schedule(eps.schedule, 4, "karras"), "belm(2)")


def test_configs_without_betas_are_refused() -> None:
    with pytest.raises(ValueError, match="has no betas"):
        unet(small_unet(), diffusers.EDMEulerScheduler())
    with pytest.raises(ValueError, match="has no betas"):
        unet(small_unet(), diffusers.ScoreSdeVeScheduler())
    with pytest.raises(TypeError, match="got int"):
        unet(small_unet(), 3)
    assert unet(small_unet(), vsvf.Schedule.edm(), kind="score").kind == "score"


@torch.no_grad()
def test_flow_matching_transformer_steps_as_its_own_euler_scheduler() -> None:
    torch.manual_seed(0)
    model = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=12,
        out_channels=4,
        pos_embed_max_size=8,
    ).eval()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(6)
    text, pooled = noise(2, 5, 16), noise(2, 12, seed=1)
    eps = transformer(model, scheduler, text, pooled, noise(1, 5, 16, seed=2), noise(1, 12, seed=3), 4.0)
    assert eps.kind == "velocity"
    x = noise(2, 4, 8, 8, seed=4)
    scheduler.set_begin_index(1)  # sigma = 1 is sigma_bar = infinity
    y = x
    for t in scheduler.timesteps[1:]:
        both = model(torch.cat([y, y]), _cat(text, noise(1, 5, 16, seed=2)), _cat(pooled, noise(1, 12, seed=3)), t.expand(4))
        plain, null = both.sample.chunk(2)
        y = scheduler.step(null + 4.0 * (plain - null), t, y).prev_sample
    s = scheduler.sigmas.double().numpy()[1:]
    grid = vsvf.Grid.from_sigma_bar((s / (1 - s))[::-1], alpha=(1 - s)[::-1])
    assert torch.allclose(vsvf.sample(eps, x, grid, "ddim").x, y, atol=1e-5)
    there = vsvf.sample(eps, x, grid, "belm(2)", arithmetic="fixed")
    assert torch.equal(vsvf.sample(eps, vsvf.invert(eps, there, grid, "belm(2)"), grid, "belm(2)").values, there.values)
    with pytest.raises(ValueError, match="use `conditioned`"):
        transformer(small_unet(), scheduler, text, pooled)


def _cat(condition: torch.Tensor, null: torch.Tensor) -> torch.Tensor:
    return torch.cat([condition, null.expand(2, *null.shape[1:])])


# ---- pipelines and autoencoders --------------------------------------------------------------------------------


def test_from_pipeline_reads_prompt_and_scheduler(tmp_path: Path) -> None:
    pipe = small_stable_diffusion(tmp_path)
    eps = from_pipeline(pipe, ["a cat", "a car"], "dog", guidance=3.0)
    assert eps.epsilon(noise(2, 4, 8, 8), 1.0).shape == (2, 4, 8, 8)
    assert from_pipeline(pipe, "a cat", guidance=1.0).epsilon(noise(2, 4, 8, 8), 1.0).shape == (2, 4, 8, 8)
    with pytest.raises(ValueError, match="needs a prompt"):
        from_pipeline(pipe)
    plain = diffusers.DDIMPipeline(small_unet(), diffusers.DDIMScheduler(**DDPM))
    assert from_pipeline(plain).epsilon(noise(2, 3, 8, 8), 1.0).shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match="has no text encoder"):
        from_pipeline(plain, "a cat")


@pytest.mark.parametrize("shift", [None, 0.1])
def test_autoencoder_scales_latents_and_takes_mode_or_sample(shift: float | None) -> None:
    model = small_autoencoder(shift_factor=shift)
    auto, images = Autoencoder(model), noise(2, 3, 16, 16).clamp(-1, 1)
    with torch.no_grad():
        distribution = model.encode(images).latent_dist
        expected = (distribution.mode() - (shift or 0.0)) * 0.18215
        assert torch.allclose(auto.encode(images), expected)
        assert auto.encode(images).is_contiguous()
        assert torch.allclose(auto.decode(expected), model.decode(distribution.mode()).sample, atol=1e-5)
    draws = [auto.encode(images, torch.Generator().manual_seed(n)) for n in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert auto.encode(images.double()).dtype == torch.float64
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        auto.encode(images[:, :1])


def test_tiny_autoencoder() -> None:
    auto = Autoencoder(
        diffusers.AutoencoderTiny(
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        )
    )
    images = noise(1, 3, 16, 16)
    assert auto.decode(auto.encode(images)).shape == images.shape
    with pytest.raises(ValueError, match="no distribution"):
        auto.encode(images, torch.Generator())


# ---- files -----------------------------------------------------------------------------------------------------


@torch.no_grad()
@torch.no_grad()
def assert_same_model(one: torch.nn.Module, other: torch.nn.Module) -> None:
    """The same weights to the bit. Outputs only nearly: weights that lie otherwise in memory may meet other kernels."""
    weights, expected = one.state_dict(), other.state_dict()
    assert weights.keys() == expected.keys() and all(torch.equal(weights[name], expected[name]) for name in expected)
    x = noise(1, 3, 8, 8)
    assert torch.allclose(one(x, 3).sample, other(x, 3).sample, rtol=0.0, atol=1e-5)


def test_a_model_comes_back_from_its_folder(tmp_path: Path) -> None:
    model = small_unet()
    model.save_pretrained(tmp_path / "unet")
    loaded = load_model(tmp_path, "unet")
    assert not loaded.training
    assert_same_model(loaded, model)
    assert load_model(tmp_path / "unet", dtype=torch.bfloat16).dtype == torch.bfloat16


def test_sharded_weights(tmp_path: Path) -> None:
    small_unet().save_pretrained(tmp_path, max_shard_size="40KB")
    load_model(tmp_path)
    shard = sorted(tmp_path.glob("*-of-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=shard.name):
        load_model(tmp_path)


def test_the_old_names_of_attention_weights_are_understood(tmp_path: Path) -> None:
    """google/ddpm-cifar10-32 and the report's DDPM weights name them query, key, value, proj_attn."""
    from safetensors.torch import load_file, save_file

    model = small_unet()
    model.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        weights = {name.replace(f".{new}.", f".{old}."): w for name, w in weights.items()}
    assert any(".query." in name for name in weights)
    save_file(weights, file, metadata={"format": "pt"})
    assert_same_model(load_model(tmp_path), model)


def test_incomplete_and_unsafe_folders_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(FileNotFoundError, match="no folder"):
        load_model(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_model(tmp_path)
    small_unet().save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    whole = load_file(file)

    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "block_out_channels": [16, 16]}))
    with pytest.raises(ValueError, match="UNet2DModel"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "_class_name": "DDIMScheduler"}))
    with pytest.raises(ValueError, match="not a diffusers model"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))

    save_file({k: v for k, v in whole.items() if k != "conv_in.weight"}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"missing \(conv_in\.weight"):
        load_model(tmp_path)
    save_file({**whole, "extra": torch.zeros(1)}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"unexpected \(extra"):
        load_model(tmp_path)
    file.write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_model(tmp_path)
    file.unlink()
    torch.save(whole, tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="a pickle"):
        load_model(tmp_path)


# ---- the extra -------------------------------------------------------------------------------------------------


def test_vsvf_does_not_import_diffusers_and_says_what_is_missing() -> None:
    code = (
        "import sys, vsvf; assert 'diffusers' not in sys.modules; sys.modules['diffusers'] = None\n"
        "try:\n    import vsvf.integrations.diffusers\n"
        "except ImportError as error:\n    assert \"pip install 'vsvf[diffusers]'\" in str(error), error\n"
        "else:\n    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
