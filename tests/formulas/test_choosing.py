"""The recommendation: it compiles on every grid it is asked about, in the way that the page says."""

from __future__ import annotations

import numpy as np
import pytest

from vsvf import Grid, Schedule, formulas
from vsvf.formulas import recommended


@pytest.mark.parametrize("spacing", ["leading", "trailing", "karras", "log_snr", "sigma_bar"])
@pytest.mark.parametrize("final", ["zero", "smallest"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50, 200])
def test_it_compiles_where_it_is_recommended(spacing, final, steps):
    for schedule in (Schedule.linear(), Schedule.scaled_linear()):
        grid = Grid.from_schedule(schedule, steps, spacing, final)
        for kind in ("epsilon", "sample", "v"):
            for direction in ("sampling", "inversion", "both"):
                plan = recommended(grid, kind, direction).plan(grid)
                assert plan.bidirectionally_explicit or steps == 1


def test_what_it_says():
    def name(spacing, final="smallest", **options):
        return recommended(Grid.from_schedule(Schedule.linear(), 50, spacing, final), **options).name

    assert name("leading", direction="sampling") == name("leading") == "pec_belm(0.82,0.56,(0.32,1),0.38,0.87)"
    assert name("leading", direction="inversion") == "coarse_belm"
    assert name("leading", "zero") == "stable_belm(3)"
    assert name("log_snr") == name("karras", kind="sample") == "pec_belm(0.88,0.56,(0.45,1),1.1,1.07)"
    assert name("log_snr", direction="sampling") == name("log_snr")
    assert name("log_snr", direction="inversion") == formulas.power_fitted_belm(0.7, 7 / 8, 2.0, 0.75).name


@pytest.mark.parametrize(("option", "message"), [({"kind": "noise"}, "kind='noise'"), ({"direction": "up"}, "direction='up'")])
def test_unknown_wishes_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        recommended(Grid.from_sigma_bar(np.linspace(0.1, 1.0, 9)), **option)


def test_the_coarse_member_is_the_one_with_these_parameters():
    root = np.exp(0.85j * np.pi)
    nodes = [0.1, 0.3, 0.4, 0.9]
    for found, expected in zip(
        formulas.by_name("coarse_belm").weights(nodes),
        formulas.root_placed_belm((root, root.conjugate()), 1.65, 1.4, 3).weights(nodes),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    assert formulas.by_name("corrected(coarse_belm, 0.7, 4)").main.name == "coarse_belm"


@pytest.mark.parametrize("schedule", [Schedule.linear(), Schedule.scaled_linear()])
@pytest.mark.parametrize("steps", [5, 10, 20, 50, 100])
def test_a_member_of_its_own_for_a_lowest_step_that_stands_out(schedule, steps):
    names = {
        spacing: recommended(Grid.from_schedule(schedule, steps, spacing, "smallest")).name
        for spacing in ("leading", "trailing", "linspace", "karras", "log_snr")
    }
    stands_out = {spacing for spacing, name in names.items() if name == "pec_belm(0.82,0.56,(0.32,1),0.38,0.87)"}
    assert stands_out == {"leading", "trailing", "linspace"}
