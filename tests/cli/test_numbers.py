"""`vsvf derive`, `vsvf coefficients` and `vsvf check`: the commands that print numbers."""

import csv
import io

import numpy as np
import pytest

import vsvf as package
from vsvf import formulas


def test_derive(vsvf):
    result = vsvf("derive", "--steps", 2)
    assert result.code == 0
    assert "a_2" in result.out
    assert vsvf("derive", "--steps", 2, "--json").json


def test_derive_refuses_in_one_line(fails):
    fails(1, "steps must be", "derive", "--steps", 1)
    fails(1, "not known", "derive", "--pattern", "nonsense")


# ---- coefficients --------------------------------------------------------------------------------------------


def test_coefficients_of_three_step_belm_on_uniform_nodes(vsvf):
    (row,) = vsvf("coefficients", "belm(3)", "--nodes", "0,1,2,3", "--json").json["rows"]
    assert row["i"] == 1
    assert row["a"] == pytest.approx([-9, 9, 1], abs=1e-12)
    assert row["b"] == pytest.approx([0, -6, -6, 0], abs=1e-12)
    table = vsvf("coefficients", "belm(3)", "--nodes", "0 1 2 3").out.splitlines()
    assert table[2].split() == ["i", "sigma_bar_{i-1}", "a_1", "a_2", "a_3", "b_0", "b_1", "b_2", "b_3"]
    assert table[3].split() == ["1", "0", "-9", "9", "1", "0", "-6", "-6", "0"]


@pytest.mark.parametrize("name", ["ddim", "belm(2)", "bdia(0.5)", "bdf(3)", "deis(2)", "adams_moulton(2)", "stable_belm(4)"])
def test_coefficients_are_those_of_the_plan(vsvf, name):
    document = vsvf("coefficients", name, "--steps", 6, "--schedule", "scaled-linear", "--json").json
    grid = package.Grid.from_schedule(package.Schedule.scaled_linear(), 6)
    plan = formulas.by_name(name).plan(grid)
    k = plan.steps
    assert document["grid"]["sigma_bar"] == grid.sigma_bar.tolist()
    assert [row["i"] for row in document["rows"]] == list(range(1, 6 - k + 2))
    for row, a, c in zip(document["rows"], plan.a[::-1], plan.c[::-1], strict=True):
        i = row["i"]
        assert row["a"] == a.tolist()
        steps = [grid.h[i - 1], *grid.h[i - 1 : i - 1 + k]]  # b_0 multiplies h_i, b_j multiplies h_{i-1+j}
        assert np.allclose(np.array(row["b"]) * steps, c, rtol=1e-14, atol=0)


def test_coupled_methods_print_the_rows_of_their_plan(vsvf):
    document = vsvf("coefficients", "edict(0.9)", "--nodes", "0,1,3", "--json").json
    assert len(document["rows"]) == 8
    assert document["rows"][0] == {"row": 0, "sigma_bar": 1.0, "a": [0.0, 1.0], "c": [0.0, -2.0, 0.0]}
    assert document["rows"][2]["a"] == pytest.approx([0.1, 0.9])


def test_csv_has_all_digits_and_goes_to_a_file(vsvf, tmp_path):
    screen = vsvf("coefficients", "belm(2)", "--steps", 5, "--format", "csv").out
    result = vsvf("coefficients", "belm(2)", "--steps", 5, "--format", "csv", "-o", "b.csv")
    assert result.out == ""
    assert (tmp_path / "b.csv").read_text() == screen
    header, *rows = csv.reader(io.StringIO(screen))
    assert header[0] == "i" and len(rows) == 4
    expected = vsvf("coefficients", "belm(2)", "--steps", 5, "--json").json["rows"]
    assert [float(v) for v in rows[1][2:]] == expected[1]["a"] + expected[1]["b"]


@pytest.mark.parametrize(
    ("code", "text", "arguments"),
    [
        (2, "need a grid", ["ddim"]),
        (2, "does not go with --steps", ["ddim", "--nodes", "0,1", "--steps", "3"]),
        (2, "contradicts", ["ddim", "--nodes", "0,1", "--json", "--format", "csv"]),
        (2, "is not a number", ["ddim", "--nodes", "0,x"]),
        (2, "not a finite number", ["ddim", "--nodes", "0,inf"]),
        (2, "choose one of", ["ddim", "--steps", "3", "--spacing", "zigzag"]),
        (2, "choose one of", ["ddim", "--steps", "3", "--schedule", "quadratic"]),
        (2, "not a whole number from 1", ["ddim", "--steps", "0"]),
        (1, "increase strictly", ["ddim", "--nodes", "0,2,1"]),
        (1, "at least 3 steps", ["belm(3)", "--nodes", "0,1,2"]),
        (1, "'nonsense' is not known", ["nonsense", "--steps", "3"]),
        (1, "must be numbers", ["belm(two)", "--steps", "3"]),
        (1, "gamma", ["bdia(3)", "--steps", "3"]),
        (1, "too short", ["ddim", "--steps", "1001"]),
        (1, "needs a schedule with a table", ["ddim", "--steps", "5", "--schedule", "edm", "--spacing", "trailing"]),
        (1, "folder", ["ddim", "--steps", "5", "-o", "missing/x.csv"]),
    ],
)
def test_coefficients_refuse_in_one_line(fails, code, text, arguments):
    fails(code, text, "coefficients", *arguments)


def test_an_existing_file_is_kept_unless_forced(vsvf, fails, tmp_path):
    (tmp_path / "x.csv").write_text("precious")
    fails(1, "--force", "coefficients", "ddim", "--steps", 3, "-o", "x.csv")
    assert vsvf("coefficients", "ddim", "--steps", 3, "-o", "x.csv", "--force").code == 0
    assert (tmp_path / "x.csv").read_text() != "precious"


# ---- check ---------------------------------------------------------------------------------------------------


def test_check_of_belm(vsvf):
    result = vsvf("check", "belm(2)", "--steps", 50)
    assert result.code == 0
    assert "2 claimed; measured: sampling 2.0" in result.out
    assert "-1 (modulus 1)" in result.out
    assert "zero-stable both ways" in result.out
    assert "amplifies rounding by 2.4e+05" in result.out


def test_check_rejects_three_step_belm(vsvf):
    document = vsvf("check", "belm(3)", "--steps", 50, "--json").json
    assert document["verdict"] == "not zero-stable"
    assert document["log10_k_sampling"] > 30
    assert document["order"] == {"claimed": 4, "measured": {"sampling": None, "inversion": None}}
    assert max(root["modulus"] for root in document["spurious_roots"]) == pytest.approx(9.899, abs=1e-3)


def test_check_on_the_network(vsvf):
    grid = ("--steps", 6, "--spacing", "leading", "--final", "smallest", "--no-order", "--model", "digits")
    document = vsvf("check", "stable_belm(5)", *grid, "--json").json
    assert document["examination"]["suspect"] is document["examination"]["sampling"]["suspect"] is True
    assert document["examination"]["sampling"]["error_over_belm2"] > 2.0
    assert "do not use it here" in vsvf("check", "stable_belm(5)", *grid).out
    assert vsvf("check", "belm(2)", "--steps", 6, "--no-order", "--json").json["examination"] is None


def test_check_without_measuring(vsvf):
    for name in ("ddim", "edict", "bdf(2)", "adams_bashforth(2)", "stable_belm(3)"):
        document = vsvf("check", name, "--steps", 10, "--no-order", "--json").json
        assert document["order"]["measured"] is None
        assert document["sentence"]
        assert vsvf("check", name, "--steps", 10, "--no-order").out
    assert vsvf("check", "adams_bashforth(2)", "--steps", 10, "--no-order", "--json").json["k_inversion"] is None
    for name, coarse in (("edict(0.93)", True), ("belm(2)", False)):  # on the linear schedule
        document = vsvf("check", name, "--steps", 20, "--no-order", "--json").json
        assert document["too_coarse"] is coarse is (document["gaussian_error"] > 3.0 * document["ddim_error"] > 0.0)
        assert ("inaccurate with these steps" in document["sentence"]) is coarse
    assert vsvf("check", "belm(3)", "--steps", 999, "--no-order", "--spacing", "sigma_bar", "--json").json["k_sampling"] is None


def test_check_on_other_schedules(vsvf):
    for schedule in ("edm", "rectified_flow", "cosine"):
        assert vsvf("check", "belm(2)", "--steps", 10, "--schedule", schedule, "--no-order").code == 0


def test_check_refuses_in_one_line(fails):
    fails(1, "not known", "check", "nonsense")
    fails(1, "needs at least 4 steps", "check", "belm(4)", "--steps", 3)
