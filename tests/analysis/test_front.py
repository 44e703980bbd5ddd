"""The front: which methods stand on it, and that equal evaluations are equal."""

import csv

import pytest
import torch

import vsvf
from analysis import front, zoo
from analysis.pareto import RUNGE_KUTTA, make_grid, walked
from vsvf import predictors


def row(name, down, up):
    cells = ["leading", 10, name, 1] + [0.0] * 16
    cells[front.SAMPLING], cells[front.INVERSION] = down, up
    return cells


def test_what_is_worse_both_ways_is_not_on_the_front():
    nan, inf = float("nan"), float("inf")
    rows = [
        row("a", 1.0, 0.2),
        row("b", 0.5, 0.5),
        row("c", 1.1, 0.3),
        row("ddim", 0.1, 0.1),
        row("d", 0.1, nan),
        row("e", inf, 0.1),
    ]
    assert front.ahead(rows) == {"a", "b"}


@pytest.mark.parametrize("method", ["ees25", "rex(heun)", "rex(rk4)", "edict(0.93)", "mccallum_foster(0.999)", "belm(2)"])
def test_evaluations_are_counted_as_they_are_made(method, monkeypatch):
    calls = 0
    means = torch.randn(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    predictor = predictors.gaussian_mixture(means, std=0.4)
    epsilon = type(predictor).epsilon

    def counted(*args, **options):
        nonlocal calls
        calls += 1
        return epsilon(*args, **options)

    monkeypatch.setattr(type(predictor), "epsilon", counted)
    grid = make_grid("DDPM", zoo.steps_of(method, 40))
    x = torch.ones(1, 6, dtype=torch.float64)
    if method in RUNGE_KUTTA:
        walked(predictor, x, grid.sigma_bar[::-1], method)
    else:
        vsvf.sample(predictor, x, grid, method, warn=False)
    assert calls == zoo.steps_of(method, 40) * zoo.COSTS.get(method.split("(")[0], zoo.COSTS.get(method, 1))


def test_the_table_holds_every_method_and_its_front(tmp_path):
    front.main(tmp_path, ("mixture",), (20,), images=10)
    with open(tmp_path / "front.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {r["method"] for r in rows} == set(front.METHODS) and (tmp_path / "front.svg").exists()
    own = [r for r in rows if r["method"] == "belm(2)"]
    assert all(float(r["sampling, mean"]) == float(r["inversion, mean"]) == 1.0 for r in own) and len(own) == 2
    assert {r["method"] for r in rows if r["inversion, mean"] == "-"} == {*zoo.PUBLISHED, *front.PLAIN}
