"""Cases with known results, the scores, and PIE-Bench's format and measures."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from vsvf.apps.edit.alignment import Tokens
from vsvf.apps.edit.bench import configurations
from vsvf.apps.edit.cases import KINDS, scene_cases, scene_pair
from vsvf.apps.edit.editing import blend_places
from vsvf.apps.edit.pie import decode_mask, measures, read_pie
from vsvf.apps.edit.scores import mean_and_error, scores, table
from vsvf.scenes import load_glyphs, parse
from vsvf.scenes.judge import load_judge

GLYPHS = load_glyphs()


def test_a_case_of_every_kind_changes_what_it_says_and_nothing_else():
    numbers = range(16)
    changed = {
        "digit": {"value"}, "colour": {"colour"}, "background": {"background"}, "texture": {"texture"}, "add": {"count"},
        "delete": {"count"}, "style": {"style"}, "several": {"value", "colour", "style"},
    }  # fmt: skip
    for n, case in zip(numbers, scene_cases(numbers, GLYPHS)):
        assert case.kind == KINDS[n % 8] and set(case.changed) == changed[case.kind]
        source, target = scene_pair(n, GLYPHS)
        assert parse(case.source) == source.attributes and parse(case.target) == target.attributes == case.attributes
        same = (case.picture == case.truth).all(0)
        assert bool(same[~case.mask].all()) and bool(case.mask.any())
        assert {len(source.digits), len(target.digits)} == ({1, 2} if case.kind in ("add", "delete") else {1})
    again = scene_cases([5], GLYPHS)[0]
    assert torch.equal(again.picture, scene_cases(numbers, GLYPHS)[5].picture)


def test_the_scores_of_the_true_result_and_of_no_edit():
    judge, cases = load_judge(), scene_cases(range(8), GLYPHS)
    right = [scores(case.truth, case, judge) for case in cases]
    none = [scores(case.picture, case, judge) for case in cases]
    assert sum(row["success"] for row in right) >= 7 and sum(row["kept"] for row in right) >= 7
    assert sum(row["success"] for row in none) == 0.0
    for row in right:
        assert row["target_mse"] == 0.0 and row["background_mse"] == 0.0 and row["background_psnr"] == math.inf
    assert all(row["structure"] == pytest.approx(0.0, abs=1e-9) for row in none)


def test_the_background_is_measured_outside_the_mask_alone():
    case = scene_cases([0], GLYPHS)[0]
    found = case.picture.double().clone()
    found[:, case.mask] = 0.0
    assert scores(found, case)["background_mse"] == 0.0
    found = (case.picture.double() * 0.5).clamp(-1, 1)
    row = scores(found, case)
    by_hand = float(((found - case.picture.double()) ** 2)[:, ~case.mask].mean())
    assert row["background_mse"] == pytest.approx(by_hand) and row["background_psnr"] == pytest.approx(10 * math.log10(4 / by_hand))
    assert math.isnan(row["success"])


def test_means_have_standard_errors_and_leave_out_what_is_not_defined():
    assert mean_and_error([1.0, 3.0, math.nan, math.inf]) == (2.0, 1.0, 2)
    assert mean_and_error([math.nan])[2] == 0
    rows = [{"kind": "a", "success": 1.0}, {"kind": "a", "success": 0.0}, {"kind": "b", "success": 1.0}]
    groups = table(rows, ("kind",), ("success",))
    assert [(g["kind"], g["n"], g["success"]) for g in groups] == [("a", 2, (0.5, 0.5, 2)), ("b", 1, (1.0, 0.0, 1))]


def test_null_text_goes_with_ddim_alone():
    found = configurations(["null_text", "direct"], ["ddim", "belm(2)"], [3.0], [1.0], [False])
    assert [(c.method, c.formula) for c in found] == [("null_text", "ddim"), ("direct", "ddim"), ("direct", "belm(2)")]
    assert found[0].label == "null_text-ddim-3-1"


def test_words_of_a_blend():
    source = Tokens(
        "a red six on green", ("a", "red", "six", "on", "green"), (0, 1, 2, 3, 4, 5, 6), ((1,), (2,), (3,), (4,), (5,)), 8
    )
    target = Tokens(
        "a red two on green", ("a", "red", "two", "on", "green"), (0, 1, 2, 9, 4, 5, 6), ((1,), (2,), (3,), (4,), (5,)), 8
    )
    assert blend_places(source, target, ("auto",)) == ([3], [3])
    assert blend_places(source, target, ("six", "green")) == ([3, 5], [5])
    with pytest.raises(ValueError, match="'dog' is in neither"):
        blend_places(source, target, ("dog",))


# ---- PIE-Bench -----------------------------------------------------------------------------------------------------


def test_a_mask_by_hand():
    """Runs of a picture of 4 x 4, row by row; the border is always set."""
    mask = decode_mask([5, 1], 4)
    assert mask.int().tolist() == [[1, 1, 1, 1], [1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    assert decode_mask([9, 2], 4).int().tolist()[2] == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="pairs"):
        decode_mask([1], 4)
    with pytest.raises(ValueError, match=r"15 \+ 2, leaves"):
        decode_mask([15, 2], 4)


@pytest.fixture
def pie(tmp_path):
    """Two entries, one masked whole."""
    (tmp_path / "annotation_images" / "0_random").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(pixels).save(tmp_path / "annotation_images" / "0_random" / name)
    entry = {
        "original_prompt": "a [cat] sits",
        "editing_prompt": "a [zebra] sits",
        "blended_word": "cat zebra",
        "editing_instruction": "",
    }
    mapping = {
        "000000000001": {**entry, "image_path": "0_random/b.jpg", "mask": [0, 1024], "editing_type_id": "9"},
        "000000000000": {**entry, "image_path": "0_random/a.jpg", "mask": [100, 20, 200, 8], "editing_type_id": "1"},
    }
    (tmp_path / "mapping_file.json").write_text(json.dumps(mapping))
    return tmp_path


def test_a_folder_in_the_published_format(pie):
    first, second = read_pie(pie, edge=32)
    assert (first.name, first.kind, second.kind) == ("000000000000", "change object", "style")
    assert (first.source, first.target, first.words) == ("a cat sits", "a zebra sits", ("cat", "zebra"))
    assert int(first.mask[1:-1, 1:-1].sum()) == 28 and bool(second.mask.all())
    small = read_pie(pie, (16, 16), edge=32)[0]
    assert small.picture.shape == (3, 16, 16) and small.mask.shape == (16, 16)


def test_its_measures_are_means_over_the_whole_frame_and_nan_where_all_is_masked(pie):
    first, second = read_pie(pie, edge=32)
    found = first.picture + 0.1
    row = measures(found.clamp(-1, 1), first)
    a, b = (((x.double().clamp(-1, 1) + 1) / 2 * ~first.mask).numpy() for x in (found, first.picture))
    assert row["pie_mse"] == pytest.approx(((a - b) ** 2).mean())
    assert row["pie_psnr"] == pytest.approx(10 * math.log10(1.0 / ((a - b) ** 2).mean()))
    assert 0.0 < row["pie_ssim"] < 1.0
    assert all(math.isnan(value) for value in measures(second.picture, second).values())


def test_damaged_folders_are_named(pie):
    with pytest.raises(FileNotFoundError, match="no PIE-Bench folder"):
        read_pie(pie / "annotation_images")
    mapping = json.loads((pie / "mapping_file.json").read_text())
    for change, message in (
        ({"mask": None}, "lacks mask"),
        ({"image_path": "none.jpg"}, "missing"),
        ({"editing_type_id": "12"}, "known are 0"),
    ):
        entry = {key: value for key, value in {**mapping["000000000000"], **change}.items() if value is not None}
        (pie / "mapping_file.json").write_text(json.dumps({"1": entry}))
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            read_pie(pie, edge=32)
    (pie / "mapping_file.json").write_text("[]")
    with pytest.raises(ValueError, match="not a JSON object"):
        read_pie(pie)
