"""The zoo's study: it resumes, summarises by parts, and its problems are what they are called."""

from __future__ import annotations

import csv

import pytest
import torch

from analysis import zoo


def test_a_floor_keeps_the_denoiser_from_sharpening():
    base = zoo._mixture(zoo._means(17, 3, 5), 0.1)
    floored = zoo.with_floor(base, 0.3)
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for s in (0.01, 0.5):
        denoised = x - s * floored.function(x, s)
        blurred = (s * s + 0.09) ** 0.5
        assert torch.allclose(denoised, x - blurred * base.function(x, blurred), rtol=0.0, atol=1e-12)
    assert float(floored.function(x, 1e-4).abs().max()) > 100.0 > float(base.function(x, 1e-4).abs().max())


def test_guidance_one_is_the_condition():
    condition, null = zoo._mixture(zoo._means(1, 2, 3), 0.2), zoo._mixture(zoo._means(2, 4, 3), 0.2)
    x = torch.ones(2, 3, dtype=torch.float64)
    assert torch.allclose(zoo.guided(condition, null, 1.0).function(x, 0.7), condition.function(x, 0.7), atol=1e-14)


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    methods = (*zoo.PUBLISHED, "belm(2)", "corrected(stable_belm(3), 0.7, 4)")
    names = ("mixture", "another mixture")
    first = zoo.study(tmp_path, names[:1], (10,), methods, ("DDPM",))
    assert set(zoo.read(tmp_path / "zoo_errors.csv")) == set(first)

    def never(*args):
        raise AssertionError("computed again")

    monkeypatch.setattr(zoo, "one", never)
    assert zoo.study(tmp_path, names[:1], (10,), methods, ("DDPM",)).keys() == first.keys()
    monkeypatch.undo()
    zoo.main(tmp_path, names, (10,), methods)
    with open(tmp_path / "zoo_confirmation.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert {row[2] for row in rows[1:]} == set(methods)
    own = next(row for row in rows if row[:3] == ["leading", "10", "belm(2)"])
    assert float(own[7]) == float(own[8]) == float(own[10]) == pytest.approx(1.0)  # O-BELM's errors over its own
    assert own[9] == own[3] == "2" and own[12] == "0"  # within 1.2 of itself in both cases, within a fifth in none
    published = [row for row in rows if row[:2] == ["leading", "10"] and row[2] in zoo.PUBLISHED]
    assert min(float(row[4]) for row in published) >= 1.0  # nothing is better than the best
    assert all(row[4:6] == row[13:15] for row in published)  # on leading timesteps the two comparisons are one


def test_a_comparison_needs_all_published_samplers(tmp_path):
    found = zoo.study(tmp_path, ("mixture",), (10,), ("deis(3)", "belm(2)"), ("DDPM",))
    assert found and zoo.summary(found, "choosing") == []


def test_both_parts_have_both_kinds():
    for part in ("choosing", "held back"):
        assert {animal.kind for animal in zoo.ZOO.values() if animal.part == part} == {"epsilon", "sample"}
