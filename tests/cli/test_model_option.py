"""`--model`: the same commands on the miniature Stable Diffusion and on folders that diffusers wrote."""

import json

import pytest
import torch

import vsvf as package

pytest.importorskip("diffusers")
from PIL import Image

from tests.diffusers_models import DDPM, small_unet
from vsvf.apps.images import save_image
from vsvf.predictors import scenes
from vsvf.scenes import load_glyphs, random_scene, render

PROMPT, GREEN = "a red three on a blue background", "a green two on plain white"
SCENE = ("--model", "scenes", "--steps", 4)


@pytest.fixture
def picture(tmp_path):
    """A rendered scene and its caption."""
    found = render(random_scene(load_glyphs(), torch.Generator().manual_seed(3), count=1), load_glyphs())
    save_image(found.picture, tmp_path / "scene.png")
    return "scene.png", found.caption


@pytest.fixture
def unconditional(tmp_path):
    """A folder as published weights of CIFAR-10 come in: a UNet's own, with the scheduler's configuration in it."""
    folder = tmp_path / "model"
    small_unet(in_channels=3, out_channels=3).save_pretrained(folder)
    (folder / "scheduler_config.json").write_text(json.dumps({"_class_name": "DDPMScheduler", **DDPM}))
    return folder


def test_scenes_are_those_of_the_python_call_and_come_back(vsvf):
    made = vsvf("sample", *SCENE, "--prompt", PROMPT, GREEN, "--count", 2, "--seed", 4, "--out", "x", "--json")
    assert made.code == 0, made.err
    assert made.json["model"] == "scenes" and made.json["prompt"] == [PROMPT, GREEN]
    assert 0 <= made.json["recognised"] <= 2 and made.json["nfe"] == 4
    assert Image.open("x.png").size == (2 * 129, 2 * 64)
    grid = package.Grid.from_schedule(package.Schedule.scaled_linear(), 4)
    noise = torch.randn((2, 4, 16, 16), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    by_hand = package.sample(scenes([PROMPT, GREEN], 2.0), noise, grid, "belm(2)")
    assert torch.allclose(package.State.load("x.safetensors").x, by_hand.x, atol=1e-6)

    back = vsvf("invert", "x.safetensors", "--json")
    assert back.code == 0, back.err
    assert back.json["autoencoder"]["latents"] < 1e-24 and back.json["autoencoder"]["pixels"] > 1e-5
    assert back.json["prompt"] == made.json["prompt"] and back.json["noise"]["from_seed"] < 1e-9


def test_a_picture_of_a_scene_is_inverted_and_the_autoencoder_named(vsvf, picture):
    name, caption = picture
    found = vsvf("invert", name, *SCENE, "--prompt", caption, "--arithmetic", "fixed", "--json")
    assert found.code == 0, found.err
    parts = found.json["autoencoder"]
    assert parts["latents"] < 1e-24  # the march loses no more than the image's own rounding to the register ...
    assert found.json["error"]["mse"] == pytest.approx(parts["pixels"], rel=1e-6)  # ... so the autoencoder lost it all
    assert "autoencoder" in vsvf("invert", name, *SCENE, "--out", "again").out


def test_the_budget_splits_off_the_autoencoder(vsvf, picture):
    name, caption = picture
    found = vsvf("budget", name, *SCENE, "--prompt", caption, "--guidance", 3, "--reference-steps", 8, "--json")
    assert found.code == 0, found.err
    parts = {part["key"]: part["size"] for part in found.json["image_parts"]}
    assert parts["image"] > 0.01 and parts["rounding"] < 1e-3 < parts["image"]
    assert parts["truncation"] == parts["starter"] == parts["guidance"] == 0.0


def test_a_folder_of_an_unconditional_network(vsvf, unconditional):
    made = vsvf("sample", "--model", unconditional, "--steps", 3, "--count", 2, "--out", "x", "--json")
    assert made.code == 0, made.err
    assert made.json["schedule"] == "own" and made.json["recognised"] is None and made.json["guidance"] == 1.0
    state = package.State.load("x.safetensors")
    assert state.values.shape == (2, 2, 3, 8, 8)
    back = vsvf("invert", "x.safetensors", "--json")
    assert back.code == 0, back.err
    assert back.json["noise"]["from_seed"] < 1e-6 and back.json["autoencoder"] is None


def test_check_examines_the_model(vsvf):
    found = vsvf("check", "belm(2)", *SCENE, "--final", "smallest", "--prompt", PROMPT, "--no-order", "--json")
    assert found.code == 0, found.err
    assert found.json["examination"]["sampling"]["error_over_belm2"] == pytest.approx(1.0)
    assert found.json["grid"]["sigma_bar"][1] == pytest.approx(14.6, abs=0.05)


def test_bad_input_is_one_clear_line(fails, vsvf, unconditional, tmp_path):
    fails(1, "'dog' is not in the vocabulary", "sample", *SCENE, "--prompt", "a dog", "--count", 1)
    fails(2, "--label does not go with scenes, which takes a prompt", "sample", *SCENE, "--label", 3)
    fails(2, "--prompt does not go with digits, which takes a label", "sample", "--prompt", PROMPT)
    fails(2, "takes no condition", "sample", "--model", unconditional, "--prompt", PROMPT)
    fails(2, "takes no condition", "sample", "--model", unconditional, "--guidance", 2)
    fails(1, "choose one of digits, scenes, or a folder", "sample", "--model", "sd")
    (unconditional / "scheduler_config.json").unlink()
    fails(1, "no scheduler_config.json", "sample", "--model", unconditional)
    (unconditional / "config.json").unlink()
    fails(1, "config.json", "sample", "--model", unconditional)
    empty = tmp_path / "empty"
    empty.mkdir()
    fails(1, "empty", "sample", "--model", empty)


def test_a_state_of_another_model_is_refused(vsvf, fails):
    assert vsvf("sample", *SCENE, "--count", 1, "--prompt", PROMPT, "--out", "x").code == 0
    fails(1, "not digits", "invert", "x.safetensors", "--model", "digits", "--steps", 4)
