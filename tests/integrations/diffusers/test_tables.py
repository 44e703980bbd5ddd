"""The applications' tables on folders of diffusers: the published architectures, whole on the meta device and small on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers_models import CELEBAHQ, CIFAR10, DDPM, SD, SD15, diffusers, small_stable_diffusion, small_unet
from PIL import Image

from vsvf.apps.folder_models import folder_model
from vsvf.apps.models import noise_of_seeds
from vsvf.cli import main
from vsvf.integrations.diffusers import Autoencoder, conditional_unet, unet

# stabilityai/stable-diffusion-2-base
SD2 = dict(SD15, cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True)
# the autoencoder of both
VAE = dict(
    latent_channels=4,
    block_out_channels=(128, 256, 512, 512),
    layers_per_block=2,
    sample_size=512,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
)


@pytest.mark.parametrize(("config", "millions"), [(CIFAR10, 35.7), (CELEBAHQ, 113.7)])
@torch.no_grad()
def test_the_unconditional_architectures_whole(config: dict[str, Any], millions: float) -> None:
    with torch.device("meta"):
        network = diffusers.UNet2DModel(**config)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions
    shape = (2, 3, config["sample_size"], config["sample_size"])
    assert unet(network, DDPM).epsilon(torch.empty(shape, device="meta"), 1.0).shape == shape


@pytest.mark.parametrize(("config", "width", "millions"), [(SD15, 768, 859.5), (SD2, 1024, 865.9)])
@torch.no_grad()
def test_the_latent_architectures_whole(config: dict[str, Any], width: int, millions: float) -> None:
    with torch.device("meta"):
        network, vae = diffusers.UNet2DConditionModel(**config), diffusers.AutoencoderKL(**VAE)
        embeddings = torch.empty(2, 77, width)
        pictures = torch.empty(2, 3, 512, 512)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions
    codec = Autoencoder(vae)
    latents = codec.encode(pictures)
    assert latents.shape == (2, 4, 64, 64)
    eps = conditional_unet(network, diffusers.DDIMScheduler(**SD), embeddings, embeddings[:1], 5.5)
    assert eps.epsilon(latents, 1.0).shape == latents.shape
    assert codec.decode(latents).shape == pictures.shape


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A DDPM and a Stable Diffusion with random weights, as diffusers writes them."""
    root = tmp_path_factory.mktemp("models")
    network = small_unet(sample_size=16, in_channels=3, out_channels=3)
    diffusers.DDPMPipeline(unet=network, scheduler=diffusers.DDPMScheduler(**DDPM)).save_pretrained(root / "ddpm")
    (root / "words").mkdir()
    small_stable_diffusion(root / "words").save_pretrained(root / "sd")
    return {"ddpm": root / "ddpm", "sd": root / "sd"}


def test_an_unconditional_folder(folders: dict[str, Path]) -> None:
    model = folder_model(folders["ddpm"])
    assert model.pictures == model.latents == (3, 16, 16) and model.condition == "none" and not model.has_autoencoder
    x = noise_of_seeds(model, [0, 1], 3.0)
    assert model.predict(None, 1.0).epsilon(x, 3.0).shape == x.shape
    with pytest.raises(ValueError, match="takes no condition"):
        model.predict([1, 2], 1.0)
    assert (
        model.fingerprint == folder_model(folders["ddpm"]).fingerprint != folder_model(folders["ddpm"], torch.float64).fingerprint
    )


def test_a_latent_folder(folders: dict[str, Path]) -> None:
    model = folder_model(folders["sd"])
    assert model.latents == (4, 8, 8) and model.pictures == (3, 16, 16) and model.condition == "prompt" and model.has_autoencoder
    x = model.codec.encode(torch.zeros(2, 3, 16, 16, dtype=torch.float64))
    assert x.shape == (2, 4, 8, 8) and x.dtype == torch.float64
    assert model.codec.decode(x).shape == (2, 3, 16, 16)
    one, other = (model.predict([text, "cat"], 1.0).epsilon(x, 3.0) for text in ("cat", "a"))
    assert torch.equal(one[1], other[1]) and not torch.equal(one[0], other[0])


def test_tables_on_a_latent_folder(folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in ("COCO_1.jpg", "COCO_2.png"):
        Image.fromarray(rng.integers(0, 255, (24, 30, 3), dtype=np.uint8)).save(tmp_path / "photos" / name)
    images = [{"id": n, "file_name": name} for n, name in enumerate(("COCO_1.jpg", "COCO_2.png"))]
    notes = [{"id": n, "image_id": n, "caption": "cat"} for n in range(2)]
    (tmp_path / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
    arguments = ["reconstruct", str(tmp_path / "photos"), "--model", str(folders["sd"]), "--out", str(tmp_path / "run"), "--json"]
    arguments += ["--captions", str(tmp_path / "captions.json"), "--steps", "10", "--formula", "ddim_inversion", "belm(2)"]
    assert main([*arguments, "--steps-offset", "1"]) == 0
    document = json.loads(capsys.readouterr().out)
    exact = next(row for row in document["table"] if row["formula"] == "belm(2)" and row["from"] == "all k states")
    assert exact["mse_latents"] < 1e-8 and exact["floor_mse"] > 1e-3  # a float32 network's last bits, amplified
    assert exact["mse_pixels"] == pytest.approx(exact["floor_mse"], rel=1e-3)
    assert "MSE on latents, from all k states" in (tmp_path / "run" / "tables.md").read_text()


def test_quality_on_an_unconditional_folder(folders: dict[str, Path], tmp_path: Path) -> None:
    from vsvf.apps.features import Features
    from vsvf.apps.frechet import Moments, distance
    from vsvf.apps.generate import Samples
    from vsvf.grid import Grid

    model = folder_model(folders["ddpm"])
    grid = Grid.from_schedule(model.schedule, 4, "leading", "smallest")
    job = Samples(model, grid, "belm(2)", range(20), None, 1.0, 8, tmp_path / "samples")
    job.generate()
    pooled = Features("pooled", lambda x: torch.nn.functional.avg_pool2d(x, 8).flatten(1))
    vectors = pooled.of(job.pictures())
    assert vectors.shape == (20, 12)
    assert distance(vectors, Moments.of(vectors)).value < 1e-6


def test_folders_of_another_kind_are_one_clear_line(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        folder_model(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        folder_model(tmp_path)
    small_unet().save_pretrained(tmp_path / "alone")
    with pytest.raises(FileNotFoundError, match=r"no scheduler_config\.json"):
        folder_model(tmp_path / "alone")
