"""Derivations as MathML, which browsers set without a script or a font of ours."""

from __future__ import annotations

from sympy import Add, Expr, Mul, Symbol, cancel, factorial
from sympy.printing.mathml import MathMLPresentationPrinter

from vsvf.symbolic import Derivation, symbols


class _Printer(MathMLPresentationPrinter):
    """Symbols are printed with the sub-scripts that the project's letters carry."""

    def __init__(self, names: dict[Symbol, str]) -> None:
        super().__init__()
        self.names = names

    def _print_Symbol(self, sym: Symbol, style: str = "plain") -> object:
        if sym not in self.names:
            return super()._print_Symbol(sym, style)
        letter, index = self.names[sym].split("_", 1)
        element = self.dom.createElement("msub")
        for text in (letter, index):
            row = self.dom.createElement("mi" if text.isalpha() else "mtext")
            row.appendChild(self.dom.createTextNode(text))
            element.appendChild(row)
        return element


def equation(left: str, right: Expr, names: dict[Symbol, str], factor: str = "") -> str:
    """A block equation left = right factor; left and factor are MathML already."""
    return f'<math display="block"><mrow>{left}<mo>=</mo>{expression(right, names)}{factor}</mrow></math>'


def expression(right: Expr, names: dict[Symbol, str]) -> str:
    """An expression as MathML, with its symbols under these names "letter_index"."""
    return str(_Printer(names)._print(right).toxml()).replace("<mo>-</mo>", "<mo>\u2212</mo>")


def equations(d: Derivation) -> list[str]:
    """The coefficients that are not zero and the leading local truncation error of a derivation, an equation each."""
    names = {symbols.h(j): f"h_{_index(j)}" for j in range(d.steps)}
    coefficients = [(_sub("a", f"i,{j}"), e) for j, e in enumerate(d.a, start=1)]
    coefficients += [(_sub("b", f"i,{j}"), e) for j, e in enumerate(d.b)]
    return [*(equation(left, e, names) for left, e in coefficients if e != 0), _error(d, d.residual, names)]


def in_distances(d: Derivation) -> list[str]:
    """The same for the LTE-minimising BELM formula with k steps, in the distances S_pq = h_{i+p} + … + h_{i+q}.

    The row is the polynomial through the values at s_1 … s_k with the slopes at s_1 … s_{k-1}, taken at s_0: with

        w_j = prod_{m != j, m < k} ( (s_0 - s_m) / (s_j - s_m) )^2  (s_0 - s_k) / (s_j - s_k)

    b_j h_{i-1+j} = (s_0 - s_j) w_j and a_j = w_j ( 1 - (s_0 - s_j) w_j'(s_j) ). Written so, a coefficient fits a line for any k.

    Raises:
        AssertionError: this is not what was derived.
    """
    k = d.steps
    lengths = {(p, q): Symbol(f"S_{p}{q}") for p in range(k) for q in range(p, k)}
    names = {symbol: f"S_{p}{q}" if p < q else f"h_{_index(p)}" for (p, q), symbol in lengths.items()}
    place = {symbol: sum((symbols.h(m) for m in range(p + 1, q + 1)), symbols.h(p)) for (p, q), symbol in lengths.items()}

    def between(j: int, m: int) -> Expr:
        """s_j - s_m."""
        return lengths[m, j - 1] if m < j else -lengths[j, m - 1]

    def weight(j: int) -> Expr:
        ratios = [(between(0, m) / between(j, m)) ** (2 if m < k else 1) for m in range(1, k + 1) if m != j]
        return Mul(*ratios)

    slopes = [Add(*((2 if m < k else 1) / between(j, m) for m in range(1, k + 1) if m != j)) for j in range(1, k)]
    a = [weight(j) * (1 - between(0, j) * slope) for j, slope in enumerate(slopes, start=1)]
    b = [between(0, j) * weight(j) / lengths[j - 1, j - 1] for j in range(1, k)]
    a.append(Mul(*((between(0, m) / between(k, m)) ** 2 for m in range(1, k))))
    error = Mul(*(between(0, m) ** (2 if m < k else 1) for m in range(1, k + 1))) / factorial(2 * k - 1)
    for found, derived in zip((*a, *b, error), (*d.a, *d.b[1:k], d.residual), strict=True):
        assert cancel(found.subs(place) - derived) == 0, (d.name, found, derived)
    lines = []
    for j, slope in enumerate(slopes, start=1):
        inside = f"<mn>1</mn><mo>+</mo>{expression(-between(0, j), names)}<mo>(</mo>{expression(slope, names)}<mo>)</mo>"
        factor = f"<mrow><mo>(</mo>{inside}<mo>)</mo></mrow>"
        lines.append(equation(_sub("a", f"i,{j}"), weight(j), names, factor))
    lines.append(equation(_sub("a", f"i,{k}"), a[-1], names))
    lines += [equation(_sub("b", f"i,{j}"), e, names) for j, e in enumerate(b, start=1)]
    return [*lines, _error(d, error, names)]


def _error(d: Derivation, residual: Expr, names: dict[Symbol, str]) -> str:
    order = f"<msup>{_bar('x')}<mrow><mo>(</mo><mn>{d.order + 1}</mn><mo>)</mo></mrow></msup>"
    return equation(_sub("τ", "i"), residual, names, f"{order}<mo>+</mo><mo>…</mo>")


def _sub(letter: str, index: str) -> str:
    return f"<msub><mi>{letter}</mi><mtext>{index}</mtext></msub>"


def _bar(letter: str) -> str:
    return f'<mover accent="true"><mi>{letter}</mi><mo>¯</mo></mover>'


def _index(offset: int) -> str:
    return "i" if offset == 0 else f"i+{offset}"
