"""Symbolic coefficients against the numerical ones of `vsvf.formulas`, on random grids, through the generated code."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from vsvf import formulas, symbolic
from vsvf.formula import LinearMultistep
from vsvf.formulas.coupled import Coupled
from vsvf.grid import Grid
from vsvf.symbolic import symbols
from vsvf.symbolic.symbols import code_name

IN_Z = [name for name in formulas.METHODS if name.split("(")[0] in ("power_fitted_belm", "corrected", "pec_belm")]
ROWS = [name for name in formulas.METHODS if isinstance(formulas.by_name(name), LinearMultistep) and name not in IN_Z]
PAIRED = [name for name in formulas.METHODS if name.startswith("unipc")]  # no window of nodes: rows change along the march
COUPLED = [name for name in formulas.METHODS if isinstance(formulas.by_name(name), Coupled)]


@cache
def generated(name: str) -> LinearMultistep:
    return symbolic.known(name).formula()


def test_every_named_method_is_covered() -> None:
    assert len(ROWS) + len(COUPLED) + len(IN_Z) + len(PAIRED) == len(formulas.METHODS)
    assert len(ROWS) >= 19 and len(COUPLED) >= 2


def windows(k: int) -> st.SearchStrategy[np.ndarray]:
    steps = st.lists(st.floats(0.1, 10.0), min_size=k, max_size=k)
    return st.builds(lambda first, h: first + np.r_[0.0, np.cumsum(h)], st.floats(0.1, 10.0), steps)


PLACED = ["root_placed_belm((1j,-1j),1.5,1,2)", "root_placed_belm((-1,),1.5,1,3)", "root_placed_belm((-1,1j,-1j),1,1,3)"]


@pytest.mark.parametrize("name", [*ROWS, *PLACED])
@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data())
def test_symbolic_equals_numeric(name: str, data: st.DataObject) -> None:
    numeric = formulas.by_name(name)
    assert isinstance(numeric, LinearMultistep)
    nodes = data.draw(windows(numeric.steps))
    for got, expected in zip(generated(name).coefficients(nodes), numeric.coefficients(nodes)):
        scale = max(1.0, float(np.max(np.abs(expected))))
        np.testing.assert_allclose(got, expected, rtol=0.0, atol=1e-12 * scale)


@pytest.mark.parametrize("name", COUPLED)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(steps=st.lists(st.floats(0.1, 10.0), min_size=1, max_size=4), value=st.floats(0.05, 0.95))
def test_coupled_rows_equal_the_plan(name: str, steps: list[float], value: float) -> None:
    family = name.split("(")[0]
    parameter = {"edict": "p", "mccallum_foster": "l"}[family]
    grid = Grid.from_sigma_bar(0.1 + np.r_[0.0, np.cumsum(steps)])
    plan = formulas.CONSTRUCTORS[family](value).plan(grid)
    rows = symbolic.coupled_error(family).rows
    assert plan.rows == len(rows) * grid.steps and plan.rows_per_step == len(rows)
    for m in range(plan.rows):
        a, c = rows[m % len(rows)]
        h = grid.h[::-1][m // len(rows)]
        np.testing.assert_allclose(plan.a[m], [float(w.subs(parameter, value)) for w in a], rtol=0, atol=1e-12)
        np.testing.assert_allclose(plan.c[m], [float(w) * h for w in c], rtol=1e-12, atol=0)


def test_modes_in_another_coordinate_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^root_placed_belm\(\(-1,\),1,1.4,1\): rows with mode_rho = 1.4 are not derived"):
        symbolic.known("root_placed_belm((-1,),1,1.4,1)")


@pytest.mark.parametrize("k", [4, 5, 6])
def test_large_belm(k: int) -> None:
    generator = np.random.default_rng(k)
    nodes = 0.1 + np.cumsum(generator.uniform(0.5, 2.0, (20, k + 1)), axis=1)
    numeric = formulas.belm(k)
    for got, expected in zip(symbolic.derive(steps=k).formula().coefficients(nodes), numeric.coefficients(nodes)):
        scale = np.max(np.abs(expected), axis=-1, keepdims=True)
        assert np.max(np.abs(got - expected) / scale) < 1e-12


def test_generated_source_runs_on_its_own_and_equals_the_expressions() -> None:
    d = symbolic.derive(symbolic.Pattern(2, ("a1", "b1"), {"a2": "gamma*alpha2/alpha0"}, name="Own: formula"))
    namespace: dict = {}
    exec(d.python(), namespace)
    nodes, alpha = np.array([[0.5, 1.25, 3.0], [1.0, 1.5, 2.5]]), np.array([[0.75, 0.5, 0.25], [0.5, 0.375, 0.125]])
    a, b = namespace["own_formula"](nodes, alpha, gamma=0.5)
    assert a.shape == (2, 2) and b.shape == (2, 3) and a.dtype == b.dtype == np.float64
    for row in range(2):
        place = {symbols.h(j): sympy.Rational(*float(h).as_integer_ratio()) for j, h in enumerate(np.diff(nodes[row]))}
        place |= {symbols.alpha(j): sympy.Rational(*float(v).as_integer_ratio()) for j, v in enumerate(alpha[row])}
        place[sympy.Symbol("gamma")] = sympy.Rational(1, 2)
        exact = [float(e.subs(place)) for e in (*d.a, *d.b)]
        np.testing.assert_allclose(np.r_[a[row], b[row]], exact, rtol=1e-15)


def test_vectorised_over_any_leading_shape() -> None:
    formula = symbolic.derive(steps=3).formula()
    nodes = np.arange(1.0, 5.0) * np.ones((2, 3, 1))
    a, b = formula.coefficients(nodes)
    assert a.shape == (2, 3, 3) and b.shape == (2, 3, 4)
    np.testing.assert_allclose(a, np.broadcast_to([-9.0, 9.0, 1.0], a.shape), rtol=1e-13)
    np.testing.assert_allclose(b, np.broadcast_to([0.0, -6.0, -6.0, 0.0], b.shape), rtol=1e-13)


def test_formula_compiles_to_the_plan_of_the_engine() -> None:
    grid = Grid.from_sigma_bar(np.geomspace(0.05, 20.0, 12))
    ours, theirs = symbolic.derive(steps=2).formula().plan(grid), formulas.belm(2).plan(grid)
    np.testing.assert_allclose(ours.a, theirs.a, rtol=1e-12)
    np.testing.assert_allclose(ours.c, theirs.c, rtol=1e-12)
    assert ours.bidirectionally_explicit


def test_parameters_of_a_formula() -> None:
    d = symbolic.derive(symbolic.Pattern(2, ("a1", "a2", "b1"), conditions=2))
    assert [code_name(s) for s in d.free] == ["a2"]
    a, _ = d.formula(a2=0.25).coefficients([1.0, 2.0, 4.0])
    np.testing.assert_allclose(a, [0.75, 0.25])
    with pytest.raises(ValueError, match=r"^a2 must be given"):
        d.formula()
    with pytest.raises(ValueError, match=r"^a3 is not a parameter"):
        d.formula(a2=0.5, a3=1.0)
    with pytest.raises(ValueError, match=r"^a2 must be a finite number"):
        d.formula(a2=float("nan"))
