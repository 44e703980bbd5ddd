"""The zoo's study: it resumes, summarises by parts, and its problems are what they are called."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from analysis import problems, zoo


def test_a_floor_keeps_the_denoiser_from_sharpening():
    base = problems._mixture(problems._means(17, 3, 5), 0.1)
    floored = problems.with_floor(base, 0.3)
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for s in (0.01, 0.5):
        denoised = x - s * floored.function(x, s)
        blurred = (s * s + 0.09) ** 0.5
        assert torch.allclose(denoised, x - blurred * base.function(x, blurred), rtol=0.0, atol=1e-12)
    assert float(floored.function(x, 1e-4).abs().max()) > 100.0 > float(base.function(x, 1e-4).abs().max())


def test_guidance_one_is_the_condition():
    condition, null = problems._mixture(problems._means(1, 2, 3), 0.2), problems._mixture(problems._means(2, 4, 3), 0.2)
    x = torch.ones(2, 3, dtype=torch.float64)
    assert torch.allclose(problems.guided(condition, null, 1.0).function(x, 0.7), condition.function(x, 0.7), atol=1e-14)


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    methods = (*zoo.PUBLISHED, "belm(2)", "corrected(stable_belm(3), 0.7, 4)")
    names = ("mixture", "another mixture")
    options = {"spacings": ("leading", "karras"), "images": 12}
    first = zoo.study(tmp_path, names[:1], (10,), methods, ("DDPM",), **options)
    again = zoo.read(tmp_path / "zoo_errors.csv")
    assert set(again) == set(first)
    assert all(again[key].sampling == pytest.approx(first[key].sampling, rel=1e-5) for key in first)

    def never(*args):
        raise AssertionError("computed again")

    monkeypatch.setattr(zoo, "one", never)
    assert zoo.study(tmp_path, names[:1], (10,), methods, ("DDPM",), **options).keys() == first.keys()
    monkeypatch.undo()
    zoo.main(tmp_path, names, (10,), methods, **options)
    with open(tmp_path / "zoo_confirmation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} == set(methods) and {row["grid"] for row in rows} == {"leading", "karras"}
    own = next(row for row in rows if (row["grid"], row["method"]) == ("leading", "belm(2)"))
    for title in ("over O-BELM", "inversion over O-BELM"):  # O-BELM's errors over its own
        assert float(own[f"{title}, mean"]) == float(own[f"{title}, worst"]) == pytest.approx(1.0)
        assert float(own[f"{title}, ± %"]) == pytest.approx(0.0, abs=1e-9)
    assert own["over O-BELM, at most 1.2"] == own["cases"] == "2" and own["inversion over O-BELM, at most 0.2"] == "0"
    published = [row for row in rows if row["grid"] == "leading" and row["method"] in zoo.PUBLISHED]
    assert min(float(row["over best published, mean"]) for row in published) >= 1.0  # nothing is better than the best
    for cell in ("mean", "worst"):  # on leading timesteps the two comparisons are one
        assert all(row[f"over best published, {cell}"] == row[f"over best published on leading, {cell}"] for row in published)


def test_the_standard_error_is_that_of_independent_blocks():
    """Of a ratio to something without an error: that of a mean square, halved and relative, as the square root makes it."""
    squares = np.array([1.0, 1.2, 0.9, 1.1, 0.8, 1.0])
    exact = np.ones(6)
    keys = [("mixture", "DDPM", "leading", 10, method, "exact") for method in (*zoo.PUBLISHED, "belm(2)", "other")]
    found = {key: zoo.Found(squares if key[4] == "other" else exact, exact, False, 60) for key in keys}
    row = next(row for row in zoo.summary(found, "choosing") if row[2] == "other")
    expected = 100.0 * squares.std(ddof=1) / np.sqrt(6) / squares.mean() / 2
    assert row[4] == pytest.approx(1.0) and row[5] == pytest.approx(expected, rel=0.03)


def test_warnings_are_counted_beside_what_they_should_say():
    def case(name, error, warned):
        return {(name, "DDPM", "leading", 10, "coarse_belm", "exact"): zoo.Found(np.array([error**2]), np.ones(1), warned, 1)}

    def base(name):
        return {(name, "DDPM", "leading", 10, "belm(2)", "exact"): zoo.Found(np.array([0.1**2]), np.ones(1), False, 1)}

    found = {**case("a", 0.4, True), **base("a"), **case("b", 0.4, False), **base("b"), **case("c", 0.1, True), **base("c")}
    found |= {("a", "DDPM", "leading", 10, "stable_belm(4)", "exact"): zoo.Found(np.ones(1), np.ones(1), True, 1)}
    rows = {row[0]: row[1:] for row in zoo.warnings_table(found)}
    assert rows["coarse_belm"] == [10, 3, 2, 2, 1, 1, 1]
    assert rows["stable_belm(4)"] == [10, 1, 1, 1, 1, 0, 0]
    assert rows["advised"] == [10, 6, 2, 2, 1, 4, 1]  # coarse_belm for inversions there, and O-BELM


def test_a_comparison_needs_all_published_samplers(tmp_path):
    found = zoo.study(tmp_path, ("mixture",), (10,), ("deis(3)", "belm(2)"), ("DDPM",), ("leading",), images=2)
    assert found and zoo.summary(found, "choosing") == []


def test_both_parts_have_both_kinds():
    for part in ("choosing", "held back"):
        assert {"epsilon", "sample"} <= {animal.kind for animal in problems.ZOO.values() if animal.part == part}
