"""The stability report, its verdicts on all methods, and what happens as grids are refined."""

from __future__ import annotations

import time

import numpy as np
import pytest

from vsvf import formulas
from vsvf.grid import Grid
from vsvf.schedule import Schedule
from vsvf.stability.grids import GridFamily, alternating, families, karras, random_smooth, uniform, uniform_time
from vsvf.stability.report import Verdict, refine, stability

DDPM = uniform_time(Schedule.linear())
SD = uniform_time(Schedule.scaled_linear())


def test_o_belm_damps_along_sampling_and_amplifies_along_inversion_by_the_squared_step_ratio() -> None:
    grid = DDPM(50)
    report = stability(formulas.belm(2), grid)
    ratio = (grid.h.max() / grid.h[0]) ** 2
    assert report.verdict is Verdict.BOTH
    assert report.k_sampling < 2.0
    assert 0.5 * ratio < report.k_inversion < 1.5 * ratio
    assert report.sentence == "sampling is safe; inverting amplifies rounding by 2.4e+05"
    np.testing.assert_allclose(report.volume_sampling, (grid.h[0] / grid.h[-1]) ** 2, rtol=1e-12)
    assert report.volume_defect < 1e-12


@pytest.mark.parametrize(
    "name, family, sampling, inversion",
    [  # published with the definition of the family: k = 2 closed forms, k = 3 and 4 at N = 500
        ("belm(2)", DDPM, None, 2.4e5),
        ("belm(2)", SD, None, 1.6e3),
        ("root_placed_belm((-0.5+0.8660254037844386j, -0.5-0.8660254037844386j), 1)", SD, None, 52.0),
        ("root_placed_belm((-0.5+0.8660254037844386j, -0.5-0.8660254037844386j), 1)", DDPM, None, 650.0),
        ("root_placed_belm((-1, 0.5+0.8660254037844386j, 0.5-0.8660254037844386j), 1)", SD, None, 78.0),
        ("root_placed_belm((-1, 0.5+0.8660254037844386j, 0.5-0.8660254037844386j), 1)", DDPM, 3.7, 980.0),
    ],
)
def test_reference_values_of_k(name: str, family: GridFamily, sampling: float | None, inversion: float) -> None:
    report = stability(formulas.by_name(name), family(500))
    assert report.k_inversion == pytest.approx(inversion, rel=0.06)
    assert sampling is None or report.k_sampling == pytest.approx(sampling, rel=0.1)


def test_reference_values_of_k_along_sampling_on_table_timesteps() -> None:
    for schedule, three, two in ((Schedule.scaled_linear(), 16.0, 150.0), (Schedule.linear(), 3.5, 8.9)):
        grid = Grid.from_schedule(schedule, 500, "trailing", "zero")
        roots = [np.exp(2j * np.pi / 3), np.exp(-2j * np.pi / 3)]
        assert stability(formulas.root_placed_belm(roots), grid).k_sampling == pytest.approx(three, rel=0.03)
        assert stability(formulas.belm(2), grid).k_sampling == pytest.approx(two, rel=0.03)


@pytest.mark.parametrize(
    "name, verdict",
    [
        ("ddim", Verdict.BOTH),
        ("bdia(1)", Verdict.BOTH),
        ("bdia(0.5)", Verdict.SAMPLING),
        ("edict(0.93)", Verdict.SAMPLING),
        ("edict(1)", Verdict.BOTH),
        ("mccallum_foster(0.999)", Verdict.SAMPLING),
        ("mccallum_foster(1)", Verdict.BOTH),
        ("belm(3)", Verdict.NEITHER),
        ("bdf(3)", Verdict.SAMPLING),
        ("adams_bashforth(3)", Verdict.SAMPLING),
        ("stable_belm(3)", Verdict.BOTH),
    ],
)
def test_verdicts(name: str, verdict: Verdict) -> None:
    assert stability(formulas.by_name(name), DDPM(20)).verdict is verdict


def test_methods_without_an_exact_inverse_say_so() -> None:
    report = stability(formulas.adams_bashforth(2), DDPM(20))
    assert report.k_inversion == np.inf and report.inversion == "none" and "no exact inversion" in report.sentence
    ddim = stability(formulas.ddim(), DDPM(20))
    assert ddim.inversion == "implicit" and ddim.k_inversion == 1.0 and "implicit equation" in ddim.sentence
    assert stability(formulas.belm(2), DDPM(20)).inversion == "explicit"


def test_three_step_belm_is_reported_as_exploding_with_numbers_beyond_float64() -> None:
    report = stability(formulas.belm(3), DDPM(1000))
    assert 900 < report.log10_k_sampling < 1000 and report.k_sampling == np.inf
    assert "blows up" in report.sentence and report.unsafe("sampling") and report.unsafe("inversion")
    assert report.volume_defect < 1e-8 * abs(report.log10_k_sampling)


def test_warnings_are_for_formulas_that_are_unstable_and_already_large() -> None:
    assert not stability(formulas.edict(0.93), DDPM(10)).unsafe("inversion")
    assert stability(formulas.edict(0.93), DDPM(100)).unsafe("inversion")
    assert not stability(formulas.belm(2), DDPM(100)).unsafe("inversion")  # large, but zero-stable
    with pytest.raises(ValueError, match="direction"):
        stability(formulas.belm(2), DDPM(10)).unsafe("both")


def test_runs_in_seconds_at_a_thousand_steps() -> None:
    start = time.perf_counter()
    for name in ("belm(2)", "stable_belm(6)", "edict(0.93)"):
        stability(formulas.by_name(name), DDPM(1000))
    assert time.perf_counter() - start < 10.0


# ---- refinement --------------------------------------------------------------------------------------------

FAMILIES = families() | {"random smooth (2)": random_smooth(2), "random smooth (3)": random_smooth(3)}


@pytest.mark.parametrize("k", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_stable_members_stay_bounded_in_both_directions_up_to_a_thousand_steps(k: int, family: GridFamily) -> None:
    found = refine(formulas.stable_belm(k), family, (60, 125, 250, 500, 1000))
    assert found.sampling.kind == "bounded" and found.inversion.kind == "bounded"
    for growth in (found.sampling, found.inversion):
        assert growth.log10_k[-1] - growth.log10_k[-2] < np.log10(1.15)


def test_stable_members_on_thousand_step_tables() -> None:
    for schedule in (Schedule.scaled_linear(), Schedule.linear()):
        grid = Grid.from_schedule(schedule, 1000, "leading", "zero")
        for k in (2, 3, 4, 5, 6):
            report = stability(formulas.stable_belm(k), grid)
            assert report.k_sampling < 100.0 and report.k_inversion < 1600.0


@pytest.mark.parametrize(
    "name, sampling, inversion, base",
    [
        ("belm(2)", "bounded", "bounded", None),
        ("bdia(1)", "bounded", "bounded", None),
        ("bdia(0.5)", "bounded", "exploding", 2.0),
        ("edict(0.93)", "bounded", "exploding", 0.93**-2),
        ("edict(1)", "bounded", "bounded", None),
        ("mccallum_foster(0.99)", "bounded", "exploding", 1.0 / 0.99),
        ("belm(3)", "exploding", "exploding", 5.0 + np.sqrt(24.0)),
        ("adams_bashforth(3)", "bounded", "none", None),
    ],
)
def test_growth_under_refinement(name: str, sampling: str, inversion: str, base: float | None) -> None:
    found = refine(formulas.by_name(name), DDPM, (50, 100, 200, 400, 800))
    assert (found.sampling.kind, found.inversion.kind) == (sampling, inversion)
    if base is not None:
        assert found.inversion.base == pytest.approx(base, rel=0.01)


def test_bdf7_explodes_and_bdf6_does_not() -> None:
    assert refine(formulas.bdf(6), uniform(), (50, 100, 200, 400, 800)).sampling.kind == "bounded"
    assert refine(formulas.bdf(7), uniform(), (50, 100, 200, 400, 800)).sampling.kind == "exploding"


def test_bounded_variation_is_needed_alternating_steps_make_k_grow_like_n() -> None:
    for name in ("belm(2)", "stable_belm(2)", "stable_belm(4)"):
        found = refine(formulas.by_name(name), alternating())
        assert found.sampling.kind == found.inversion.kind == "power"
        assert abs(found.sampling.exponent - 1.0) < 0.05 and abs(found.inversion.exponent - 1.0) < 0.05
    midpoint = refine(formulas.root_placed_belm([-1], 0), alternating())
    assert midpoint.sampling.kind == midpoint.inversion.kind == "bounded"


def test_edict_with_p_tending_to_one_like_one_over_n_is_bounded() -> None:
    k = [stability(formulas.edict(1.0 - 2.0 / n), karras()(n)).k_inversion for n in (100, 200, 400)]
    assert max(k) < 2.0 * np.exp(4.0) and abs(k[2] / k[1] - 1.0) < 0.05


def test_refine_wants_increasing_steps() -> None:
    with pytest.raises(ValueError, match="increasing"):
        refine(formulas.ddim(), DDPM, (10, 20, 20, 40))
