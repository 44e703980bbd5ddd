"""`vsvf reconstruct` and `vsvf rerun`, on the embedded network."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

SMALL = ("--steps", 3, "--formula", "ddim_inversion", "belm(2)", "--batch", 2)


@pytest.fixture
def photos(tmp_path):
    """Three digits-like pictures and a broken one between them."""
    (tmp_path / "photos").mkdir()
    for n in range(3):
        levels = np.zeros((28, 28), dtype=np.uint8)
        levels[5:23, 8 + 4 * n : 12 + 4 * n] = 230
        Image.fromarray(levels).save(tmp_path / "photos" / f"{'acd'[n]}.png")
    (tmp_path / "photos" / "b.png").write_bytes(b"broken")
    return tmp_path / "photos"


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "run.json"}


def test_tables_pictures_and_both_ways(vsvf, tmp_path):
    result = vsvf("reconstruct", "--count", 2, *SMALL, "--json")
    assert result.code == 0, result.err
    document = result.json
    ways = {(row["formula"], row["from"]): row for row in document["table"]}
    assert len(ways) == 4
    assert ways["belm(2)", "all k states"]["mse_latents"] < 1e-20 < ways["belm(2)", "x_N alone"]["mse_latents"]
    assert ways["ddim_inversion", "all k states"]["mse_pixels"] > 1e-3
    rows = list(csv.DictReader((tmp_path / "reconstruction" / "images.csv").open()))
    assert len(rows) == 8
    mean = np.mean([float(r["mse_pixels"]) for r in rows if r["method"] == "belm(2)" and r["mode"] == "x_N alone"])
    assert mean == pytest.approx(ways["belm(2)", "x_N alone"]["mse_pixels"], rel=1e-12)
    assert Image.open(tmp_path / "reconstruction" / "sheet-x_N-alone.png").size == (4 * 57, 4 * (5 * 29 - 1))
    assert "(0.026)" not in (tmp_path / "reconstruction" / "tables.md").read_text()  # the paper has no table at 3 steps


def test_a_broken_picture_is_skipped_said_and_the_rest_done(vsvf, photos, tmp_path):
    result = vsvf("reconstruct", photos, *SMALL, "--label", 1, "--out", "run")
    assert result.code == 1
    assert "vsvf: skipped: " in result.err and "b.png is not an image" in result.err
    assert result.err.splitlines()[-1] == "vsvf: error: 1 thing skipped; everything else is done"
    rows = list(csv.DictReader((tmp_path / "run" / "images.csv").open()))
    assert sorted({row["image"][-5:] for row in rows}) == ["a.png", "c.png", "d.png"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["skipped"]


def test_resumed_it_does_no_work_twice_and_gives_the_same_files(vsvf, tmp_path, monkeypatch):
    assert vsvf("reconstruct", "--count", 3, *SMALL, "--out", "run").code == 0
    whole = content(tmp_path / "run")
    removed = sorted((tmp_path / "run" / "units").glob("00001-*"))
    assert removed
    for path in (removed[0], tmp_path / "run" / "tables.md"):
        path.unlink()
    from vsvf.apps import reconstruct

    calls = []
    original = reconstruct.reconstruct
    monkeypatch.setattr(reconstruct, "reconstruct", lambda *a, **k: calls.append(a[3]) or original(*a, **k))
    result = vsvf("reconstruct", "--count", 3, *SMALL, "--out", "run")
    assert result.code == 0 and "going on with the run" in result.err
    assert len(calls) == 1
    assert content(tmp_path / "run") == whole


def test_other_options_or_weights_in_a_run_are_refused(vsvf, fails, tmp_path):
    assert vsvf("reconstruct", "--count", 1, *SMALL, "--out", "run").code == 0
    fails(1, 'starter "ddim" then, "heun" now', "reconstruct", "--count", 1, *SMALL, "--starter", "heun", "--out", "run")
    head = json.loads((tmp_path / "run" / "run.json").read_text())
    head["settings"]["weights"] = "others"
    (tmp_path / "run" / "run.json").write_text(json.dumps(head))
    fails(1, 'weights "others" then', "reconstruct", "--count", 1, *SMALL, "--out", "run")


def test_rerun_repeats_a_run_and_compares(vsvf, tmp_path):
    assert vsvf("reconstruct", "--count", 1, *SMALL, "--out", "run").code == 0
    result = vsvf("rerun", "run", "--json")
    assert result.code == 0, result.err
    assert result.json["differing"] == [] and result.json["in_one_only"] == [] and result.json["files"] > 4
    (tmp_path / "run" / "images.csv").write_text("changed")
    result = vsvf("rerun", "run", "--out", "third")
    assert result.code == 1 and "1 differ" in result.out and "images.csv" in result.out


def test_bad_input_is_one_clear_line(fails, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    fails(1, "holds no image files", "reconstruct", "empty", *SMALL)
    fails(1, "no such file", "reconstruct", "missing.png", *SMALL)
    fails(1, "not known", "reconstruct", "--formula", "nonsense", "--steps", 3)
    fails(1, "model='nonsense' is not known", "reconstruct", "--model", "nonsense", *SMALL)
    fails(2, "--prompt does not go with digits", "reconstruct", "--prompt", "a cat", *SMALL)
    (tmp_path / "captions.csv").write_text("file,caption\nz.png,3\n")
    fails(1, "no caption of captions.csv belongs to any", "reconstruct", photos, "--captions", "captions.csv", *SMALL)
    fails(1, "holds files, but no run", "reconstruct", "--count", 1, *SMALL, "--out", photos)
    fails(1, "holds no run that can be repeated", "rerun", photos)


def test_captions_of_missing_images_are_said(vsvf, photos, tmp_path):
    (tmp_path / "captions.csv").write_text("file,caption\na.png,1\nz.png,2\nd.png,7\n")
    result = vsvf("reconstruct", photos, "--captions", "captions.csv", *SMALL, "--out", "run")
    assert result.code == 1
    for text in ("no image for the caption of z.png", "b.png has no caption", "c.png has no caption"):
        assert text in result.err
    assert len(list(csv.DictReader((tmp_path / "run" / "images.csv").open()))) == 8


def test_the_threads_of_the_process_are_as_asked(vsvf):
    assert vsvf("reconstruct", "--count", 1, *SMALL, "--threads", 1).code == 0
    assert torch.get_num_threads() == 1
