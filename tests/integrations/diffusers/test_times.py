"""The embedding of time in float64: diffusers' own to rounding, smooth where that is not, and only in float64 models."""

import math

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.embeddings import Timesteps

from vsvf.integrations.diffusers.loading import load_model
from vsvf.integrations.diffusers.times import PreciseTimesteps, embed_times_precisely
from vsvf.predictors.scenes import load_scenes


@pytest.mark.parametrize("settings", [(32, True, 0), (33, False, 1), (320, True, 0, 1000)])
def test_it_is_diffusers_embedding_to_float32_rounding(settings):
    own, precise = Timesteps(*settings), PreciseTimesteps(*settings)
    t = torch.tensor([0.0, 1.0, 431.3712, 999.0], dtype=torch.float64)
    allowed = 2.0**-23 * 999.0 * own.scale + 1e-6  # the product's rounding
    assert precise(t).dtype == torch.float64 and float((own(t) - precise(t)).abs().max()) < allowed


def test_the_fastest_channel_is_the_sine_of_the_timestep_to_every_digit():
    t = torch.linspace(900.0, 901.0, 7, dtype=torch.float64)
    found = PreciseTimesteps(16, False, 0)(t)[:, 0]
    assert found.tolist() == pytest.approx([math.sin(x) for x in t.tolist()], abs=1e-15)
    assert float((Timesteps(16, False, 0)(t)[:, 0].double() - found).abs().max()) > 1e-6  # which float32 is not


def test_float64_models_get_it_and_others_stay_as_they_are(tmp_path):
    def small():
        return UNet2DModel(
            sample_size=8,
            block_out_channels=(8,),
            down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",),
            norm_num_groups=4,
        )

    model = small()
    model.save_pretrained(tmp_path)
    assert type(load_model(tmp_path).time_proj) is Timesteps
    assert type(load_model(tmp_path, dtype=torch.float64).time_proj) is PreciseTimesteps
    embed_times_precisely(model)
    assert type(model.time_proj) is Timesteps
    assert type(load_scenes(dtype=torch.float64).unet.time_proj) is PreciseTimesteps
    assert type(load_scenes().unet.time_proj) is Timesteps


def test_a_float64_models_slopes_are_smooth_in_time():
    unet = load_scenes(dtype=torch.float64).unet
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((1, 4, 16, 16), generator=generator, dtype=torch.float64)
    words = torch.randn((1, 8, unet.config.cross_attention_dim), generator=generator, dtype=torch.float64)

    def bend(h):
        t = torch.tensor([600.4 - h, 600.4, 600.4 + h], dtype=torch.float64)
        low, mid, high = unet(x.expand(3, -1, -1, -1), t, words.expand(3, -1, -1)).sample
        return float((low - 2.0 * mid + high).abs().max())

    assert bend(1e-3) / bend(5e-4) == pytest.approx(4.0, rel=0.02)  # a second difference; float32's rounding would be 1e-5 of it
