"""The letters of the derivation, and the two spellings of each: one for code, one for the printed page.

    code          printed            meaning
    h0, h1, …     h_i, h_{i+1}, …    steps, h_{i+j} = s_{j+1} - s_j
    sigma_bar     σ̄_{i-1}            the node s_0 at which the row computes; s_j = sigma_bar + h_i + … + h_{i+j-1}
    alpha0, …     α_{i-1}, …         alpha at s_0, s_1, …
    a1, b0, …     a_1, b_0, …        the coefficients a_{i,j}, b_{i,j} of (12)

Sympy symbols carry the printed names; every other letter (gamma, c, …) is a parameter and spells as itself.
"""

from __future__ import annotations

from sympy import Expr, Integer, Symbol, sympify

SIGMA_BAR = Symbol("sigma_bar")


def shifted(letter: str, offset: int) -> Symbol:
    """letter_{i+offset}."""
    return Symbol(f"{letter}_i" if offset == 0 else f"{letter}_{{i{offset:+d}}}")


def h(j: int) -> Symbol:
    """h_{i+j}, the step from s_j to s_{j+1}."""
    return shifted("h", j)


def alpha(j: int) -> Symbol:
    """alpha at s_j, that is alpha_{i-1+j}."""
    return shifted("alpha", j - 1)


def a(j: int) -> Symbol:
    """The unknown a_{i,j}."""
    return Symbol(f"a_{j}")


def b(j: int) -> Symbol:
    """The unknown b_{i,j}."""
    return Symbol(f"b_{j}")


def distance(j: int) -> Expr:
    """S_j = s_j - s_0 = h_i + … + h_{i+j-1}."""
    total: Expr = Integer(0)
    for m in range(j):
        total += h(m)
    return total


def step(j: int) -> Symbol:
    """The step that b_j multiplies: h_{i-1+j}, and h_i for j = 0 (see `LinearMultistep.coefficients`)."""
    return h(max(j - 1, 0))


def code_names(steps: int) -> dict[str, Symbol]:
    """Code spelling -> symbol, for everything a k-step pattern may mention."""
    names = {"sigma_bar": SIGMA_BAR, "s": SIGMA_BAR}
    for j in range(steps + 1):
        names[f"alpha{j}"] = alpha(j)
        names[f"b{j}"] = b(j)
        if j < steps:
            names[f"h{j}"] = h(j)
            names[f"a{j + 1}"] = a(j + 1)
    return names


def latex_names(steps: int) -> dict[Symbol, str]:
    """Symbol -> LaTeX."""
    names = {SIGMA_BAR: r"\bar{\sigma}_{i-1}"}
    for j in range(steps + 1):
        names[alpha(j)] = rf"\alpha_{{{_index(j - 1)}}}"
        names[b(j)] = f"b_{{i,{j}}}"
        if j < steps:
            names[h(j)] = f"h_{{{_index(j)}}}"
            names[a(j + 1)] = f"a_{{i,{j + 1}}}"
    return names


def _index(offset: int) -> str:
    return "i" if offset == 0 else f"i{offset:+d}"


def code_name(symbol: Symbol) -> str:
    """A symbol's code spelling: a1 for a_1, h0 for h_i, alpha0 for alpha_{i-1}."""
    text = str(sympify(symbol))
    if text.startswith(("h_", "alpha_")):
        letter, index = text.split("_", 1)
        offset = int(index.strip("{i}") or 0)
        return f"{letter}{offset + (1 if letter == 'alpha' else 0)}"
    return text.replace("_", "") if text[:2] in ("a_", "b_") else text
