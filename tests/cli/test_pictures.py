"""`vsvf sample` and `vsvf invert`, on the embedded network."""

import numpy as np
import pytest
import torch
from PIL import Image

import vsvf as package
from vsvf import formulas, predictors
from vsvf.apps.images import load_image

SMALL = ("--steps", 5, "--count", 2, "--label", "3,7")


@pytest.fixture
def digit(tmp_path):
    """An image of a stroke, white on black."""
    levels = np.zeros((28, 28), dtype=np.uint8)
    levels[5:23, 12:16] = 230
    Image.fromarray(levels).save(tmp_path / "one.png")
    return tmp_path / "one.png"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---- sample --------------------------------------------------------------------------------------------------


def test_sample_writes_a_sheet_and_the_state(vsvf, tmp_path):
    result = vsvf("sample", *SMALL, "--guidance", 2, "--seed", 4, "--out", "x", "--json")
    assert result.code == 0, result.err
    document = result.json
    assert names(tmp_path) == ["x.png", "x.safetensors"]
    assert document["nfe"] == 5 and document["label"] == [3, 7] and document["files"] == ["x.png", "x.safetensors"]
    assert 0 <= document["recognised"] <= 2
    assert Image.open("x.png").size == (4 * 57, 4 * 28)
    # the same by hand
    grid = package.Grid.from_schedule(package.Schedule.linear(), 5)
    noise = torch.randn((2, 1, 28, 28), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    by_hand = package.sample(predictors.digits(torch.tensor([3, 7]), 2.0), noise, grid, formulas.belm(2))
    assert torch.allclose(package.State.load("x.safetensors").x, by_hand.x, atol=1e-12)


def test_the_noise_has_the_variance_of_the_schedule():
    from vsvf.commands.network import draw_noise

    closed = predictors.ClosedForm(lambda x, s: x)  # alpha = 1: variance 1 + sigma_bar^2
    noise = draw_noise((50, 1, 28, 28), 0, closed, 3.0)
    assert float(noise.var()) == pytest.approx(10.0, rel=0.02)
    assert float(draw_noise((50, 1, 28, 28), 0, predictors.digits(), 3.0).var()) == pytest.approx(1.0, rel=0.02)


def test_sample_prints_for_people(vsvf):
    result = vsvf("sample", *SMALL, "--out", "x")
    assert "NFE 5" in result.out and "recognised as the digit asked for" in result.out and "wrote x.png" in result.out


def test_one_file_per_image_in_a_new_folder(vsvf, tmp_path):
    assert vsvf("sample", *SMALL, "--separate", "--out", "new/folder/").code == 0
    assert names(tmp_path / "new" / "folder") == ["samples-0.png", "samples-1.png", "samples.safetensors"]
    assert Image.open(tmp_path / "new" / "folder" / "samples-0.png").size == (28, 28)


def test_the_seed_decides(vsvf):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        vsvf("sample", "--steps", 3, "--count", 1, "--seed", seed, "--out", name)
    a, b, c = (package.State.load(f"{name}.safetensors").x for name in "abc")
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize("arithmetic", ["float32", "float16", "fixed"])
def test_arithmetic_is_passed_on(vsvf, arithmetic):
    options = ["--steps", 5, "--count", 1, "--label", 3, "--out", "x"]
    assert vsvf("sample", *options, "--arithmetic", arithmetic).code == 0
    document = vsvf("invert", "x.safetensors", "--json").json
    assert document["arithmetic"] == arithmetic
    assert document["error"]["mse"] <= {"float32": 1e-8, "float16": 1e-4, "fixed": 0.0}[arithmetic]


def test_no_label_means_no_guidance(vsvf):
    document = vsvf("sample", "--steps", 3, "--count", 1, "--label", "none", "--json").json
    assert document["label"] == [] and document["guidance"] == 1.0 and document["recognised"] is None


def test_an_unstable_formula_overflows_in_one_line(fails):
    fails(1, "not finite", "sample", "--formula", "belm(3)", "--steps", 50, "--count", 1, "--arithmetic", "float32", "--out", "x")


def test_values_that_are_no_image_are_remarked(vsvf):
    result = vsvf("sample", "--formula", "belm(3)", "--steps", 12, "--count", 1, "--out", "x", "--json")
    assert result.code == 0
    assert "not an image" in result.err
    assert result.json["values"][1] > 3.0 or result.json["values"][0] < -3.0


@pytest.mark.parametrize(
    ("code", "text", "arguments"),
    [
        (1, "'nonsense' is not known", ["--formula", "nonsense"]),
        (1, "starter='rk9' is not known", ["--starter", "rk9", "--count", 1]),
        (1, "arithmetic='int3' is not known", ["--arithmetic", "int3", "--count", 1]),
        (1, "device 'nonsense' cannot be used", ["--device", "nonsense"]),
        (1, "at least 4 steps", ["--formula", "belm(4)", "--steps", 3]),
        (1, "p must", ["--formula", "edict(2)"]),
        (1, "no/such does not exist", ["--out", "no/such/prefix"]),
        (1, "no such file", ["--from", "missing.safetensors"]),
        (2, "give digits", ["--label", "12"]),
        (2, "give digits", ["--label", "three"]),
        (2, "give its --label too", ["--label", "none", "--guidance", 3]),
        (2, "not a whole number from 1", ["--count", 0]),
        (2, "whole number", ["--seed", -1]),
        (2, "does not go with", ["--from", "x.safetensors", "--seed", 1]),
        (2, "is not a number", ["--guidance", "strong"]),
        (2, "invalid choice", ["--dtype", "int8"]),
    ],
)
def test_sample_refuses_in_one_line(fails, code, text, arguments):
    if text == "no such file":
        text = "no state file"
    fails(code, text, "sample", *arguments)


def test_existing_files_are_kept_unless_forced(vsvf, fails, tmp_path):
    (tmp_path / "x.safetensors").write_text("precious")
    fails(1, "x.safetensors exists already", "sample", "--steps", 3, "--count", 1, "--out", "x")
    assert vsvf("sample", "--steps", 3, "--count", 1, "--out", "x", "--force").code == 0
    package.State.load("x.safetensors")


def test_a_failing_output_says_what_is_complete(vsvf, tmp_path, monkeypatch):
    def full(self, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(package.State, "save", full)
    result = vsvf("sample", "--steps", 3, "--count", 1, "--out", "x")
    assert result.code == 1
    assert "could not write x.safetensors: No space left on device; complete already: x.png" in result.err
    assert names(tmp_path) == ["x.png"]


# ---- invert --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("formula", ["belm(2)", "edict(0.93)", "bdia(1)", "stable_belm(3)", "mccallum_foster(0.999)"])
@pytest.mark.parametrize("steps", [5, 6])
def test_a_state_returns_to_its_noise_and_back(vsvf, tmp_path, formula, steps):
    options = ["--steps", steps, "--count", 2, "--label", "3,7", "--guidance", 1.5, "--seed", 3]
    assert vsvf("sample", "--formula", formula, *options, "--out", "x").code == 0
    document = vsvf("invert", "x.safetensors", "--json").json
    assert document["formula"] == formula and document["steps"] == steps and document["label"] == [3, 7]
    assert document["error"]["max"] < 1e-9
    assert document["error"]["levels"] == 0
    assert document["error"]["psnr_range"] == 2.0
    assert document["noise"]["from_seed"] < 1e-8
    assert "x.reconstruction.png" in names(tmp_path)
    # and on from the inverted state
    assert vsvf("sample", "--from", "x.inverted.safetensors", "--out", "again").code == 0
    first, again = (package.State.load(f"{name}.safetensors").x for name in ("x", "again"))
    assert float((first - again).abs().max()) < 1e-9


def test_an_image_and_its_figures(vsvf, digit, tmp_path):
    result = vsvf("invert", digit, "--label", 1, "--steps", 6, "--out", "r/", "--json")
    assert result.err == ""
    document = result.json
    assert names(tmp_path / "r") == ["one.difference.png", "one.inverted.safetensors", "one.reconstruction.png"]
    assert document["error"]["levels"] == 0 and document["error"]["mse"] < 1e-18
    assert document["noise"]["from_seed"] is None
    assert document["starter"] == "ddim" and document["nfe"]["inversion"] == 6
    assert (tmp_path / "r" / "one.difference.png").exists()
    assert torch.equal(load_image(tmp_path / "r" / "one.reconstruction.png"), load_image(digit))
    assert set(np.asarray(Image.open(tmp_path / "r" / "one.difference.png")).ravel()) <= {127, 128}
    shown = vsvf("invert", digit, "--label", 1, "--steps", 6, "--out", "r/", "--force").out
    assert "range 2" in shown and "starter: ddim" in shown and "arithmetic float64" in shown and "NFE 6 to invert" in shown


def test_the_noise_alone_is_another_experiment(vsvf, digit):
    document = vsvf("invert", digit, "--steps", 6, "--noise-alone", "--json").json
    assert document["reconstructed_from"] == "noise alone"
    assert document["error"]["mse"] > 1e-4
    assert document["error"]["psnr"] == pytest.approx(10 * np.log10(4 / document["error"]["mse"]))


def test_ddim_is_inverted_by_iteration(vsvf, digit):
    options = ["--formula", "ddim", "--nodes", "0.5,0.55,0.6,0.65", "--dtype", "float64"]
    document = vsvf("invert", digit, *options, "--json").json
    assert document["nfe"]["inversion"] > 3
    assert document["error"]["max"] < 1e-6


def test_what_does_not_converge_is_one_line(fails, digit):
    fails(1, "did not converge", "invert", digit, "--formula", "adams_bashforth(2)", "--steps", 5, "--max-iterations", 3)
    fails(1, "iterations", "invert", digit, "--formula", "ddim", "--steps", 3, "--max-iterations", 2)


def test_other_images_are_converted_with_a_note(vsvf, tmp_path):
    levels = np.full((60, 40, 3), 250, dtype=np.uint8)
    levels[15:45, 18:22] = 10
    Image.fromarray(levels).save(tmp_path / "scan.JPG", format="jpeg")
    result = vsvf("invert", "scan.JPG", "--invert-colours", "--steps", 3)
    assert result.code == 0
    assert "colour turned to grey, cropped from 40x60 to 40x40 pixels, resized from 40x40 to 28x28 pixels" in result.err
    assert result.err.count("\n") == 1
    assert float(load_image("scan.reconstruction.png").mean()) < 0.0
    assert "--invert-colours?" in vsvf("invert", "scan.JPG", "--steps", 3, "--force").err


def test_a_state_knows_what_it_fits(vsvf, fails):
    assert vsvf("sample", *SMALL, "--out", "x").code == 0
    fails(1, "another grid", "invert", "x.safetensors", "--steps", 6)
    fails(1, "not to edict(0.93)", "invert", "x.safetensors", "--formula", "edict")
    fails(1, "would change them", "invert", "x.safetensors", "--arithmetic", "float16")
    fails(1, "--invert-colours is for image files", "invert", "x.safetensors", "--invert-colours")
    assert vsvf("invert", "x.safetensors", "--out", "y").code == 0
    fails(1, "vsvf sample --from", "invert", "y.inverted.safetensors")
    fails(1, "data end already", "sample", "--from", "x.safetensors")


def test_damaged_files_are_one_line(vsvf, fails, tmp_path):
    assert vsvf("sample", *SMALL, "--out", "x").code == 0
    whole = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    (tmp_path / "flip.safetensors").write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    (tmp_path / "text.safetensors").write_text("nothing")
    (tmp_path / "text.png").write_text("nothing")
    fails(1, "cut.safetensors is not a readable state file", "invert", "cut.safetensors")
    fails(1, "flip.safetensors is damaged", "invert", "flip.safetensors")
    fails(1, "text.safetensors is not a readable state file", "invert", "text.safetensors")
    fails(1, "text.png is not an image", "invert", "text.png")
    fails(1, "no such file", "invert", "missing.png")
    fails(1, "no state file", "invert", "missing.safetensors")


def test_states_from_elsewhere(vsvf, fails):
    grid = package.Grid.from_schedule(package.Schedule.linear(), 4)
    made = package.sample(predictors.digits(3), torch.zeros(1, 1, 28, 28), grid, "belm(2)")
    made.save("mine.safetensors")
    result = vsvf("invert", "mine.safetensors", "--steps", 4, "--label", 3)
    assert result.code == 0
    assert "does not say how it was made" in result.err
    other = package.sample(predictors.ideal_denoiser(torch.zeros(1, 2), std=1.0), torch.ones(1, 2), grid, "belm(2)")
    other.save("other.safetensors")
    fails(1, "not digits", "invert", "other.safetensors", "--steps", 4)


def test_other_weights_are_remarked(vsvf, monkeypatch):
    assert vsvf("sample", *SMALL, "--out", "x").code == 0
    monkeypatch.setattr("vsvf.commands.network.digest", lambda model: "0" * 16)
    assert "other weights" in vsvf("invert", "x.safetensors").err
