"""Names of formulas: nested, with fractions, and nothing in them is executed."""

from __future__ import annotations

import pytest

from vsvf import formulas
from vsvf.formulas.names import Call, arguments, numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("2, -0.5", (2, -0.5)),
        ("5/6, True", (5 / 6, True)),
        ("(-1,),0", ((-1,), 0)),
        ("(-0.5+0.25j,-0.5-0.25j,),1", ((-0.5 + 0.25j, -0.5 - 0.25j), 1)),
        ("((1/3, 1), 2)", (((1 / 3, 1), 2),)),
    ],
)
def test_numbers_are_read(text, expected):
    assert numbers(text, "f") == arguments(text, "f") == expected


def test_formulas_are_read_where_they_may_stand():
    assert arguments("g(3), 0.7", "f") == (Call("g", (3,)), 0.7)
    assert arguments("g(h, (2, 3)), 1", "f") == (Call("g", (Call("h", ()), (2, 3))), 1)
    with pytest.raises(ValueError, match="must be numbers"):
        numbers("g(3), 0.7", "f")


@pytest.mark.parametrize(
    "text",
    [
        "'2'",
        "x=2",
        "*(1, 2)",
        "[i for i in (1,)]",
        "1/0",
        "g(2)+1",
        "a.b",
        "lambda: 1",
        "2**9",
        "1e301",
        "1e200/1e-200",
        "g(x=2)",
        "(",
        "2)(",
    ],
)
def test_arguments_that_are_neither_numbers_nor_formulas_are_refused(text):
    with pytest.raises(ValueError, match="formula 'f"):
        arguments(text, "f")


def test_formulas_nest():
    formula = formulas.by_name("corrected(stable_belm(3), 0.7, 4)")
    assert formula.name == "corrected(stable_belm(3),0.7,4)" and formula.main.name == "stable_belm(3)"
    member = formulas.by_name("corrected(power_fitted_belm(0.6, 5/6, 2.25, 0.85), 0.6)")
    assert formulas.by_name(member.name).name == member.name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corrected(0.7)", "formula must be a linear multistep formula"),
        ("corrected(edict(0.93))", "formula must be a linear multistep formula"),
        ("corrected(ddim)", "at least 2"),
        ("corrected(nothing(3))", "'nothing' is neither a number nor a formula"),
        ("corrected()", "does not fit corrected"),
        ("corrected(belm(2), 0.7, 0)", "mix must be"),
        ("corrected(belm(2), 2)", "p must lie in"),
    ],
)
def test_what_cannot_be_corrected_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        formulas.by_name(text)
