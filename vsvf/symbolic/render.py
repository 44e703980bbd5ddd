"""Derivations on the page: text that reads as a derivation, LaTeX, and plain data."""

from __future__ import annotations

from typing import Any

from sympy import Expr, Integer, Symbol, solve
from sympy import latex as sympy_latex
from sympy.printing.str import StrPrinter

from vsvf.symbolic import symbols
from vsvf.symbolic.code import source
from vsvf.symbolic.row import Row
from vsvf.symbolic.symbols import code_name


class _Printer(StrPrinter):
    """Powers as ^, products with a blank, σ̄ as such."""

    def _print_Symbol(self, expr: Symbol) -> str:
        name = expr.name
        if name == "sigma_bar":
            return "σ̄_{i-1}"
        return name.replace("alpha_", "α_").replace("gamma", "γ").replace("kappa", "κ")


def plain(expression: Expr) -> str:
    """An expression as text in the printed spelling."""
    return str(_Printer().doprint(expression)).replace("**", "^").replace("*", " ")


def text(d: Row) -> str:
    """The derivation, step by step."""
    lines = [f"{d.name}: {_method(d)}", "", "Row, with s_j = σ̄_{i-1+j} and ε̄_j the slope at s_j:", f"  {_row(d)}", ""]
    if d.basis is None:
        lines += [
            "Taylor expansion at s_0 = σ̄_{i-1}, with S_j = s_j - s_0 and ε̄ = dx̄/dσ̄:",
            "  x̄(s_j) = sum_n S_j^n/n! x̄^(n),   ε̄_j = sum_n S_j^n/n! x̄^(n+1)",
            *(f"  S_{j} = {plain(symbols.distance(j))}" for j in range(1, d.steps + 1)),
            "",
            "The residual x̄(s_0) - row, collected per derivative of x̄ at s_0, must vanish for:",
        ]
        lines += [f"  {derivative(n) + ':':8} {plain(c.expression)} = 0" for n, c in enumerate(d.conditions)]
    else:
        lines += ["The residual x̄(s_0) - row must vanish for x̄ = each of:"]
        functions = [plain(f).replace("σ̄_{i-1}", "σ̄") for f in d.basis]
        lines += [f"  {f}:  {plain(c.expression)} = 0" for f, c in zip(functions, d.conditions)]
    if d.unknowns:
        lines += ["", "As a linear system M u = r:", f"  u = ({', '.join(map(plain, d.unknowns))})"]
        lines += [f"  [{', '.join(row[:-1])}] u = {row[-1]}" for row in system(d)]
        lines += ["", "Solution, factored:", *(f"  {plain(u)} = {plain(value)}" for u, value in d.solution.items() if u != value)]
        lines += [f"  {plain(u)} is free" for u in d.free]
        if d.method == "closed":
            lines += ["  (by the closed form of interpolation, which solves this system; see vsvf.symbolic.closed and .hermite)"]
    else:
        lines += ["", "which holds for the given coefficients:"]
        lines += [f"  a_{j} = {plain(e)}" for j, e in enumerate(d.a, start=1)]
        lines += [f"  b_{j} = {plain(e)}" for j, e in enumerate(d.b) if e != 0]
    lines += ["", f"Order {d.order}. Local truncation error:", f"  τ_i = ({plain(d.residual)}) {_operator(d)} + …"]
    if exact := vanishing(d):
        lines += [f"  which vanishes to this order where {plain(exact[0])} = {plain(exact[1])}"]
    return "\n".join(lines)


def latex_equations(d: Row) -> list[str]:
    """The formula's coefficients and its error as single equations "left = right" that mathtext can set too."""
    coefficients = [(symbols.a(j), e) for j, e in enumerate(d.a, start=1)] + [(symbols.b(j), e) for j, e in enumerate(d.b)]
    lines = [f"{_tex(d, s)} = {_tex(d, e)}" for s, e in coefficients if e != 0 and s != e]
    terms = [f"{'' if w == 1 else _tex(d, w)} {_tex_derivative(n)}" for n, w in sorted(d.operator, reverse=True)]
    inside = terms[0].strip() if len(terms) == 1 else rf"\left( {' + '.join(t.strip() for t in terms)} \right)"
    return [*lines, rf"\tau_{{i}} = {_tex(d, d.residual)} \, {inside} + \ldots"]


def latex(d: Row) -> str:
    """An align* environment: the row, the coefficients, the error."""
    states = [f"{_tex(d, symbols.a(j))} \\bar{{x}}_{{{_at(j)}}}" for j, e in enumerate(d.a, start=1) if e != 0]
    slopes = [
        f"{_tex(d, symbols.b(j))} {_tex(d, symbols.step(j))} \\bar{{\\varepsilon}}_{{{_at(j)}}}"
        for j, e in enumerate(d.b)
        if e != 0
    ]
    row = rf"\bar{{x}}_{{i-1}} &= {' + '.join(states + slopes)}"
    equations = [line.replace(" = ", " &= ", 1) for line in latex_equations(d)]
    return "\\begin{align*}\n  " + " \\\\\n  ".join([row, *equations]) + "\n\\end{align*}"


def as_dict(d: Row) -> dict[str, Any]:
    """Plain data; expressions in the code spelling (h0 = h_i, alpha0 = alpha_{i-1}, a1, b0, …), readable by sympy."""
    return {
        "name": d.name,
        "steps": d.steps,
        "order": d.order,
        "method": d.method,
        "a": [spelt(e) for e in d.a],
        "b": [spelt(e) for e in d.b],
        "residual": spelt(d.residual),
        "residual_operator": {str(n): spelt(w) for n, w in d.operator},
        "conditions": {c.label: spelt(c.expression) for c in d.conditions},
        "unknowns": [code_name(u) for u in d.unknowns],
        "free": [code_name(u) for u in d.free],
        "parameters": [code_name(u) for u in d.parameters],
        "latex": latex(d),
        "python": source(d),
    }


def spelt(expression: Expr) -> str:
    """An expression as text in the code spelling."""
    return str(expression.xreplace({s: Symbol(code_name(s)) for s in expression.free_symbols}))


def system(d: Row) -> list[list[str]]:
    """Rows of M and r as text, the last entry r."""
    nothing = dict.fromkeys(d.unknowns, Integer(0))
    rows = []
    for condition in d.conditions:
        matrix = [-condition.expression.coeff(u) for u in d.unknowns]
        rows.append([plain(entry) for entry in (*matrix, condition.expression.xreplace(nothing))])
    return rows


def vanishing(d: Row) -> tuple[Symbol, Expr] | None:
    """With one free parameter: the value at which the leading error vanishes."""
    letters = d.free or d.parameters
    if len(letters) != 1 or not d.residual.has(letters[0]):
        return None
    found = solve(d.residual, letters[0])
    return (letters[0], found[0].factor()) if len(found) == 1 and found[0] != 0 else None


def derivative(n: int) -> str:
    """x̄, x̄', x̄'', x̄''', x̄^(4), …"""
    return "x̄" + ("'" * n if n < 4 else f"^({n})")


def _operator(d: Row) -> str:
    terms = [derivative(n) if w == 1 else f"({plain(w)}) {derivative(n)}" for n, w in sorted(d.operator, reverse=True)]
    return terms[0] if len(terms) == 1 else f"[{' + '.join(terms)}]"


def _row(d: Row) -> str:
    names = {symbols.a(j): e for j, e in enumerate(d.a, start=1)}
    states = [f"a_{j} x̄_{{{_at(j)}}}" for j in range(1, d.steps + 1) if names[symbols.a(j)] != 0]
    slopes = [f"b_{j} {plain(symbols.step(j))} ε̄_{{{_at(j)}}}" for j, e in enumerate(d.b) if e != 0]
    return "x̄_{i-1} = " + " + ".join(states + slopes)


def _method(d: Row) -> str:
    kind = "explicit" if d.b[0] == 0 else "implicit"
    backward = "backward explicit" if d.a[-1] != 0 and d.b[-1] == 0 else "not backward explicit"
    return f"{d.steps}-step formula, {kind}, {backward}"


def _at(j: int) -> str:
    return {0: "i-1", 1: "i"}.get(j, f"i+{j - 1}")


def _tex(d: Row, expression: Expr) -> str:
    return str(sympy_latex(expression, symbol_names=symbols.latex_names(d.steps), fold_short_frac=False))


def _tex_derivative(n: int) -> str:
    return r"\bar{x}" + ("'" * n if n < 4 else f"^{{({n})}}")
