"""The study of strong guidance: its lines are those of `vsvf.sample`, and it sees what breaks."""

from __future__ import annotations

import pytest
import torch

guided = pytest.importorskip("analysis.guided", reason="run from the repository")

import vsvf  # noqa: E402
from vsvf import predictors  # noqa: E402
from vsvf.predictors.scenes import LATENTS  # noqa: E402


def test_a_table_with_a_line_for_each_formula_and_grid(tmp_path, monkeypatch):
    monkeypatch.setattr(guided, "METHODS", ("ddim",))
    monkeypatch.setattr(guided, "SHOWN", ("ddim", "pec_belm"))
    monkeypatch.setattr(guided, "NODES", {"leading": guided.NODES["leading"]})
    rows = guided.main(tmp_path, count=1, scales=(2.0,), steps=4)
    grid = vsvf.Grid.from_schedule(vsvf.Schedule.scaled_linear(), 4, "leading", "smallest", steps_offset=1)
    assert [row[2] for row in rows] == ["ddim", "pec_belm", vsvf.formulas.recommended(grid).name]
    assert len((tmp_path / "guided.csv").read_text().splitlines()) == 4 and (tmp_path / "guided_pictures.png").exists()
    zero = vsvf.Grid.from_schedule(vsvf.Schedule.scaled_linear(), 4, "trailing", "zero")
    assert "pec_belm" not in guided.names(zero)


def test_a_broken_march_is_seen_in_all_three_numbers():
    """O-BELM at guidance 5 on trailing timesteps; DDIM from the same noise draws the picture."""
    draw, glyphs = torch.Generator().manual_seed(78), guided.load_glyphs()
    scenes = [guided.random_scene(glyphs, draw, count=1) for _ in range(2)]
    prompts = [guided.caption(scene, draw) for scene in scenes]
    grid = vsvf.Grid.from_schedule(vsvf.Schedule.scaled_linear(), 50, "trailing", "zero")
    fine, broken = (guided.measure(scenes, prompts, 5.0, grid, name) for name in ("ddim", "belm(2)"))
    assert fine[0] == 2 and fine[2] < 9.0 and fine[3] == ""
    assert broken[0] < 2 and broken[2] > 12.0 and broken[3] == "yes"
    eps = predictors.scenes(prompts, 5.0)
    noise = predictors.noise((2, *LATENTS), eps, grid, generator=torch.Generator().manual_seed(5))
    assert fine[2] == float(vsvf.sample(eps, noise, grid, "ddim").x.abs().max())


def test_what_is_recommended_under_strong_guidance_holds_where_the_others_break():
    """Stable Diffusion's usual guidance on 20 of its timesteps."""
    draw, glyphs = torch.Generator().manual_seed(78), guided.load_glyphs()
    scenes = [guided.random_scene(glyphs, draw, count=1) for _ in range(3)]
    prompts = [guided.caption(scene, draw) for scene in scenes]
    grid = vsvf.Grid.from_schedule(vsvf.Schedule.scaled_linear(), 20, "leading", "smallest", steps_offset=1)
    name = vsvf.formulas.recommended(grid, guidance=7.5).name
    assert name == vsvf.formulas.pec_belm().name
    found, ddim = (guided.measure(scenes, prompts, 7.5, grid, which) for which in (name, "ddim"))
    assert found[0] == ddim[0] == 3 and found[2] < 1.2 * ddim[2] and found[3] == ""
    for other in ("belm(2)", "stable_belm(3)", "pec_belm(0.82, 0.56, (0.32, 1), 0.38, 0.87)"):
        broken = guided.measure(scenes, prompts, 7.5, grid, other)
        assert broken[0] < 3 and broken[2] > 1.1 * ddim[2] and broken[3] == "yes"
