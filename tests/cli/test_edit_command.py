"""`vsvf edit` and `vsvf edit-bench`, on the embedded models with few steps."""

import argparse
import csv
import json
import shutil
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from PIL import Image

from vsvf.apps.scenes_model import scenes_model
from vsvf.commands.applications import grid_of
from vsvf.grid import Grid
from vsvf.schedule import Schedule

SMALL = ("--steps", 4)


@pytest.fixture(scope="module")
def captions():
    return scenes_model().own()[1]


def test_a_scene_is_edited_and_everything_written(vsvf, tmp_path, captions):
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[:, :32] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    target = captions[3].replace("six", "seven")
    assert target != captions[3]
    result = vsvf("edit", "own:3", "--target", target, *SMALL, "--mask", "mask.png", "--maps", "--json")
    assert result.code == 0, result.err
    document = result.json
    assert document["source"] == captions[3] and document["nfe_down"] == 3 and document["source_error"] < 1e-3
    names = {path.name for path in (tmp_path / "edit").iterdir() if not path.name.startswith(".")}
    assert {"edit.png", "reconstruction.png", "strip.png", "results.json", "run.json"} < names
    assert len([name for name in names if name.startswith("maps-")]) == len(target.split())
    assert Image.open(tmp_path / "edit" / "strip.png").size == (3 * (3 * 64 + 2), 3 * 64)
    edited, back = (np.asarray(Image.open(tmp_path / "edit" / name)).astype(int) for name in ("edit.png", "reconstruction.png"))
    changed = abs(edited - back)  # outside too, a little: the decoder normalises over the whole picture
    assert changed[:, :28].mean() > changed[:, 36:].mean()
    assert vsvf("rerun", "edit").code == 0


def test_a_schedule_without_a_largest_level_begins_where_leading_timesteps_do(vsvf, tmp_path, captions):
    with resources.as_file(resources.files("vsvf") / "assets" / "scenes") as folder:
        shutil.copytree(folder, tmp_path / "model")
    config = tmp_path / "model" / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"rescale_betas_zero_snr": True}))
    picture = (scenes_model().own()[0][3].permute(1, 2, 0).numpy() + 1.0) * 127.5
    Image.fromarray(picture.round().astype(np.uint8)).save(tmp_path / "photo.png")
    options = (
        "--source",
        captions[3],
        "--target",
        captions[3],
        "--model",
        "model",
        "--method",
        "resample",
        "--steps",
        12,
        "--json",
    )
    result = vsvf("edit", "photo.png", *options)
    assert result.code == 0, result.err
    levels = Schedule.from_diffusers(json.loads(config.read_text()))
    assert levels.sigma_bar_max == np.inf
    wanted = Grid.from_schedule(levels, 12, "leading", "smallest").sigma_bar[-1]
    args = argparse.Namespace(spacing="log_snr", final="smallest", steps_offset=None)
    found = grid_of(args, replace(scenes_model(), schedule=levels), 12).sigma_bar
    assert found[-1] == pytest.approx(wanted) and np.allclose(np.diff(np.log(found)), np.log(found[1] / found[0]))


def test_class_to_class(vsvf):
    result = vsvf("edit", "own:30", "--target", 8, "--model", "digits", "--method", "resample", *SMALL)
    assert result.code == 0, result.err
    assert "no source branch" in result.out


def test_bad_input_is_one_clear_line(fails, tmp_path, captions):
    Image.new("L", (32, 32)).save(tmp_path / "small.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    own = ("edit", "own:3", "--target")
    fails(1, "as many words", *own, "a red seven", "--attention", "replace", *SMALL)
    fails(1, "'eight' is in neither prompt", *own, captions[3], "--blend", "eight", *SMALL)
    fails(1, "a mask must be 64 x 64 as the pictures are, this one is 32 x 32", *own, captions[3], "--mask", "small.png", *SMALL)
    fails(1, "no cross-attention", "edit", "own:3", "--target", 8, "--model", "digits", *SMALL)
    fails(2, "--source must say", "edit", "photo.png", "--target", captions[3], *SMALL)
    fails(2, "labels from 0 to 9", "edit", "own:3", "--target", "eight", "--model", "digits", "--method", "resample", *SMALL)
    fails(2, "method='magic' is not known", *own, captions[3], "--method", "magic", *SMALL)
    fails(2, "formula must be 'ddim'", *own, captions[3], "--method", "null_text", *SMALL)
    fails(1, "not in the vocabulary", *own, "a purple cow", *SMALL)
    fails(1, "not backward explicit", *own, captions[3], "--formula", "deis(2)", *SMALL)
    fails(2, "WORD=W", *own, captions[3], "--reweight", "red", *SMALL)
    fails(2, "must take prompts", "edit-bench", "--model", "digits")
    fails(2, "not known", "edit-bench", "--method", "magic")
    fails(2, "null_text needs", "edit-bench", "--method", "null_text", "--formula", "belm(2)")
    fails(1, "no PIE-Bench folder", "edit-bench", "--pie", ".", "--count", 1)
    fails(2, "nowhere is no folder: it should hold a CLIPModel", "edit-bench", "--count", 1, "--clip", "nowhere")
    fails(2, "holds no ViTModel", "edit-bench", "--count", 1, "--dino", ".")


def test_an_unconditional_model_is_refused(fails, tmp_path):
    from diffusers import DDPMScheduler
    from diffusers_models import small_unet

    small_unet().save_pretrained(tmp_path / "model" / "unet")
    DDPMScheduler().save_pretrained(tmp_path / "model" / "scheduler")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    words = ("--model", "model", "--method", "resample", *SMALL)
    fails(1, "unconditional", "edit", "photo.png", "--source", "a", "--target", "b", "--guidance", 3, *words)


def test_the_benchmark_goes_on_where_it_stopped(vsvf, tmp_path):
    words = ("edit-bench", "--count", 2, "--method", "resample", "direct", "--formula", "ddim", "--steps", 3, "--sheet", 1)
    assert vsvf(*words).code == 0
    folder = tmp_path / "editing"
    first = (folder / "cases.csv").read_bytes()
    rows = list(csv.DictReader(first.decode().splitlines()))
    assert [(row["method"], row["kind"]) for row in rows[:3]] == [("none", "digit"), ("none", "colour"), ("resample", "digit")]
    assert len(rows) == 6
    assert all(row["background_mse"] and row["target_mse"] and row["success"] for row in rows)
    kept = json.loads((folder / "units" / "scene-0000-direct-ddim-3-1.json").read_text())
    (folder / "units" / "scene-0000-direct-ddim-3-1.json").unlink()
    shutil.rmtree(folder / "pictures")
    (folder / "pictures").mkdir()
    for name in ("units/scene-0000-resample-ddim-3-1.json",):
        (folder / name).unlink()
    again = vsvf(*words, "--json")
    assert again.code == 0 and "going on" in again.err
    assert (folder / "cases.csv").read_bytes() == first
    assert json.loads((folder / "units" / "scene-0000-direct-ddim-3-1.json").read_text()) == kept
    assert {row["method"] for row in again.json["table"]} == {"none", "resample", "direct"}
    assert Image.open(folder / "sheet.png").size == (2 * (4 * 65 - 1), 2 * 64)


def test_learned_measures_from_a_folder_stand_in_the_tables(vsvf, tmp_path):
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=64, patch_size=32
    )
    ViTModel(config).save_pretrained(tmp_path / "dino")
    words = ("edit-bench", "--count", 1, "--method", "resample", "--formula", "ddim", "--steps", 2, "--dino", "dino")
    assert vsvf(*words).code == 0
    none, edited = csv.DictReader((tmp_path / "editing" / "cases.csv").read_text().splitlines())
    assert 0.0 < float(none["pie_structure"]) < float(edited["pie_structure"])
    assert "pie_structure" in (tmp_path / "editing" / "tables.md").read_text()
