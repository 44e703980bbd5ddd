"""The benchmark of gradients runs, and the memory of a retraced gradient is that of a march, whatever its length."""

from __future__ import annotations

import csv

import pytest
import torch

from benchmarks import gradient
from benchmarks.live import LiveBytes


def test_live_bytes_counts_what_is_alive_and_views_once():
    with LiveBytes() as memory:
        a = torch.zeros(1000, dtype=torch.float64)
        b = a.view(10, 100)[2:]
        assert memory.live == memory.peak == 8000
        c = (a + 1.0).requires_grad_()
        d = c.exp()  # whose result is kept for the backward pass
        del d, a, b
        assert (memory.live, memory.peak) == (8000, 24000)
        e = c.exp()
        f = e.sum()
        del e  # the graph keeps it
        assert memory.live == 16008
        del f
        assert memory.live == 8000


def noise(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("formula", ["stable_belm(2)", "corrected(stable_belm(3), 0.7, 4)"])
def test_peak_memory_is_flat_in_the_number_of_steps(formula):
    predictor, shape = gradient.network_of("pointwise")
    few, many = (gradient.most_tensors(predictor, noise(shape), steps, "reversible", formula) for steps in (10, 1000))
    assert many <= 1.1 * few
    stored = gradient.most_tensors(predictor, noise(shape), 60, "stored", formula)
    assert stored > 5 * few


def test_peak_memory_is_one_graph_of_the_network_and_a_few_states():
    predictor, shape = gradient.network_of("digits")
    x = noise(shape)
    with LiveBytes() as memory:
        leaf = x.clone().requires_grad_()
        slope = predictor.epsilon(leaf, 1.0)
        torch.autograd.grad(slope, leaf, torch.ones_like(slope), retain_graph=True)
    graph = memory.peak
    few, more = (gradient.most_tensors(predictor, x, steps, "reversible") for steps in (5, 25))
    assert more <= 1.01 * few
    states, adjoints, copies = 2 * 2 - 1, 2, 20  # k = 2; copies: what comes, goes, and is summed up
    assert graph < more <= graph + (states + adjoints + copies) * x.nbytes
    assert gradient.most_tensors(predictor, x, 5, "stored") > 1.8 * more


def test_the_table_is_written(tmp_path, capsys):
    gradient.main(["--network", "pointwise", "--steps", "5", "9", "--ways", "reversible", "--out", str(tmp_path / "table.csv")])
    printed = capsys.readouterr().out.splitlines()
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert len(printed) == 3 and [row["steps"] for row in rows] == ["5", "9"]
    assert float(rows[1]["tensors"]) == pytest.approx(float(rows[0]["tensors"]), rel=0.05)
