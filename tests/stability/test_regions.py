"""Uniform-grid roots, linear stability regions and weak instability, each against numbers from the literature."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from vsvf import formulas
from vsvf.formulas.root_placed import roots_at
from vsvf.stability.regions import (
    boundary_locus,
    geometric_threshold,
    imaginary_interval,
    real_interval,
    root_condition,
    root_growth,
    spurious_growth,
    spurious_roots,
    stability_modulus,
    step_matrix,
    weak_instability,
)


@pytest.mark.parametrize("k, largest", [(3, 9.899), (4, 27.96), (5, 56.5)])
def test_lte_minimising_belm_is_not_zero_stable_beyond_two_steps(k: int, largest: float) -> None:
    formula = formulas.belm(k)
    assert abs(np.abs(spurious_roots(formula)).max() - largest) < 0.5 * 10.0 ** -(len(str(largest).split(".")[1]))
    assert root_condition(formula) == (False, False)


def test_three_step_roots_in_closed_form() -> None:
    # rho = z^3 + 9 z^2 - 9 z - 1 = (z - 1)(z^2 + 10 z + 1)
    np.testing.assert_allclose(spurious_roots(formulas.belm(3)), [-5 - np.sqrt(24), -5 + np.sqrt(24)], rtol=1e-9)


def lte_minimising_rho(k: int, r: sp.Symbol) -> sp.Expr:
    """rho(-1) of Hermite extrapolation on nodes of ratio r, from the monomials' equations."""
    s = [sp.Integer(0)]
    for j in range(1, k + 1):
        s.append(s[-1] + r ** (k - j))
    unknowns = sp.symbols(f"a1:{k + 1} c1:{k}")
    a, c = unknowns[:k], unknowns[k:]
    equations = []
    for degree in range(2 * k - 1):
        row = -(sp.Integer(0) ** degree)
        row += sum(a[j - 1] * s[j] ** degree for j in range(1, k + 1))
        row += sum(c[j - 1] * degree * s[j] ** (degree - 1) for j in range(1, k)) if degree else 0
        equations.append(row)
    solution = sp.solve(equations, unknowns, dict=True)[0]
    return sp.numer(sp.together((-1) ** k - sum(solution[a[j - 1]] * (-1) ** (k - j) for j in range(1, k + 1))))


def test_geometric_threshold_for_three_steps_to_three_digits_and_beyond() -> None:
    r = sp.symbols("r", positive=True)
    polynomial = sp.Poly(lte_minimising_rho(3, r), r)
    exact = [float(root) for root in sp.real_roots(polynomial) if 0.2 < float(root) < 1.0]
    assert len(exact) == 1 and round(exact[0], 4) == 0.4354
    assert abs(geometric_threshold(formulas.belm(3)) - exact[0]) < 1e-8


def test_geometric_threshold_elsewhere() -> None:
    assert abs(geometric_threshold(formulas.belm(4)) - (3.0 - np.sqrt(5.0)) / 2.0) < 1e-8
    assert geometric_threshold(formulas.belm(2)) == 1.0
    assert geometric_threshold(formulas.stable_belm(4)) == 1.0
    with pytest.raises(ValueError, match="unstable at the step ratio"):
        geometric_threshold(formulas.belm(3), low=0.5)


@pytest.mark.parametrize("k", range(1, 9))
def test_bdf_is_zero_stable_up_to_six_steps(k: int) -> None:
    assert root_condition(formulas.bdf(k))[0] == (k <= 6)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("ddim", (True, True)),
        ("adams_bashforth(4)", (True, False)),
        ("adams_moulton(1)", (True, True)),
        ("bdia(1)", (True, True)),
        ("bdia(0.5)", (True, False)),
        ("bdia(0)", (True, False)),  # DDIM written with two states: a_2 = 0
        ("edict(1)", (True, True)),
        ("edict(0.93)", (True, False)),
        ("mccallum_foster(1)", (True, True)),
        ("mccallum_foster(0.999)", (True, False)),
        ("stable_belm(6)", (True, True)),
        ("root_placed_belm((-0.999,), 0)", (True, False)),
    ],
)
def test_root_condition_in_both_directions(name: str, expected: tuple[bool, bool]) -> None:
    assert root_condition(formulas.by_name(name)) == expected


@pytest.mark.parametrize("p", [0.5, 0.93, 1.0])
def test_roots_of_the_coupled_methods(p: float) -> None:
    np.testing.assert_allclose(spurious_roots(formulas.edict(p)), [p**2], rtol=1e-12)
    np.testing.assert_allclose(spurious_roots(formulas.mccallum_foster(p)), [p], rtol=1e-12)
    np.testing.assert_allclose(spurious_roots(formulas.bdia(p)), [-p], rtol=1e-12)


def test_root_placed_roots_are_where_they_were_put() -> None:
    roots = np.concatenate([roots_at((0.3, 1.0)), roots_at((0.7,), 0.5)])
    found = spurious_roots(formulas.root_placed_belm(roots, 1.0))
    for root in roots:
        assert np.abs(found - root).min() < 1e-12


# Hairer & Wanner II, V.1, and Lambert, Numerical Methods for ODE systems, 3.8: intervals of absolute stability
@pytest.mark.parametrize(
    "name, interval",
    [
        ("ddim", 2.0),
        ("adams_bashforth(2)", 1.0),
        ("adams_bashforth(3)", 6 / 11),
        ("adams_bashforth(4)", 3 / 10),
        ("adams_bashforth(5)", 90 / 551),
        ("adams_bashforth(6)", 5 / 57),
        ("adams_moulton(2)", 6.0),
        ("adams_moulton(3)", 3.0),
        ("adams_moulton(4)", 90 / 49),
        ("adams_moulton(1)", np.inf),
        ("bdf(2)", np.inf),
        ("bdf(6)", np.inf),
        ("dpm_solver_pp(2)", 1.0),
        ("belm(2)", 0.0),
        ("edict(1)", 0.0),
    ],
)
def test_real_intervals(name: str, interval: float) -> None:
    assert real_interval(formulas.by_name(name)) == pytest.approx(interval, abs=1e-8, rel=1e-8)


# leapfrog: [-1, 1]; Durran, Mon. Wea. Rev. 119 (1991): AB3 0.72, AB4 0.43, AB2 none
@pytest.mark.parametrize(
    "name, interval",
    [
        ("root_placed_belm((-1,), 0)", 1.0),
        ("belm(2)", 1.0),
        ("bdia(1)", 1.0),
        ("edict(1)", 2.0),
        ("ddim", 0.0),
        ("adams_bashforth(2)", 0.0),
        ("adams_bashforth(3)", 12 / (5 * np.sqrt(11))),
        ("adams_bashforth(4)", 0.43),
        ("adams_moulton(1)", np.inf),
        ("bdf(2)", np.inf),
        ("bdf(3)", 0.0),
    ],
)
def test_imaginary_intervals(name: str, interval: float) -> None:
    tolerance = 5e-5 if name == "adams_bashforth(4)" else 1e-7
    assert imaginary_interval(formulas.by_name(name)) == pytest.approx(interval, abs=tolerance)


@pytest.mark.parametrize("name", ["adams_bashforth(3)", "bdf(3)", "stable_belm(4)"])
def test_on_the_boundary_locus_some_root_has_modulus_one(name: str) -> None:
    formula = formulas.by_name(name)
    for w in boundary_locus(formula, 24):
        moduli = np.abs(np.linalg.eigvals(step_matrix(formula, w)))
        assert np.abs(moduli - 1.0).min() < 1e-6


def test_forward_euler_is_the_disc() -> None:
    w = -1.0 + np.array([0.999, 1.001])[:, None] * np.exp(1j * np.linspace(0.0, 6.0, 7))
    modulus = stability_modulus(formulas.ddim(), w)
    assert np.all(modulus[0] < 1.0) and np.all(modulus[1] > 1.0)
    with pytest.raises(ValueError, match="rows per step"):
        boundary_locus(formulas.edict(0.93))


@pytest.mark.parametrize("name", formulas.METHODS)
def test_the_principal_root_follows_the_solution(name: str) -> None:
    roots, mu = root_growth(formulas.by_name(name))
    assert abs(roots[0] - 1.0) < 1e-8 and abs(mu[0] - 1.0) < 1e-6


@pytest.mark.parametrize("name", ["stable_belm(4)", "bdf(3)", "edict(0.93)", "root_placed_belm((-1,), 0)"])
@pytest.mark.parametrize("w", [-1e-5, 1e-5j, 1e-5 * (1 + 1j)])
def test_mu_is_the_first_order_motion_of_each_root(name: str, w: complex) -> None:
    formula = formulas.by_name(name)
    moved = np.linalg.eigvals(step_matrix(formula, w))
    for root, mu in zip(*root_growth(formula)):
        assert np.abs(moved - root * (1.0 + mu * w)).min() < 2e-9


@pytest.mark.parametrize("integral", [-3.0, 2.0j, -1.0 + 2.0j])
@pytest.mark.parametrize("name", ["root_placed_belm((-1,), 0)", "stable_belm(3)", "stable_belm(5)"])
def test_spurious_modes_grow_as_mu_says_for_real_and_complex_lambda(name: str, integral: complex) -> None:
    formula = formulas.by_name(name)
    steps = 4000
    moved = np.linalg.eigvals(step_matrix(formula, integral / steps))
    moved = np.delete(moved, np.argmin(np.abs(moved - 1.0)))
    expected = np.sort(spurious_growth(formula, integral))
    np.testing.assert_allclose(np.sort(np.abs(moved) ** steps), expected, rtol=5e-3)


def test_weak_instability() -> None:
    # leapfrog's parasitic root is -(1 - w): Dahlquist's weak instability, mu = -1
    for name in ("belm(2)", "bdia(1)", "root_placed_belm((-1,), 0)", "edict(1)", "mccallum_foster(1)"):
        assert weak_instability(formulas.by_name(name)) == pytest.approx(1.0)
    assert weak_instability(formulas.adams_bashforth(3)) == 0.0
    assert weak_instability(formulas.stable_belm(4)) == pytest.approx(11 / 9)


def test_mu_of_the_four_step_member_from_sympy() -> None:
    z = sp.symbols("z")
    rho = sp.expand((z - 1) * (z + 1) * (z**2 - z + 1))
    b = sp.symbols("b1:4")
    t = [3, 2, 1]  # nodes of the slopes, the new state at 4
    coefficients = sp.Poly(rho, z).all_coeffs()
    equations = []
    for d in (1, 2, 3):
        states = sum(coefficients[j] * sp.Integer(4 - j) ** d for j in range(5))
        equations.append(states - sum(b[j] * d * sp.Integer(t[j]) ** (d - 1) for j in range(3)))
    weights = sp.solve(equations, b)
    sigma = sum(weights[b[j]] * z ** t[j] for j in range(3))
    mu = (sigma / (z * sp.diff(rho, z))).subs(z, -1)
    assert sp.nsimplify(mu) == -sp.Rational(11, 9)
