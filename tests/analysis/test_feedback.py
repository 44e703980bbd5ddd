"""Roots of a step on geometric nodes, against roots by hand and against marches."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import feedback
from vsvf import formulas
from vsvf.grid import Grid
from vsvf.stability.growth import homogeneous_rows


def test_the_roots_of_o_belm_by_hand():
    """x_0 = a_1 x_1 + a_2 x_2 + c_1 kappa x_1 / s_1 on s, s q, s q^2 has the roots of y^2 - (a_1 + c_1 kappa / s_1) y - a_2."""
    for length, slope in ((0.2, 1.0), (0.45, 3.0)):
        nodes = np.exp(length * np.arange(3.0))
        a, c = formulas.belm(2).weights(nodes)
        roots = np.roots([1.0, -(a[0] + c[1] * slope / nodes[1]), -a[1]])
        others = np.delete(roots, np.abs(roots - np.exp(-slope * length)).argmin())
        assert feedback.spurious(formulas.belm(2), slope, length) == pytest.approx(abs(others[0]), rel=1e-9)


@pytest.mark.parametrize("name", ["stable_belm(3)", "pec_belm", "edict(0.93)"])
def test_marches_grow_as_the_root_says(name):
    slope, length, formula = 3.0, 0.5, formulas.by_name(name)
    plan = formula.plan(Grid.from_sigma_bar(np.geomspace(1e-6, 1e-6 * np.exp(length * 80), 81)))
    rows, k = homogeneous_rows(plan, slope / plan.node), plan.steps
    z = list(np.random.default_rng(0).normal(size=k))
    for row in rows:
        z.append(row @ np.array(z[-1 : -k - 1 : -1]))
    per = plan.rows_per_step
    sizes = np.array([np.abs(z[n : n + k]).max() for n in range(0, len(z) - k, per)])
    measured = (sizes[-1] / sizes[-41]) ** (1 / 40)
    assert measured == pytest.approx(feedback.spurious(formula, slope, length), rel=0.05)


def test_the_default_predictor_corrector_damps_where_the_others_grow(tmp_path):
    rows = {row[0]: row[1:] for row in feedback.main(tmp_path)}
    titles = [(length, slope) for length in feedback.LENGTHS for slope in feedback.SLOPES]
    at = {name: dict(zip(titles, values)) for name, values in rows.items()}
    for place in titles:
        if place[1] <= 3.0:
            assert at["pec_belm"][place] < 1.0
    assert at["belm(2)"][0.8, 3.0] > 1.5 and at["stable_belm(3)"][0.8, 3.0] > 1.1 and at["edict(0.93)"][0.2, 2.0] > 1.1
    assert (tmp_path / "feedback.csv").exists()
