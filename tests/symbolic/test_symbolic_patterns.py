"""Patterns: what they accept, and one clear line for what they do not."""

from __future__ import annotations

import pytest
import sympy

from vsvf import symbolic
from vsvf.symbolic import Pattern, patterns, symbols
from vsvf.symbolic.parse import expression


def line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert text and "\n" not in text
    return text


@pytest.mark.parametrize("steps", [1, 0, -2, 13, True, 2.0])
def test_belm_needs_two_steps(steps: object) -> None:
    with pytest.raises(ValueError, match=r"^steps must be an integer from 2 to 12") as error:
        symbolic.derive(steps=steps)  # type: ignore[arg-type]
    line(error)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 2}, "^unknown: the pattern has no unknowns"),
        ({"steps": 0, "unknown": ("a1",)}, "^steps must be an integer from 1 to 12, got 0"),
        ({"steps": 2, "unknown": ("a1", "a3")}, "^unknown: 'a3' is not a coefficient of a 2-step row"),
        ({"steps": 2, "unknown": ("a1", "a0")}, "^unknown: 'a0' is not a coefficient"),
        ({"steps": 2, "unknown": ("a1", "a1")}, "^unknown: a1, a1 names a coefficient twice"),
        ({"steps": 2, "unknown": ("a1",), "fixed": {"a1": 1}}, "^a1 is both unknown and fixed"),
        ({"steps": 2, "unknown": ("a1",), "fixed": {"b7": 1}}, "^fixed: 'b7' is not a coefficient"),
        ({"steps": 2, "unknown": ("a1",), "fixed": {"b1": "h0 +"}}, r"^fixed\['b1'\]: 'h0 \+' is not an expression"),
        ({"steps": 2, "unknown": ("a1",), "fixed": {"b1": "a1 + 1"}}, r"^fixed\['b1'\] may not depend on another"),
        ({"steps": 2, "unknown": ("a1",), "fixed": {"b1": "1/0"}}, r"^fixed\['b1'\]: '1/0' is not finite"),
        ({"steps": 2, "unknown": ("a1",), "conditions": 0}, "^conditions must be an integer from 1 to 48, got 0"),
        ({"steps": 2, "unknown": ("a1",), "conditions": 1, "basis": "1"}, "^conditions counts monomials"),
        ({"steps": 2, "unknown": ("a1",), "basis": ()}, "^basis is empty"),
        ({"steps": 2, "unknown": ("a1",), "basis": "c"}, "^basis: c is not a function of sigma_bar"),
        ({"steps": 2, "unknown": ("a1",), "basis": "0"}, "^basis: 0 is not a function of sigma_bar"),
        ({"steps": 2, "unknown": ("a1",), "basis": "erf(s)"}, "^basis: 'erf\\(s\\)' is not an expression"),
        ({"steps": 2, "unknown": ("a1",), "basis": "1, s"}, "^basis has 2 functions for 1 unknowns"),
    ],
)
def test_bad_patterns_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Pattern(**arguments)
    line(error)


def test_clashing_conditions_are_named() -> None:
    with pytest.raises(ValueError) as error:
        symbolic.derive(Pattern(1, ("b1",), {"a1": 1}, conditions=3))
    assert line(error) == "conditions: those on sigma_bar and sigma_bar^2 clash, no choice of b1 satisfies them together"


def test_a_condition_without_unknowns_is_named() -> None:
    with pytest.raises(ValueError) as error:
        symbolic.derive(Pattern(1, ("b1",), {"a1": 2}))
    assert line(error) == "conditions: the condition on 1 reads -1 = 0, which no unknown can change"


def test_too_many_conditions_name_only_those_that_clash() -> None:
    with pytest.raises(ValueError, match=r"those on 1, sigma_bar, sigma_bar\^2 and sigma_bar\^3 clash") as error:
        symbolic.derive(Pattern(2, ("a1", "a2", "b1"), conditions=6))
    line(error)


@pytest.mark.parametrize(
    ("name", "steps", "message"),
    [
        ("nope", None, "^pattern 'nope' is not known; choose from belm"),
        ("belm(3)", 2, "^steps=2 contradicts pattern 'belm\\(3\\)'"),
        ("belm(x)", None, "the arguments in parentheses must be numbers"),
        ("ddim(3)", None, "ddim takes no argument"),
        ("ddim", 4, "^steps=4 contradicts pattern 'ddim'"),
        ("adams_bashforth(0)", None, "^steps must be an integer from 1 to 12, got 0"),
    ],
)
def test_bad_names_are_refused(name: str, steps: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        symbolic.derive(name, steps=steps)
    line(error)


def test_other_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"^pattern must be a Pattern or a name"):
        symbolic.derive(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^method='guess' is not known"):
        symbolic.derive(steps=2, method="guess")
    with pytest.raises(ValueError, match=r"^method='closed' applies to"):
        symbolic.derive("gaussian", method="closed")
    with pytest.raises(ValueError, match=r"couples two states"):
        symbolic.known("edict(0.93)")
    with pytest.raises(ValueError, match=r"^coupled method 'ddim' is not known"):
        symbolic.coupled_error("ddim")
    with pytest.raises(ValueError, match=r"^b must have one entry more than a"):
        symbolic.expand([1], [0])
    with pytest.raises(ValueError, match=r"^a9 is not a parameter of bdia; it has gamma"):
        symbolic.derive("bdia").substitute(a9=1)


def test_patterns_are_equal_by_content_and_hashable() -> None:
    one = Pattern(2, ("b1", "a1", "a2"), name="mine")
    assert one == patterns.belm(2) and hash(one) == hash(patterns.belm(2))
    assert one != Pattern(2, ("b1", "a1", "a2"), conditions=2)
    assert one != Pattern(2, ("b1", "a1"), {"a2": 1})


def test_every_ready_made_pattern_derives() -> None:
    for name in patterns.PATTERNS:
        d = symbolic.derive(name)
        assert d.order >= 1, name


def test_expressions_are_read_without_eval() -> None:
    names = symbols.code_names(2)
    got = expression("-(h0 + 0.5*h1)**2/alpha2 + sqrt(c)", names, "x")
    expected = -((symbols.h(0) + symbols.h(1) / 2) ** 2) / symbols.alpha(2) + sympy.sqrt(sympy.Symbol("c"))
    assert got == expected
    for text in ("__import__('os')", "h0.real", "h0 if h1 else 2", "[h0]", "2**h0**h1", "lambda: 1", "'a'", "9**9**9"):
        with pytest.raises(ValueError, match=r"^x: "):
            expression(text, names, "x")
