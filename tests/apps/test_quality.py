import math

import numpy as np
import pytest

import vsvf
from vsvf.apps.quality import Quality, apart, evaluations, order, table

GRID = vsvf.Grid.from_schedule(vsvf.Schedule.linear(), 10, "leading", "smallest")


def quality(method, value, spread=0.01, steps=10, seed=0):
    without = value + spread * np.random.default_rng(seed).normal(size=10)
    return Quality(method, steps, value, spread, without.tolist(), 0.1, steps, 500)


@pytest.mark.parametrize(("formula", "nfe"), [("ddim", 10), ("belm(2)", 10), ("edict(0.93)", 20), ("deis(3)", 10)])
def test_evaluations_are_those_of_sampling(formula, nfe):
    assert evaluations(vsvf.Schedule.linear(), GRID, formula, "ddim") == nfe


def test_the_order_of_the_paper_is_confirmed_denied_or_left_open():
    found = [quality("ddim", 3.0), quality("edict(0.93)", 9.0), quality("bdia(1)", 2.0), quality("belm(2)", 2.0)]
    lines = order(found)
    assert lines[0] == "10 steps, best to worst: bdia(1), belm(2), ddim, edict(0.93)"
    assert any(line.startswith("agrees: 10 steps: O-BELM below DDIM") for line in lines)
    assert any(line.startswith("undecided: 10 steps: O-BELM below BDIA") for line in lines)
    worse = order([quality("ddim", 3.0), quality("belm(2)", 5.0)])
    assert any(line.startswith("DOES NOT AGREE: 10 steps: O-BELM below DDIM") for line in worse)
    exact = order([quality("belm(2)", 1.0), quality("bdia(1)", 2.0), quality("edict(0.93)", 3.0)])
    assert exact[-1] == "agrees: 10 steps: of the exact ones O-BELM is best and EDICT worst; here O-BELM and EDICT"


def test_the_same_seeds_make_differences_sharper():
    first = quality("ddim", 3.0, spread=1.0)
    second = Quality("belm(2)", 10, 2.9, 1.0, [value - 0.1 for value in first.without], 0.1, 10, 500)
    difference, error = apart(first, second)
    assert difference == pytest.approx(0.1) and error < 1e-12


def test_a_table_has_errors_evaluations_and_the_published_numbers():
    lost = Quality("edict(0.93)", 10, math.inf, 0.0, [], math.inf, 20, 500)
    text = table([quality("ddim", 3.0), lost], "FID", "CelebA-HQ")
    assert "**FID**, n = 500" in text and "| 10 | 3 ± 0.01 (10) | inf (20) |" in text
    assert "| 50 | 10.77 | 16.72 | 10.65 | 10.41 | 10.72 |" in text
    assert math.isnan(apart(lost, lost)[0])
