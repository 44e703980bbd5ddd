"""Local errors of EDICT and McCallum-Foster, and the table of local errors, against marches on problems with known solutions."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import sympy

from vsvf import symbolic
from vsvf.symbolic import table

Slope = Callable[[float, float], float]


def problem(s: float) -> tuple[float, float, float, float]:
    """x = exp(sin s), so that eps(x, s) = x cos s: x, e, J, x''."""
    x = math.exp(math.sin(s))
    return x, x * math.cos(s), math.cos(s), x * (math.cos(s) ** 2 - math.sin(s))


def slope(x: float, s: float) -> float:
    return x * math.cos(s)


def alpha(s: float) -> float:
    return 1.0 / math.sqrt(1.0 + s * s)


def edict(x: float, y: float, s: float, h: float, p: float, rho: float = 1.0) -> tuple[float, float]:
    x1 = x - h * slope(y, s)
    y1 = y - h * slope(rho * x1, s)
    x2 = p * x1 + (1 - p) * y1
    return x2, p * y1 + (1 - p) * x2


def mccallum_foster(y: float, z: float, s: float, h: float, weight: float) -> tuple[float, float]:
    y1 = weight * y + (1 - weight) * z - h * slope(z, s)
    return y1, z - h * slope(y1, s - h)


def states(name: str, h: float) -> dict[str, float]:
    s = 0.7
    x = problem(s)[0]
    if name == "mccallum_foster":
        return dict(zip("YZ", mccallum_foster(x, x, s, h, 0.9)))
    rho = alpha(s - h) / alpha(s) if name == "edict_as_printed" else 1.0
    return dict(zip("XY", edict(x, x, s, h, 0.8, rho)))


@pytest.mark.parametrize("name", ["edict", "edict_as_printed", "mccallum_foster"])
def test_local_errors_are_the_derived_ones(name: str) -> None:
    s = 0.7
    x, e, jacobian, second = problem(s)
    error = symbolic.coupled_error(name)
    place = {"x": x, "e": e, "J": jacobian, "x''": second, "p": 0.8, "l": 0.9, "kappa": s / (1 + s * s), "h_i": 1.0}
    for state, expected in error.errors.items():
        predicted = float(expected.subs({sympy.Symbol(k): v for k, v in place.items()}))
        measured = [(problem(s - h)[0] - states(name, h)[state]) / h**2 for h in (2e-4, 1e-4)]
        assert 2 * measured[1] - measured[0] == pytest.approx(predicted, rel=1e-4)
        assert abs(predicted) > 1e-3


def test_the_two_states_of_edict_settle_at_the_derived_gap() -> None:
    p, h, s = 0.6, 1e-4, 1.0
    x = y = problem(s)[0]
    while s > 0.9:
        x, y = edict(x, y, s, h, p)
        s -= h
    _, e, jacobian, _ = problem(s)
    gap = symbolic.coupled_error("edict").gap
    place = {"p": p, "J": jacobian, "e": e, "h_i": h}
    assert y - x == pytest.approx(float(gap.subs({sympy.Symbol(k): v for k, v in place.items()})), rel=1e-3)


def test_the_two_states_of_mccallum_foster_settle_at_the_derived_gap() -> None:
    weight, h, s = 0.5, 1e-4, 1.0
    y = z = problem(s)[0]
    while s > 0.9:
        y, z = mccallum_foster(y, z, s, h, weight)
        s -= h
    gap = symbolic.coupled_error("mccallum_foster").gap
    place = {"l": weight, "x''": problem(s)[3], "h_i": h}
    assert y - z == pytest.approx(float(gap.subs({sympy.Symbol(k): v for k, v in place.items()})), rel=2e-3)


def test_edict_is_one_power_better_than_its_printed_bound() -> None:
    lines = {line.method: line for line in table.local_errors()}
    for state in "XY":
        line = lines[f"edict, state {state}"]
        assert (line.printed_power, line.power, line.agrees) == (1, 2, False)
    alpha_i = sympy.Symbol("alpha_{i-1}")
    h, e, jacobian, second, p = (sympy.Symbol(n) for n in ("h_i", "e", "J", "x''", "p"))
    expected = alpha_i * h**2 * (second / 2 - (1 - p) * jacobian * e)
    assert sympy.expand(lines["edict, state X"].coefficient - expected) == 0


def test_table_has_the_printed_powers_where_it_agrees() -> None:
    lines = {line.method: line for line in table.local_errors()}
    assert [(lines[m].power, lines[m].agrees) for m in ("ddim", "bdia", "belm(2)")] == [(2, True), (2, True), (3, True)]
    a, h0, h1 = (sympy.Symbol(n) for n in ("alpha_{i-1}", "h_i", "h_{i+1}"))
    later, gamma = sympy.Symbol("alpha_{i+1}"), sympy.Symbol("gamma")
    assert sympy.expand(lines["ddim"].coefficient - a * h0**2 / 2) == 0
    assert sympy.expand(lines["bdia"].coefficient - (a * h0**2 - gamma * later * h1**2) / 2) == 0
    assert sympy.expand(lines["belm(2)"].coefficient + a * h0**2 * (h0 + h1) / 6) == 0
    text = table.text()
    assert text.count("agrees") == 3 + text.count("disagrees") and "disagrees" in text
