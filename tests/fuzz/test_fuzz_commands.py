"""A slice of the hostile command lines of `make fuzz`, and the lines that once went wrong."""

import os
import random

import hostile_commands as hostile
import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("hostile")
    hostile.furnish(made)
    here = os.getcwd()
    os.chdir(made)
    yield made
    os.chdir(here)


def test_sixty_hostile_lines(folder):
    rng = random.Random(7)
    lines = [hostile.command_line(rng) for _ in range(60)]
    assert [(line, fault) for line in lines if (fault := hostile.judge(line, folder))] == []


@pytest.mark.parametrize(
    "line",
    [
        ["check", "belm(2)", "--no-order", "--spacing", "karras", "--rho", "1e-300"],
        ["sample", "--steps", "3", "--count", "1", "--device", "privateuseone"],
        ["check", f"root_placed_belm(({'9' * 400},),0)", "--no-order"],
        ["derive", "--pattern", "dpm_solver_pp(x)"],
        ["derive", "--steps", "2", "--unknown", "a1,b1", "--fixed", "a2=((((9**99)**99)**99)**99)**99"],
        ["coefficients", "ddim", "--nodes", "0,1", "--output", "device", "--force"],
        ["coefficients", "ddim", "--nodes", "0,1", "--output", "dangling"],
        ["coefficients", "ddim", "--nodes", "0,1", "--output", "pipe", "--force"],
        ["coefficients", "ddim", "--nodes", "0,1", "--output", "precious.csv"],
        ["check", "ddim", "--steps", "1000000000000", "--spacing", "log_snr", "--no-order"],
        ["derive", "--pattern", "belm(12)"],
        ["derive", "--steps", "11"],
        ["interpolate", "seed:0", "seed:1", "--steps", "3", "--frames", "2", "--starter", "rk4:0", "--out", "made"],
        ["interpolate", "seed:0", "seed:1", "--steps", "3", "--frames", "2", "--to-label", "10", "--out", "made"],
        ["fid", "--count", "20", "--formula", "belm(2)", "--steps", "3", "--arithmetic", "int8", "--out", "made"],
        ["fid", "--count", "20", "--formula", "stable_belm(4)", "--steps", "3", "--out", "made"],
        ["fid", "--count", "20", "--formula", "belm(2)", "--steps", "3", "--label", "10", "--out", "made"],
        ["reconstruct", "one.png", "--formula", "belm(2)", "--steps", "3", "--label", "10", "--out", "made"],
    ],
    ids=lambda line: " ".join(line)[:50],
)
def test_lines_that_once_went_wrong(folder, line):
    assert hostile.judge(line, folder, seconds=60) is None
    assert hostile.main(line) != 0


def test_the_judge_is_not_blind(folder, monkeypatch):
    """It sees a traceback, a second line of error, a partial file, a changed file and a wrong exit code."""

    def leaves_a_file(line):
        (folder / ".new.png.abcd").touch()
        return 0

    def changes_a_file(line):
        (folder / "precious.csv").write_text("gone")
        return 0

    def fails_twice(line):
        print("vsvf: error: one\nvsvf: error: two", file=__import__("sys").stderr)
        return 1

    def raises(line):
        raise OverflowError("x")

    for misbehaving, fault in (
        (leaves_a_file, "temporary file"),
        (changes_a_file, "replaced without --force"),
        (fails_twice, "not one line"),
        (raises, "raised OverflowError"),
        (lambda line: 3, "exit code 3"),
    ):
        monkeypatch.setattr(hostile, "main", misbehaving)
        assert fault in hostile.judge(["check"], folder)
        monkeypatch.undo()
    assert (folder / "precious.csv").read_text() == "precious" and not (folder / ".new.png.abcd").exists()
