"""Root-placed BELM: its definition solved in 40 digits, its special cases, its order, its names and its refusals."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsvf import formulas
from vsvf.formula import LinearMultistep
from vsvf.formulas.root_placed import roots_at
from vsvf.grid import Grid
from vsvf.schedule import Schedule
from vsvf.stability.growth import homogeneous_rows

MEMBERS = {  # angles, exponent, mode_rho, slope_rho
    "midpoint": ((1.0,), 0.0, 1.0, 1),
    "k2": ((1.0,), 1.0, 1.0, 1),
    "k2 stretched": ((1.0,), 1.5, 2.0, 3),
    "k3": ((2 / 3,), 1.0, 1.0, 1),
    "k3 default": ((3 / 4,), 1.0, 1.0, 3),
    "k3 coarse": ((17 / 20,), 1.65, 1.4, 3),
    "k4": ((1 / 3, 1.0), 1.0, 1.0, 1),
    "k4 stretched": ((1 / 3, 1.0), 0.5, 1.7, 2),
    "k5": ((1 / 3, 5 / 6), 0.75, 1.0, 1),
    "k5 stretched": ((1 / 3, 2 / 3), 0.75, 1.2, 5),
    "k6": ((1 / 6, 5 / 12, 1.0), 1.5, 1.0, 1),
}

THOUSAND_STEPS = {
    "SD leading": Grid.from_schedule(Schedule.scaled_linear(), 1000, "leading", "zero"),
    "DDPM leading": Grid.from_schedule(Schedule.linear(), 1000, "leading", "zero"),
    "cosine leading": Grid.from_schedule(Schedule.cosine(), 990, "leading", "zero"),
    "EDM karras": Grid.from_schedule(Schedule.edm(), 1000, "karras", "zero"),
    "flow log-SNR": Grid.from_schedule(Schedule.rectified_flow(), 1000, "log_snr", "smallest"),
}


def by_definition(
    nodes: np.ndarray, roots: np.ndarray, exponent: float, mode_rho: float, slope_rho: int, first: int
) -> tuple[list, list]:
    """a and c from the linear systems that define them, in mpmath; the march's step number starts at `first`."""
    k = len(nodes) - 1
    s = [mp.mpf(float(v)) for v in nodes]
    # states u_0 (newest) … u_k (oldest) of the constant and of the modes
    sequences = [[mp.mpf(1)] * (k + 1)]
    for root in roots:
        zeta = mp.mpc(root)
        zeta /= abs(zeta) if abs(abs(root) - 1.0) < 1e-9 else 1
        u = [mp.mpf(0)]
        power = 1 / mp.mpf(mode_rho)
        for n, j in enumerate(range(k, 0, -1)):
            u.append(u[-1] + zeta ** (first + n) * (s[j] ** power - s[j - 1] ** power) ** mp.mpf(exponent))
        sequences.append(u[::-1])
    a = mp.lu_solve(mp.matrix([u[1:] for u in sequences]), mp.matrix([u[0] for u in sequences]))
    a = [mp.re(v) for v in a]
    conditions = mp.matrix(k - 1, k - 1)
    right = mp.matrix(k - 1, 1)
    for d in range(k - 1):  # the slope u^d, u = s^{1/rho}, and its integral
        power = mp.mpf(d) / slope_rho
        for j in range(1, k):
            conditions[d, j - 1] = s[j] ** power if d else mp.mpf(1)
        total = [v ** (1 + power) / (1 + power) for v in s]
        right[d] = total[0] - sum(a[j - 1] * total[j] for j in range(1, k + 1))
    return a, list(mp.lu_solve(conditions, right))


@pytest.mark.parametrize("grid", THOUSAND_STEPS.values(), ids=THOUSAND_STEPS.keys())
@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS.keys())
def test_coefficients_agree_with_their_definition_in_60_digits(member: tuple, grid: Grid) -> None:
    angles, *rest = member
    roots = roots_at(angles)
    formula = formulas.root_placed_belm(roots, *rest)
    k = formula.steps
    with mp.workdps(60):
        for start in (0, 1, 2, 331, grid.steps - k):
            nodes = grid.sigma_bar[start : start + k + 1]
            a, c = formula.weights(nodes)
            exact_a, exact_c = by_definition(nodes, roots, *rest, first=start % 7)
            exact_a, exact_c = np.array(exact_a, dtype=float), np.array(exact_c, dtype=float)
            assert np.abs(a - exact_a).max() < 1e-12 * np.abs(exact_a).max()
            assert np.abs(c[1:-1] - exact_c).max() < 1e-12 * np.abs(exact_c).max()
            assert c[0] == 0.0 and c[-1] == 0.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.1, 10.0), min_size=2, max_size=2), st.floats(-1.0, 3.0))
def test_two_steps_and_root_minus_one_is_a_line_between_midpoint_and_belm(steps: list[float], exponent: float) -> None:
    nodes = np.cumsum([0.3, *steps])
    h0, h1 = np.diff(nodes)
    a, c = formulas.root_placed_belm([-1.0], exponent).weights(nodes)
    ratio = (h0 / h1) ** exponent
    np.testing.assert_allclose(a, [1.0 - ratio, ratio], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(c, [0.0, -h0 - ratio * h1, 0.0], rtol=1e-13)


def test_exponent_two_is_o_belm_and_exponent_zero_the_midpoint_rule() -> None:
    windows = np.lib.stride_tricks.sliding_window_view(THOUSAND_STEPS["DDPM leading"].sigma_bar, 3)
    for own, published in zip(formulas.root_placed_belm([-1], 2).weights(windows), formulas.belm(2).weights(windows)):
        np.testing.assert_allclose(own, published, rtol=4e-16, atol=4e-16)
    a, c = formulas.root_placed_belm([-1], 0).weights(windows)
    assert np.all(a == [0.0, 1.0])
    np.testing.assert_allclose(c[:, 1], windows[:, 0] - windows[:, 2], rtol=1e-12)


@pytest.mark.parametrize("k", [2, 4, 5, 6])
def test_exact_for_polynomials_below_degree_k_on_any_grid_and_not_beyond(k: int) -> None:
    rng = np.random.default_rng(k)
    s = np.cumsum(rng.uniform(0.2, 1.0, (200, k + 1)), axis=-1)
    s = (s - s[:, :1]) / (s[:, -1:] - s[:, :1]) * 2.0 - 1.0
    a, c = formulas.stable_belm(k).weights(s)
    for degree in range(k + 1):
        slope = degree * s ** max(degree - 1, 0)
        residual = s[:, 0] ** degree - np.sum(a * s[:, 1:] ** degree, axis=-1) - np.sum(c * slope, axis=-1)
        size = np.abs(a).sum(axis=-1) + np.abs(c).sum(axis=-1)
        if degree < k:
            assert np.max(np.abs(residual) / size) < 1e-14
        else:
            assert np.median(np.abs(residual) / size) > 1e-3


@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS.keys())
def test_exact_for_k_functions_on_any_grid_and_not_beyond(member: tuple) -> None:
    """The constant and the integrals of u^m, m < k - 1, of which only those with m = 0 or rho = 1 are polynomials."""
    angles, exponent, mode_rho, slope_rho = member
    formula = formulas.root_placed_belm(roots_at(angles), exponent, mode_rho, slope_rho)
    k = formula.steps
    s = np.cumsum(np.random.default_rng(k).uniform(0.2, 1.0, (200, k + 1)), axis=-1)
    s = (s - s[:, :1]) / (s[:, -1:] - s[:, :1])  # from 0 to 1
    a, c = formula.weights(s)
    size = np.abs(a).sum(axis=-1) + np.abs(c).sum(axis=-1)
    residuals = [1.0 - a.sum(axis=-1)]
    for m in range(k):
        power = m / slope_rho
        x = s ** (1.0 + power) / (1.0 + power)
        residuals.append(x[:, 0] - np.sum(a * x[:, 1:], axis=-1) - np.sum(c * s**power, axis=-1))
    found = np.abs(np.array(residuals)) / size
    assert np.max(found[:k]) < 1e-14
    assert np.median(found[k]) > 1e-6


def march_error(formula: LinearMultistep, steps: int, direction: str, start: float = 0.0) -> float:
    """Error of y' = y cos s, y = exp(sin s), on the smooth grid s = start + 2 u + 0.15 sin(3 u), from exact states."""
    u = np.linspace(0.0, 2.0, steps + 1)
    plan = formula.plan(Grid.from_sigma_bar(start + 2.0 * u + 0.15 * np.sin(3.0 * u)))
    plan = plan if direction == "sampling" else plan.inverse()
    rows, k = homogeneous_rows(plan, np.cos(plan.node)), plan.steps
    exact = np.exp(np.sin(plan.position))
    z = list(exact[:k])
    for m in range(plan.rows):
        z.append(float(rows[m] @ np.array(z[: -k - 1 : -1])))
    return float(np.abs(np.array(z) - exact).max())


@pytest.mark.parametrize("direction", ["sampling", "inversion"])
@pytest.mark.parametrize("k", [2, 3, 4, 5, 6])
def test_measured_order_on_a_smooth_grid_is_the_claimed_one(k: int, direction: str) -> None:
    formula = formulas.stable_belm(k)
    steps = {2: (400, 800, 1600), 3: (400, 800, 1600), 4: (200, 400, 800), 5: (600, 800, 1200), 6: (300, 400, 600)}[k]
    start = 0.25 if k == 3 else 0.0  # its slopes are in a coordinate: see the next test
    errors = [march_error(formula, n, direction, start) for n in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert formula.order == k - k % 2
    assert abs(slope - formula.order) < 0.1


@pytest.mark.parametrize("direction", ["sampling", "inversion"])
@pytest.mark.parametrize("member", [name for name in MEMBERS if "stretched" in name or "coarse" in name])
def test_coordinates_keep_the_order_away_from_zero(member: str, direction: str) -> None:
    angles, *rest = MEMBERS[member]
    formula = formulas.root_placed_belm(roots_at(angles), *rest)
    steps = {2: (400, 800, 1600), 4: (300, 600, 1200)}[formula.order]
    errors = [march_error(formula, n, direction, 0.25) for n in steps]
    assert formula.order == formula.steps - formula.steps % 2
    assert abs(-np.polyfit(np.log(steps), np.log(errors), 1)[0] - formula.order) < 0.1


def test_slopes_in_a_coordinate_lose_a_logarithm_where_the_grid_goes_down_to_zero() -> None:
    """Order 2 with two slopes in s^{1/3}: the local error h^3/s sums to h^2 log N. Polynomials in s lose nothing."""
    steps = np.array([200, 400, 800, 1600])
    scaled = {}
    for rho in (1, 3):
        formula = formulas.root_placed_belm(roots_at((3 / 4,)), 1.0, 1.0, rho)
        scaled[rho] = steps**2 * np.array([march_error(formula, int(n), "sampling") for n in steps])
    assert np.ptp(scaled[1]) < 0.05 * scaled[1].mean()
    growth = np.diff(scaled[3]) / np.log(2.0)
    assert np.all(growth > 0.1 * scaled[3][0]) and np.ptp(growth) < 0.1 * growth.mean()


def test_damped_members_have_order_k_minus_1_and_say_that_they_are_for_sampling() -> None:
    damped = formulas.root_placed_belm(roots_at((1 / 3, 1.0), 0.5))
    assert damped.order == 3 and "for sampling" in damped.source
    assert "for sampling" not in formulas.stable_belm(4).source
    steps = (200, 400, 800)
    errors = [march_error(damped, n, "sampling") for n in steps]
    assert abs(-np.polyfit(np.log(steps), np.log(errors), 1)[0] - 3.0) < 0.1


@pytest.mark.parametrize("member, modulus", [(m, 1.0) for m in MEMBERS.values()] + [(((0.3, 1.0), 0.5), 0.5)])
def test_names_read_back_to_the_same_formula(member: tuple, modulus: float) -> None:
    angles, *rest = member
    formula = formulas.root_placed_belm(roots_at(angles, modulus), *rest)
    again = formulas.by_name(formula.name)
    grid = Grid.from_sigma_bar(np.geomspace(0.1, 20.0, 12))
    assert again.name == formula.name
    assert again.plan(grid).fingerprint == formula.plan(grid).fingerprint


def test_short_names() -> None:
    assert formulas.by_name("stable_belm(4)").name == "stable_belm(4)"
    assert formulas.by_name("root_placed_belm((-1,), 2)").name == "root_placed_belm((-1,),2)"
    assert formulas.by_name("root_placed_belm((1j, -1j), 1)").steps == 3
    assert formulas.by_name("root_placed_belm((-1,), 2, 1, 3)").name == "root_placed_belm((-1,),2,1,3)"


def test_stable_members_are_bidirectionally_explicit() -> None:
    grid = THOUSAND_STEPS["SD leading"]
    assert all(formulas.stable_belm(k).plan(grid).bidirectionally_explicit for k in range(2, 7))


@pytest.mark.parametrize(
    "roots, message",
    [
        ([], "one or more"),
        ([np.nan], "finite"),
        ([-1.1], "modulus 1.1"),
        ([0.0], r"0 < \|zeta\|"),
        ([1.0], "differ from 1"),
        ([-1.0, -1.0], "distinct"),
        ([1j], "conjugate pairs"),
        ([1j, -0.9j], "conjugate pairs"),
        ([1j, 1j, -1j, -1j], "distinct"),
    ],
)
def test_bad_roots_are_refused(roots: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        formulas.root_placed_belm(roots)


def test_bad_exponents_and_step_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="exponent"):
        formulas.root_placed_belm([-1.0], np.inf)
    for k in (1, 7, 2.0):
        with pytest.raises(ValueError, match="from 2 to 6"):
            formulas.stable_belm(k)
    for rho in (0.5, np.inf, np.nan):
        with pytest.raises(ValueError, match="mode_rho must be a finite number from 1 on"):
            formulas.root_placed_belm([-1.0], 1.0, rho)
    for rho in (0, 1.5, 13):
        with pytest.raises(ValueError, match="slope_rho must be an integer from 1 to 12"):
            formulas.root_placed_belm([-1.0], 1.0, 1.0, rho)
