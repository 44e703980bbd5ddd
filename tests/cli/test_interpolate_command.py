"""`vsvf interpolate`, on the embedded network."""

import json

from PIL import Image

SMALL = ("--steps", 4, "--frames", 3)


def test_between_own_pictures_the_ends_return(vsvf, tmp_path):
    # in float64: a float32 network's bits depend on the batch, which is another on the way back
    result = vsvf("interpolate", "own:30", "own:80", *SMALL, "--dtype", "float64", "--json")
    assert result.code == 0, result.err
    document = result.json
    assert max(document["end_mse"]) < 1e-20
    assert len(document["moves"]) == 2
    assert document["unevenness"] >= 1.0 and document["detour"] >= 1.0
    assert Image.open(tmp_path / "interpolation" / "strip.png").size == (4 * (3 * 29 - 1), 4 * 28)
    animation = Image.open(tmp_path / "interpolation" / "animation.gif")
    assert animation.n_frames == 4 and animation.size == (112, 112)


def test_between_seeds_and_a_file(vsvf, tmp_path):
    Image.new("L", (28, 28), 0).save(tmp_path / "black.png")
    result = vsvf("interpolate", "seed:1", "black.png", *SMALL, "--label", 1, "--to-label", 7, "--batch", 2, "--out", "run")
    assert result.code == 0, result.err
    assert "black.png returns with MSE" in result.out and "seed:1 returns" not in result.out
    assert json.loads((tmp_path / "run" / "results.json").read_text())["end_mse"][0] is None
    assert vsvf("rerun", "run").code == 0


def test_bad_input_is_one_clear_line(fails):
    fails(1, "a seed lies below", "interpolate", "seed:1", f"seed:{10**30}", "--steps", 3)
    fails(2, "not a whole number", "interpolate", "seed:1", "seed:2", "--steps-offset", 10**40)
    fails(2, "the pictures 0 … 99", "interpolate", "own:0", "own:100")
    fails(2, "at least 2", "interpolate", "own:0", "own:1", "--frames", 1)
    fails(1, "no such file", "interpolate", "own:0", "missing.png")
    fails(2, "not --captions", "interpolate", "own:0", "own:1", "--captions", "x.json")
    fails(1, "not known", "interpolate", "own:0", "own:1", "--formula", "nonsense", *SMALL)
