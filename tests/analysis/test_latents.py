"""The study of single-latent inversion: groups that are measured once, and lines that say what was found."""

from __future__ import annotations

import pytest
import torch

import vsvf
from analysis import latents
from vsvf.apps.latent import Latent, single_latent


def test_a_group_is_what_the_package_finds_and_is_measured_once(tmp_path, monkeypatch):
    options = ["--formula", "ddim", "--steps", "3", "--guidance", "1", "--count", "1", "--out", str(tmp_path)]
    text = latents.main(options)
    predictor, image, grid = latents._case(3, 1.0, 0, 1)
    found = single_latent(predictor, image, grid, "ddim")
    assert f"| {int(found.converged)} of 1 |  | {float(found.error.max()):.1e} |" in text and f"| {found.nfe:,} |" in text

    def never(*args):
        raise AssertionError("measured again")

    monkeypatch.setattr(latents, "single_latent", never)
    monkeypatch.setattr(vsvf, "invert", never)
    assert latents.main(options) == text


def test_a_line_counts_digits_and_weighs_evaluations_by_group():
    groups = [
        {"error": [1e-6, 2e-3], "first_error": [0.1, 0.3], "iterations": 3, "nfe": 100, "continued": 0},
        {"error": [5e-6], "first_error": [0.2], "iterations": 12, "nfe": 400, "continued": 1},
    ]
    line = latents.row("ddim", 20, 3.0, groups, {"error": [1e-7], "nfe": 170})
    assert line == "| ddim | 20 | 3 | 2 of 3 | 1 | 2.0e-03 | 2.0e-01 | 3–12 | 200 | 170, to 1.0e-07 |"
    lost = latents.row("ddim", 20, 3.0, groups, {"error": [float("inf")], "nfe": 0})
    assert lost.endswith("| does not converge |")
    assert latents.HEADER.count("|") == line.count("|") == 11


def test_a_digit_that_is_missed_is_looked_for_from_weaker_guidance(monkeypatch):
    asked = []

    def missing(predictor, image, grid, formula, *, by=(), tolerance):
        asked.append((len(image), [float(one.network.scale) for one in (*by, predictor)]))
        error = torch.tensor([1e-7, 0.1, 1e-6]) if not by else torch.tensor([1e-6])
        return Latent(image, error[: len(image)], torch.ones(len(image)), not by, 4, 30)

    monkeypatch.setattr(latents, "single_latent", missing)
    found = latents.measure("belm(2)", 20, 2.0, 0, 3)
    assert asked == [(3, [2.0]), (1, [1.0, 1.5, 2.0])]
    assert found["error"] == pytest.approx([1e-7, 1e-6, 1e-6]) and found["continued"] == 1 and found["nfe"] == 40.0
    assert latents.measure("belm(2)", 20, 1.0, 0, 3)["continued"] == 0  # nothing weaker to begin with


def test_o_belms_noise_alone_returns_a_digit():
    found = latents.measure("belm(2)", 20, 1.0, 3, 1)
    assert found["error"][0] <= latents.TOLERANCE < 1e-3 * found["first_error"][0]


def test_amplification_tells_the_formulas_apart():
    text = latents.main(["--amplification", "--formula", "ddim", "belm(2)", "stable_belm(2)", "--steps", "20"])
    found = {line.split(" | ")[0][2:]: float(line.split(" | ")[2][:-2]) for line in text.splitlines()[2:]}
    assert found["ddim"] == pytest.approx(1.0) and found["belm(2)"] < 2.0 and found["stable_belm(2)"] > 1e3
