"""Samplers at equal numbers of evaluations: all there, none with more than was allowed, and judged alike."""

from __future__ import annotations

import csv

from analysis import samplers


def test_samplers_are_compared_at_equal_evaluations(tmp_path, monkeypatch):
    chosen = [("ddim", "ddim"), ("belm(2)", "ddim"), ("corrected(coarse_belm, 0.7, 4)", "ddim")]
    monkeypatch.setattr(samplers, "samplers", lambda spacing, nfe: chosen)
    samplers.main(tmp_path, (5,), 20, ("leading",))
    with open(tmp_path / "samplers_quality.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["sampler"] for row in rows] == [name for name, _ in chosen]
    assert {row["evaluations"] for row in rows} == {"5"} and {row["digits"] for row in rows} == {"20"}
    for row in rows:
        assert float(row["recognised, %"]) >= 60.0  # noise would be recognised as asked for once in ten
        assert 0.0 < float(row["distance, value"]) < 1.0


def test_what_is_recommended_is_among_the_samplers():
    names = [name for name, _ in samplers.samplers("leading", 10)]
    assert "corrected(coarse_belm,0.7,4)" in names and set(samplers.PUBLISHED) < set(names)
