"""The derivation itself: conditions that vanish symbolically, residuals, uniform limits, two routes to one formula."""

from __future__ import annotations

import time
from math import factorial

import pytest
import sympy
from sympy import Integer, Mul, Rational, Symbol

from vsvf import symbolic
from vsvf.symbolic import Pattern, conditions, hermite, patterns, symbols
from vsvf.symbolic.rational import Field

H = [symbols.h(j) for j in range(8)]


def reduced(expression: sympy.Expr, k: int) -> sympy.Expr:
    field = Field([expression], k)
    return field.expr(field.element(expression))


def uniform(d: symbolic.Derivation) -> tuple[list, list]:
    place = dict.fromkeys(H, Symbol("h"))
    return [sympy.cancel(e.subs(place)) for e in d.a], [sympy.cancel(e.subs(place)) for e in d.b]


def test_k3_satisfies_its_conditions_identically() -> None:
    d = symbolic.derive(steps=3)
    for n in range(5):
        assert sympy.cancel(conditions.taylor(d.a, d.b, n)) == 0
    assert d.order == 4 and d.free == () and d.parameters == ()


def test_k3_residual_of_sigma_bar_to_the_fifth() -> None:
    h0, h1, h2 = H[:3]
    d = symbolic.derive(steps=3)
    value_minus_formula = 120 * conditions.taylor(d.a, d.b, 5)
    expected = -(h0**2) * (h0 + h1) ** 2 * (h0 + h1 + h2)
    assert sympy.cancel(value_minus_formula - expected) == 0
    assert sympy.expand(120 * d.residual - expected) == 0


def test_k2_is_the_printed_formula() -> None:
    h0, h1 = H[:2]
    d = symbolic.derive(steps=2)
    printed = ((h1**2 - h0**2) / h1**2, h0**2 / h1**2, -(h0 + h1) / h1)
    for derived, expected in zip((*d.a, d.b[1]), printed):
        assert sympy.cancel(derived - expected) == 0
    assert d.b[0] == d.b[2] == 0


@pytest.mark.parametrize(
    ("k", "a", "b"),
    [(2, (0, 1), (-2,)), (3, (-9, 9, 1), (-6, -6)), (4, (-28, 0, 28, 1), (-12, -36, -12))],
)
def test_uniform_limits(k: int, a: tuple, b: tuple) -> None:
    got_a, got_b = uniform(symbolic.derive(steps=k))
    assert got_a == list(a)
    assert got_b == [0, *b, 0]


@pytest.mark.parametrize(("k", "largest"), [(3, "9.899"), (4, "27.96"), (5, "56.5")])
def test_largest_root_on_a_uniform_grid(k: int, largest: str) -> None:
    a, _ = uniform(symbolic.derive(steps=k))
    z = Symbol("z")
    rho = sympy.Poly(z**k - sum(w * z ** (k - j) for j, w in enumerate(a, start=1)), z)
    modulus = max(abs(root) for root in rho.nroots(n=30))
    digits = len(largest.split(".")[1])
    assert round(float(modulus), digits) == float(largest)


@pytest.mark.parametrize("k", [2, 3, 4, 5, 6])
def test_oldest_weight_and_residual_match_the_closed_forms(k: int) -> None:
    d = symbolic.derive(steps=k)
    s = [symbols.distance(j) for j in range(k + 1)]
    weight = Mul(*(((s[0] - s[m]) / (s[k] - s[m])) ** 2 for m in range(1, k)))
    residual = (s[0] - s[k]) * Mul(*((s[0] - s[m]) ** 2 for m in range(1, k))) / factorial(2 * k - 1)
    assert reduced(d.a[-1] - weight, k) == 0
    assert reduced(d.residual - residual, k) == 0
    assert d.order == 2 * k - 2


THREE_ROOTS = patterns.root_placed(["-sqrt(2)", "-1"])  # e^{±3 pi i/4} beside 1


@pytest.mark.parametrize("name", ["belm(2)", "belm(3)", "adams_bashforth(3)", "adams_moulton(3)", "bdf(3)", THREE_ROOTS])
def test_elimination_and_closed_form_give_the_same(name: str | Pattern) -> None:
    first = symbolic.derive(name, method="elimination")
    second = symbolic.derive(name, method="closed")
    for one, other in zip((*first.a, *first.b, first.residual), (*second.a, *second.b, second.residual)):
        assert Field([one, other], first.steps).vanishes(one - other)
    assert first.order == second.order


def test_elimination_and_closed_form_give_the_same_four_steps() -> None:
    test_elimination_and_closed_form_give_the_same("belm(4)")


@pytest.mark.parametrize("k", [2, 3, 4, 5, 6])
def test_the_proof_of_the_closed_form(k: int) -> None:
    assert hermite.prove(k) == {"degrees": True, "values": True, "slopes": True, "coefficients": True}


def test_the_proof_notices_a_wrong_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hermite, "_multiplicity", lambda k, m: 2)
    assert not hermite.prove(3)["degrees"]


@pytest.mark.parametrize("name", ["belm(2)", "belm(4)", "adams_bashforth(4)", "adams_moulton(3)", "bdf(4)", "bdia", "ddim"])
def test_conditions_vanish_identically(name: str) -> None:
    checked = symbolic.derive(name).checked()
    assert len(checked) >= 2
    assert all(value == 0 for value in checked)


def test_checked_notices_a_wrong_coefficient() -> None:
    from dataclasses import replace

    d = symbolic.derive(steps=2)
    assert any(v != 0 for v in replace(d, a=(d.a[0] + Rational(1, 100), d.a[1])).checked())


@pytest.mark.parametrize("k", [5, 6])
@pytest.mark.parametrize("family", ["belm", "adams_bashforth", "adams_moulton", "bdf"])
def test_large_k_in_exact_rational_numbers(family: str, k: int) -> None:
    d = symbolic.derive(f"{family}({k})")
    for trial in range(3):
        place = {H[j]: Rational(3 + 5 * j + trial**2, 2 + (j * (trial + 2)) % 7) for j in range(k)}
        a, b = [e.subs(place) for e in d.a], [e.subs(place) for e in d.b]
        for n in range(d.order + 1):
            assert conditions.taylor(a, b, n).subs(place) == 0
        leading = conditions.taylor(a, b, d.order + 1).subs(place)
        assert leading == d.residual.subs(place) != 0


def test_six_steps_within_a_minute() -> None:
    from vsvf.symbolic import derivation

    derivation._derive.cache_clear()
    start = time.process_time()
    d = symbolic.derive(steps=6)
    str(d), d.latex(), d.python()
    assert time.process_time() - start < 60.0


def test_error_constants_of_the_literature() -> None:
    place = dict.fromkeys(H, Integer(1))  # Hairer, Nørsett & Wanner, table III.1.1; slopes here point against the march
    for name, constant in [
        ("ddim", Rational(1, 2)),
        ("adams_bashforth(2)", Rational(5, 12)),
        ("adams_bashforth(3)", Rational(3, 8)),
        ("adams_bashforth(4)", Rational(251, 720)),
        ("adams_moulton(1)", Rational(-1, 12)),
        ("adams_moulton(2)", Rational(-1, 24)),
        ("bdf(1)", Rational(-1, 2)),
        ("bdf(2)", Rational(-2, 9)),
        ("bdf(3)", Rational(-3, 22)),
    ]:
        d = symbolic.derive(name)
        assert (-1) ** (d.order + 1) * d.residual.subs(place) == constant, name


def test_root_placement_has_the_placed_roots() -> None:
    d = symbolic.derive("stable_belm(4)")
    a, _ = uniform(d)
    z = Symbol("z")
    rho = z**4 - sum(w * z ** (4 - j) for j, w in enumerate(a, start=1))
    assert sympy.expand(rho - (z - 1) * (z + 1) * (z**2 - z + 1)) == 0
    assert d.order == 3 and d.residual.subs(dict.fromkeys(H, Integer(1))) == 0  # one order more on uniform grids


def test_free_parameters_stay_and_enter_the_error() -> None:
    d = symbolic.derive(symbolic.Pattern(2, ("a1", "a2", "b1"), conditions=2))
    a2 = symbols.a(2)
    assert d.free == (a2,) and d.order == 1
    assert sympy.expand(d.residual - (H[0] ** 2 - a2 * H[1] ** 2) / 2) == 0
    best = d.substitute(a2=H[0] ** 2 / H[1] ** 2)
    assert best.order == 2
    assert sympy.cancel(best.b[1] - symbolic.derive(steps=2).b[1]) == 0
    assert "vanishes to this order where a_2 = h_i^2/h_{i+1}^2" in str(d)


def test_a_formula_nobody_has_named() -> None:
    pattern = symbolic.Pattern(3, ("a1", "a3", "b1", "b2"))
    d = symbolic.derive(pattern)
    assert d.order == 3 and d.a[1] == 0 and all(v == 0 for v in d.checked())


def test_expand_finds_the_order_of_a_given_row() -> None:
    leapfrog = symbolic.expand([0, 1], [0, "-(h0 + h1)/h0", 0])
    assert leapfrog.order == 1
    assert sympy.expand(leapfrog.residual - (H[0] ** 2 - H[1] ** 2) / 2) == 0
    with pytest.raises(ValueError, match="not consistent"):
        symbolic.expand(["1/2"], [0, -1])


def test_results_are_kept_in_memory() -> None:
    from vsvf.symbolic import derivation

    derivation._derive.cache_clear()
    first = symbolic.derive(steps=3)
    assert symbolic.derive("belm(3)") is first
    assert symbolic.derive(patterns.belm(3)) is first
    assert derivation._derive.cache_info().hits >= 2
    assert symbolic.derive(steps=3, method="closed") is not first
