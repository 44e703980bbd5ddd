"""LaTeX, text and JSON: read back and evaluated, not compared as strings."""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction

import matplotlib.mathtext
import pytest
import sympy

from vsvf import symbolic
from vsvf.symbolic import symbols
from vsvf.symbolic.render import latex_equations, spelt

NAMES = ["belm(2)", "belm(3)", "belm(4)", "belm(5)", "adams_bashforth(3)", "adams_moulton(2)", "bdf(3)", "bdia"]
NAMES += ["deis(2)", "gaussian", "stable_belm(3)"]
TOKEN = re.compile(r"\\[a-zA-Z]+|\\[, ]|[A-Za-z]|\d+|[{}()\[\]^_+\-,=]")


class Reader:
    """Reads the LaTeX that formulas are made of and evaluates it: fractions, powers, roots, logarithms, products."""

    def __init__(self, text: str, values: dict[str, float]) -> None:
        self.tokens = TOKEN.findall(text.replace(r"\left", "").replace(r"\right", "").replace(r"\,", ""))
        self.at = 0
        self.values = values

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, expected: str | None = None) -> str:
        token = self.peek()
        assert expected is None or token == expected, f"{expected} expected, {token} found"
        self.at += 1
        return token

    def total(self):
        sign = -1 if self.peek() == "-" else 1
        if self.peek() in ("-", "+"):
            self.take()
        value = sign * self.product()
        while self.peek() in ("+", "-"):
            value = value + self.product() if self.take() == "+" else value - self.product()
        return value

    def product(self):
        value = self.power()
        while self.peek() and self.peek() not in ("+", "-", "}", ")", "]"):
            value = value * self.power()
        return value

    def power(self):
        value = self.atom()
        if self.peek() == "^":
            self.take()
            value = value ** self.group()
        return value

    def group(self):
        if self.peek() == "{":
            self.take("{")
            value = self.total()
            self.take("}")
            return value
        return self.atom()

    def atom(self):
        token = self.take()
        if token.isdigit():
            return Fraction(token)
        if token == "(":
            value = self.total()
            self.take(")")
            return value
        if token == r"\frac":
            return self.group() / self.group()
        if token == r"\sqrt":
            degree = 2
            if self.peek() == "[":
                self.take("[")
                degree = int(self.total())
                self.take("]")
            return self.group() ** (1.0 / degree)
        if token == r"\log":
            if self.peek() == "^":
                self.take()
                exponent = self.group()
                return math.log(self.group()) ** exponent
            return math.log(self.group())
        if token == r"\bar":
            token += self.subscript()
        if self.peek() == "_":
            self.take()
            token += "_" + self.subscript()
        return self.values[token]

    def subscript(self) -> str:
        self.take("{")
        text = ""
        while self.peek() != "}":
            text += self.take()
        self.take("}")
        return text


def evaluate(text: str, values: dict[str, float]):
    reader = Reader(text, values)
    value = reader.total()
    assert reader.at == len(reader.tokens), f"not read to the end: {reader.tokens[reader.at :]}"
    return value


@pytest.mark.parametrize("name", NAMES)
def test_latex_reads_back_to_the_same_numbers(name: str) -> None:
    d = symbolic.derive(name)
    exact = {"gamma": Fraction(3, 5), "c": Fraction(2, 7), "sigma_bar": Fraction(9, 4)}
    place = {sympy.Symbol(k): sympy.Rational(v) for k, v in exact.items()}
    values: dict = {r"\gamma": exact["gamma"], "c": exact["c"], r"\bar\sigma_i-1": exact["sigma_bar"]}
    for j in range(d.steps + 1):
        for symbol, spelling, value in [
            (symbols.h(j), f"h_{_at(j)}", Fraction(3 + 2 * j, 5 + j)),
            (symbols.alpha(j), rf"\alpha_{_at(j - 1)}", Fraction(9 - j, 10)),
        ]:
            place[symbol] = sympy.Rational(value.numerator, value.denominator)
            values[spelling] = value
    expected = [e for e in (*d.a, *d.b) if e != 0]
    equations = latex_equations(d)
    assert len(equations) == len(expected) + 1
    for equation, e in zip(equations, expected):
        left, right = equation.split(" = ", 1)
        assert re.fullmatch(r"[ab]_\{i,\d\}", left)
        got, want = evaluate(right, values), e.subs(place)
        if want.is_Rational:
            assert got == Fraction(int(want.p), int(want.q))
        else:
            assert float(got) == pytest.approx(float(want), rel=1e-9)
    left, right = equations[-1].split(" = ", 1)
    assert left == r"\tau_{i}" and right.endswith(r"\ldots")
    assert float(evaluate(right.split(r" \, ")[0], values)) == pytest.approx(float(d.residual.subs(place)), rel=1e-12)


def _at(offset: int) -> str:
    return "i" if offset == 0 else f"i{offset:+d}"


def test_the_reader_notices_a_wrong_formula() -> None:
    values = {"h_i": Fraction(1, 2), "h_i+1": Fraction(3)}
    assert evaluate(r"- \frac{h_{i} \left(h_{i} + 2 h_{i+1}\right)^{2}}{6}", values) == -Fraction(1, 12) * Fraction(13, 2) ** 2
    with pytest.raises((KeyError, AssertionError)):
        evaluate(r"\frac{h_{i}}{h_{i+2}}", values)


@pytest.mark.parametrize("name", NAMES)
def test_mathtext_sets_every_equation(name: str) -> None:
    parser = matplotlib.mathtext.MathTextParser("path")
    for equation in latex_equations(symbolic.derive(name)):
        width = parser.parse(f"${equation}$")[0]
        assert width > 0
    with pytest.raises(ValueError):
        parser.parse(r"$\frac{h_{i}$")


def test_align_environment_is_balanced_and_complete() -> None:
    text = symbolic.derive(steps=3).latex()
    assert text.startswith(r"\begin{align*}") and text.endswith(r"\end{align*}")
    assert text.count("{") == text.count("}") and text.count(r"\left(") == text.count(r"\right)")
    lines = text.splitlines()[1:-1]
    assert len(lines) == 7 and all(line.count("&=") == 1 for line in lines)


def test_json_reads_back_to_the_same_expressions() -> None:
    d = symbolic.derive(steps=3)
    data = json.loads(d.json())
    names = {f"h{j}": symbols.h(j) for j in range(3)}
    for texts, expressions in ((data["a"], d.a), (data["b"], d.b), ([data["residual"]], [d.residual])):
        for text, e in zip(texts, expressions, strict=True):
            assert sympy.cancel(sympy.sympify(text, locals=names) - e) == 0
    assert data["order"] == 4 and data["free"] == [] and len(data["conditions"]) == 5
    namespace: dict = {}
    exec(data["python"], namespace)
    assert namespace["belm_3"]([[1.0, 2.0, 3.0, 4.0]])[0].tolist() == [[-9.0, 9.0, 1.0]]
    assert spelt(symbols.h(2) * symbols.alpha(0)) == "alpha0*h2"


def test_text_reads_as_a_derivation() -> None:
    text = str(symbolic.derive(steps=2))
    order = ["Row", "Taylor expansion at s_0", "S_2 = h_i + h_{i+1}", "collected per derivative", "linear system"]
    order += ["Solution", "Order 2"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "x̄'':" in text and "τ_i = (-h_i^2 (h_i + h_{i+1})/6) x̄'''" in text
