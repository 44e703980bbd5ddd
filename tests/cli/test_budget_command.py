"""vsvf budget."""

import pytest
import torch

from vsvf.apps.images import save_image


@pytest.fixture
def picture(tmp_path):
    x = -torch.ones(28, 28)
    x[4:24, 12:16] = 1.0
    save_image(x, tmp_path / "one.png")
    return "one.png"


COMMON = ("--label", "1", "--steps", "10", "--final", "smallest", "--reference-steps", "16")


def test_it_says_why_ddim_inversion_is_not_exact(vsvf, picture):
    found = vsvf("budget", picture, "--formula", "ddim_inversion", *COMMON)
    assert found.code == 0
    assert "not exact mainly because of truncation" in found.out
    for word in ("image", "guidance", "truncation", "starter", "rounding"):
        assert found.out.count(f"\n  {word} ") == 2


def test_json_in_fixed_point_with_eight_bits(vsvf, picture):
    found = vsvf(
        "budget", picture, "--formula", "belm(2)", "--arithmetic", "fixed", "--eight-bit", "--guidance", "2", *COMMON, "--json"
    )
    assert found.code == 0 and found.json["image"] == 0.0 and found.json["guidance"] == 2.0
    assert sum(part["share"] for part in found.json["noise_parts"]) == pytest.approx(1.0)
    assert [part["key"] for part in found.json["image_parts"]] == ["image", "guidance", "truncation", "starter", "rounding"]


def test_wrong_use(fails, picture):
    fails(1, "not known", "budget", picture, "--formula", "euler")
    fails(1, "no such file", "budget", "none.png")
    fails(2, "--guidance", "budget", picture, "--guidance", "3")
    fails(2, "--tolerance", "budget", picture, "--tolerance", "1e-3")
    fails(1, "even", "budget", picture, "--reference-steps", "3")
