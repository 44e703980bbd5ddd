"""Whether bad marches are told of: what is counted, and that a run goes on."""

from __future__ import annotations

import csv

import pytest

from analysis import examined, zoo


@pytest.fixture
def folder(tmp_path):
    methods = ("belm(2)", "stable_belm(3)", "stable_belm(4)", "dpm_solver_pp(2)", "ddim", "ees25")
    zoo.study(tmp_path, ["mixture", "guided mixture"], (10,), methods, ("DDPM",), spacings=("leading",), images=10)
    return tmp_path


def test_what_has_no_inverse_and_what_it_is_held_against_are_not_judged(folder):
    judged = [key[4] for key, _ in examined.cases(zoo.read(folder / "zoo_errors.csv"))]
    assert judged == ["stable_belm(3)", "stable_belm(4)"] * 2


def test_the_bad_are_told_of_before_the_run(folder, monkeypatch):
    examined.main(folder)
    with open(folder / "examined_cases.csv", newline="") as file:
        rows = {(row["problem"], row["method"]): row for row in csv.DictReader(file)}
    assert len(rows) == 4
    bad = rows["guided mixture", "stable_belm(4)"]
    assert float(bad["error over O-BELM's"]) > 3.0 and bad["suspect"] == "1" and float(bad["growth"]) > 10.0
    with open(folder / "examined.csv", newline="") as file:
        (line,) = csv.DictReader(file)
    assert int(line["more than 3 times O-BELM's error, suspect"]) == int(line["more than 3 times O-BELM's error, marches"]) >= 1

    def never(*args):
        raise AssertionError("examined again")

    monkeypatch.setattr(examined.vsvf, "examine", never)
    assert len(examined.study(folder)) == 4


def test_the_table_counts_kinds_apart():
    def row(ratio, error, warned, suspect, n=10):
        return {"NFE": str(n), "error over O-BELM's": ratio, "error": error, "warned": warned, "suspect": suspect}

    rows = [
        row("4", "0.1", "1", "0"), row("4", "0.1", "0", "1"), row("4", "0.01", "0", "0"), row("inf", "inf", "0", "0"),
        row("nan", "nan", "1", "1"), row("1", "0.1", "0", "1"), row("2", "0.1", "1", "1"), row("1.5", "9", "0", "0", 20),
    ]  # fmt: skip
    assert examined.table(rows) == [[10, 4, 2, 2, 3, 1, 0, 1, 1], [20, 0, 0, 0, 0, 1, 0, 0, 0]]
