# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Use your own model
#
# Four ways in, about ten lines each: a bare `nn.Module`, a k-diffusion-style denoiser, a diffusers UNet, a pipeline. The models
# here are small and have random weights, so that everything runs in seconds; put your own in their place. The last two need
# `pip install 'vsvf[diffusers]'`.

# %%
import json
import tempfile
from pathlib import Path

import torch

import vsvf
from vsvf.predictors import Predictor

torch.manual_seed(0)
noise = torch.randn(2, 3, 8, 8)

# %% [markdown]
# ## A bare `nn.Module`
#
# Anything that can be called as `network(x, t)` will do. Say what it predicts (`epsilon`, `sample`, `v`, `score`, `velocity`)
# and under which schedule it was trained; `integer_time=True` if it looks its timesteps up in a table.


# %%
class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layer(x)) * (t / 1000).cos()[:, None, None, None]


eps = Predictor(Network().requires_grad_(False), vsvf.Schedule.linear(), kind="epsilon")
grid = vsvf.Grid.from_schedule(eps.schedule, 20, spacing="trailing", final="smallest")
image = vsvf.sample(eps, noise, grid, "belm(2)", arithmetic="fixed")
back = vsvf.invert(eps, image, grid, "belm(2)")
again = vsvf.sample(eps, back, grid, "belm(2)")
assert torch.equal(again.values, image.values)  # every bit
assert torch.equal(back.x.float(), noise)

# %% [markdown]
# ## A k-diffusion-style denoiser
#
# It takes x = x_0 + sigma eps and sigma, and returns x_0: the EDM schedule (alpha = 1, the model's time is sigma) and
# `kind="sample"`. The noise that sampling starts from has the standard deviation of its sigma.


# %%
def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    sigma = sigma[:, None, None, None]
    return x / (1 + sigma**2) + 0.1 * torch.tanh(x) * sigma / (1 + sigma**2)


eps = Predictor(denoise, vsvf.Schedule.edm(sigma_min=0.002, sigma_max=80.0), kind="sample")
grid = vsvf.Grid.from_schedule(eps.schedule, 20, spacing="karras", final="smallest")
start = noise * grid.sigma_bar[-1]
image = vsvf.sample(eps, start, grid, "stable_belm(3)", arithmetic="float64")
back = vsvf.invert(eps, image, grid, "stable_belm(3)")
print(f"denoiser: largest error of the noise {float((back.x - start).abs().max()):.1e}")
assert float((back.x - start).abs().max()) < 1e-6

# %% [markdown]
# ## A diffusers UNet
#
# The scheduler that the model was trained with says how to read it: betas, prediction type. `load_model(folder)` reads one
# from a local folder, safetensors only; with classes or text see `unet(…, label=…)`, `conditional_unet`, and `transformer` for
# flow matching.

# %%
from diffusers import DDPMScheduler, UNet2DModel  # noqa: E402

from vsvf.integrations.diffusers import load_model, unet  # noqa: E402

small = {"sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
folder = Path(tempfile.mkdtemp())
UNet2DModel(**small, **blocks).save_pretrained(folder / "unet")

model = load_model(folder, "unet")  # yours: load_model("path/to/ddpm-cifar10-32")
eps = unet(model, DDPMScheduler())
grid = vsvf.Grid.from_schedule(eps.schedule, 20, spacing="leading", final="smallest")
image = vsvf.sample(eps, noise, grid, "belm(2)", arithmetic="fixed")
assert torch.equal(vsvf.invert(eps, image, grid, "belm(2)").x.float(), noise)

# %% [markdown]
# ## A pipeline
#
# Swap its scheduler. Nothing else changes: prompts, guidance, callbacks, image-to-image are the pipeline's. (The components
# here are tiny; `StableDiffusionPipeline.from_pretrained("path")` is the real thing.)

# %%
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer  # noqa: E402

letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
tokens = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
(folder / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(tokens)}))
(folder / "merges.txt").write_text("#version: 0.2\n")
text = CLIPTextConfig(
    vocab_size=len(tokens),
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    max_position_embeddings=16,
    bos_token_id=len(tokens) - 2,
    eos_token_id=len(tokens) - 1,
)
pipe = StableDiffusionPipeline(
    vae=AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval(),
    text_encoder=CLIPTextModel(text).eval(),
    tokenizer=CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16),
    unet=UNet2DConditionModel(
        **small,
        in_channels=4,
        out_channels=4,
        cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval(),
    scheduler=DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    ),
    safety_checker=None,
    feature_extractor=None,
    requires_safety_checker=False,
)
pipe.set_progress_bar_config(disable=True)

# %% [markdown]
# The two lines, and an image:

# %%
from vsvf.integrations.diffusers import VSVFScheduler  # noqa: E402

pipe.scheduler = VSVFScheduler.from_config(pipe.scheduler.config, formula="belm", steps=2, arithmetic="fixed")

latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
same = {"prompt": "a cat", "num_inference_steps": 20, "guidance_scale": 7.5, "output_type": "latent"}
image = pipe(latents=latents, **same).images

# %% [markdown]
# And back. The latent of a k-step method is k states: `state()` reads them out, `start_from` puts them into the scheduler of
# the other direction and returns what the pipeline has to begin with.

# %%
states = pipe.scheduler.state()
pipe.scheduler = pipe.scheduler.inverse()
recovered = pipe(**same | {"latents": pipe.scheduler.start_from(states)}).images
assert torch.equal(recovered, latents)  # every bit, at guidance 7.5
print("pipeline: the latents came back, every bit of them")

# %% [markdown]
# To invert a picture instead of a sample, encode it, and let a starter make the other k - 1 states:

# %%
from vsvf.integrations.diffusers import Autoencoder  # noqa: E402

picture = torch.rand(1, 3, 16, 16) * 2 - 1
autoencoder = Autoencoder(pipe.vae)
encoded = autoencoder.encode(picture)

same["guidance_scale"] = 1.0
pipe(latents=encoded, **same)  # the scheduler is still the inverse one: this makes noise
noise_states = pipe.scheduler.state()
pipe.scheduler = pipe.scheduler.inverse()
decoded = autoencoder.decode(pipe(**same | {"latents": pipe.scheduler.start_from(noise_states)}).images)
assert torch.equal(decoded, autoencoder.decode(encoded))
print("picture: the reconstruction is the autoencoder's own, every bit of it")
