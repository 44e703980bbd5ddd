"""The scan of members: its ratios are those of the Pareto study, its list is what it says."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from vsvf import Grid, stability

members = pytest.importorskip("analysis.members", reason="run from the repository")
pareto = pytest.importorskip("analysis.pareto")


def test_members_are_distinct_and_on_the_circle_unless_they_say_so() -> None:
    names = members.members()
    assert len(set(names)) == len(names)
    grid = Grid.from_sigma_bar(np.linspace(0.5, 2.0, 13))
    for name in names[::7]:
        roots = np.abs(stability(pareto.formula_of(name), grid).spurious_roots)
        modulus = float(name.split()[-1]) if "modulus" in name else 1.0
        np.testing.assert_allclose(roots, modulus, rtol=1e-6)


def test_tables_and_figure(tmp_path: Path) -> None:
    chosen = ("stable_belm(3)", "k=2: 1; 2", "k=3: 7/8; 1")
    members.main(tmp_path, pareto.Settings((8,), ("exact",), ("DDPM",), (3,), (5,)), chosen)
    rows = {row["member"]: row for row in csv.DictReader((tmp_path / "members_8.csv").open())}
    assert set(rows) == set(chosen)
    assert float(rows["k=2: 1; 2"]["sampling, DDPM"]) == float(rows["k=2: 1; 2"]["inversion, DDPM"]) == 1.0  # O-BELM itself
    assert 0.0 < float(rows["k=3: 7/8; 1"]["inversion, DDPM"]) < 1.0
    assert (tmp_path / "members_8.svg").stat().st_size > 10_000
    kept = {row["member"]: row for row in csv.DictReader((tmp_path / "members_8_kept.csv").open())}
    assert len(kept) == 34
    assert all(0.0 < float(row["kept in the solution, DDPM"]) < 3.0 * float(row["error, DDPM"]) for row in kept.values())
    assert kept["k=3: 18/24; 1; modes 1; slopes 3"]["error, DDPM"] == rows["stable_belm(3)"]["inversion, DDPM"]


def test_the_part_of_an_error_that_the_solution_keeps() -> None:
    """A perturbation of the first window alone, on a problem without slopes: its part in the solution is where the modes, damped
    by averaging, settle: here on a uniform grid, where all is known in closed form."""
    angle, steps, size = 0.7 * np.pi, 40, 3.0
    roots = np.exp([1j * angle, -1j * angle])
    n = np.arange(steps + 1)
    states = size + np.cos(angle * n + 0.3)  # a constant and the two modes
    found = members.solution_part(states[::-1][:3].reshape(3, 1), roots, np.ones(steps))
    np.testing.assert_allclose(found, [size], rtol=1e-9)
