"""Names of methods: one parser, for formulas and for symbolic patterns."""

import pytest

from vsvf import formulas
from vsvf.formulas.names import numbers, split
from vsvf.symbolic import known, patterns


def test_a_name_is_a_family_and_the_text_of_its_arguments():
    assert split(" belm ( 2 ) ", ["belm"]) == ("belm", "2")
    assert split("ddim", ["ddim"]) == ("ddim", "")
    assert split("root_placed_belm((-1,),0)", ["root_placed_belm"]) == ("root_placed_belm", "(-1,),0")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", ()),
        ("2", (2,)),
        ("0.93", (0.93,)),
        ("3, True", (3, True)),
        ("(-1,),0", ((-1,), 0)),
        ("(-0.5+0.25j, -0.5-0.25j), 1e-3", ((-0.5 + 0.25j, -0.5 - 0.25j), 1e-3)),
        ("[1, 2]", ((1, 2),)),
    ],
)
def test_numbers_are_read(text, values):
    assert numbers(text, "x") == values


@pytest.mark.parametrize(
    "text", ["x", "'2'", "None", "2)", "(2", "f(2)", "2**3", "2*3", "-True", "*(1,)", "-" * 900 + "2", "(" * 400]
)
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="arguments in parentheses must be numbers"):
        numbers(text, "belm(…)")


@pytest.mark.parametrize("text", ["9" * 400, "1e400", "-" + "9" * 400, "1e400j", "(1, 1e301)"])
def test_numbers_of_no_ordinary_size_are_refused(text):
    with pytest.raises(ValueError, match="finite and below 1e"):
        numbers(text, "belm(…)")


def test_every_way_in_reads_names_alike():
    for wrong in ("dpm_solver_pp(x)", "root_placed_belm(x)", "belm(x)"):
        with pytest.raises(ValueError, match="must be numbers"):
            known(wrong)
        with pytest.raises(ValueError, match="'x' is neither a number nor a formula"):
            formulas.by_name(wrong)
    with pytest.raises(ValueError, match="must be numbers"):
        patterns.by_name("belm(x)")
    for read in (formulas.by_name, known, patterns.by_name):
        with pytest.raises(ValueError, match="is not known; choose from"):
            read("belm" * 1000)


def test_the_names_of_all_methods_return_themselves():
    for name in formulas.METHODS:
        formula = formulas.by_name(name)
        assert formulas.by_name(formula.name).name == formula.name
