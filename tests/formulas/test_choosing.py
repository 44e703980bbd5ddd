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

    row = formulas.power_fitted_belm(0.95, 0.877, 0.94, 0.52)
    assert name("leading", direction="sampling") == formulas.corrected(row, 0.6, 2.0).name
    assert name("leading") == "corrected(coarse_belm,0.7,4)"
    assert name("leading", direction="inversion") == "coarse_belm"
    assert name("leading", "zero") == "stable_belm(3)"
    assert name("log_snr") == name("karras", kind="sample") == formulas.power_fitted_belm(0.7, (0.29, 0.86), 1.43, 1.06).name
    assert name("log_snr", direction="sampling") == formulas.power_fitted_belm(0.9, (0.42, 0.79), 0.65, 1.09).name
    assert name("log_snr", direction="inversion") == formulas.power_fitted_belm(0.7, 7 / 8, 2.0, 0.75).name


@pytest.mark.parametrize(
    ("option", "message"),
    [({"kind": "noise"}, "kind='noise'"), ({"direction": "up"}, "direction='up'"), ({"guidance": "high"}, "guidance must be")],
)
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
def test_a_corrector_row_is_for_a_lowest_step_that_stands_out(schedule, steps):
    """On 5 or 10 Karras or log-SNR nodes all steps are long: there a corrector row samples up to five times worse."""
    for spacing in ("leading", "trailing", "linspace", "karras", "log_snr"):
        grid = Grid.from_schedule(schedule, steps, spacing, "smallest")
        stands_out = spacing in ("leading", "trailing", "linspace")
        assert recommended(grid).name.startswith("corrected") == stands_out
        assert recommended(grid, direction="sampling").name.startswith("corrected") == stands_out


@pytest.mark.parametrize("steps", [10, 20, 50])
def test_strong_guidance_on_uneven_nodes_has_a_formula_of_its_own(steps):
    for schedule in (Schedule.linear(), Schedule.scaled_linear()):
        for spacing in ("leading", "trailing", "linspace", "karras", "log_snr"):
            grid = Grid.from_schedule(schedule, steps, spacing, "smallest")
            for direction in ("sampling", "inversion", "both"):
                name = recommended(grid, direction=direction, guidance=7.5).name
                assert (name == formulas.pec_belm().name) == (spacing != "log_snr")
                assert recommended(grid, direction=direction, guidance=3.0).name == recommended(grid, direction=direction).name
    assert recommended(Grid.from_schedule(Schedule.linear(), steps, "leading", "zero"), guidance=7.5).name == "stable_belm(3)"
