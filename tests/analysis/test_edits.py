"""The study of editing: every edit is scored once, differences are taken case by case, and each edit differs from the others."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

import vsvf
from analysis import edits
from vsvf.apps.edit.cases import scene_cases
from vsvf.apps.scenes_model import scenes_model
from vsvf.scenes import load_glyphs
from vsvf.scenes.judge import load_judge

LISTS = {
    "methods": edits.methods,
    "guided": edits.guided,
    "varied": edits.varied,
    "large": edits.large,
    "confirmed": edits.confirmed,
}


@pytest.mark.parametrize("name", LISTS)
def test_no_edit_stands_twice_in_a_table_and_all_can_be_planned(name):
    found = LISTS[name]()
    assert len(edits.unique(found)) == len(found) > 5
    for one in found:
        grid = vsvf.Grid.from_schedule(vsvf.Schedule.scaled_linear(), one.steps, **edits.NODES[one.nodes])
        if one.settings.formula not in ("ddim", "ees25"):
            assert vsvf.formulas.by_name(one.settings.formula).plan(grid).bidirectionally_explicit


def test_the_table_of_methods_has_six_with_five_samplers_on_the_same_nodes():
    met = {}
    for one in edits.methods():
        met.setdefault((one.nodes, edits.label(one)), set()).add(one.settings.formula)
    full = [method for (nodes, method), names in met.items() if nodes == "log-SNR" and set(edits.SAMPLERS) <= names]
    assert sorted(full) == sorted((*edits.METHODS, "direct, local blend")) and ("leading", "null_text") in met


def test_remedies_change_one_thing_at_a_time_within_a_group():
    made = edits.remedies()
    assert len({name for name, _ in made if not name.startswith("…")}) == sum(not name.startswith("…") for name, _ in made)
    assert len(edits.unique(one for _, one in made)) == len(made)
    plain = vars(edits.Settings())
    for (name, one), (_, before) in zip(made[1:], made):
        if name.startswith("…"):
            changed = [key for key in plain if getattr(one.settings, key) != plain[key] and key not in ("formula", "guidance")]
            assert one.nodes == before.nodes and one.settings.formula == before.settings.formula and 1 <= len(changed) <= 2


def test_an_edit_is_scored_once_and_its_background_compared_case_by_case(tmp_path):
    model, judge, cases = scenes_model(), load_judge(), scene_cases([0, 1], load_glyphs())
    one = edits.by("log-SNR", "direct", "belm(2)", steps=2)
    scored = edits.Scored(tmp_path, model, judge)
    found = scored(one, cases[0])
    assert found["nfe"] > 0 and 0.0 < found["background_mse"] < 4.0 and found["edit"] == one.key
    line = json.loads((tmp_path / "editing.jsonl").read_text())
    assert line == found and line["case"] == cases[0].name
    again = edits.Scored(tmp_path, SimpleNamespace(fingerprint=model.fingerprint), None)  # what is known needs no network
    assert again(one, cases[0]) == found
    with pytest.raises(AttributeError):
        again(one, cases[1])
    assert not edits.Scored(tmp_path, SimpleNamespace(fingerprint="other weights"), None).known


def test_cells_are_means_and_paired_differences(tmp_path):
    cases = scene_cases([0, 1, 2], load_glyphs())
    other = edits.by("log-SNR", "direct", "belm(2)")
    scored = edits.Scored(tmp_path, None, None)
    base = {"success": 1.0, "kept": 1.0, "structure": 0.1, "target_mse": 0.2, "nfe": 100, "largest": 1.0}
    for n, case in enumerate(cases):
        scored.known[edits.BASELINE.key, case.name] = base | {"background_mse": 0.1 * n}
        scored.known[other.key, case.name] = base | {"background_mse": 0.1 * n + 0.05, "success": float(n > 0), "largest": 1.0 + n}
    row = dict(zip(edits.HEADER, edits.cells(scored, other, cases)))
    assert row["against"] == "+0.050 ± 0.000" and row["background MSE"] == "0.15 ± 0.06"
    assert row["success"] == "0.667 ± 0.3" and row["n"] == 3 and row["largest latent"] == "3"
    assert dict(zip(edits.HEADER, edits.cells(scored, edits.BASELINE, cases)))["against"] == ""
