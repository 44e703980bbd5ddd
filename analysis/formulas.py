"""What are the formulas, and do their derivations agree with the literature?

The LTE-minimising BELM formulas for k = 2 … 5 as their Taylor expansion gives them, in the steps h and in the distances
S_pq = h_(i+p) + … + h_(i+q) between nodes; the constants of the local truncation error of every derived family on a uniform grid
beside the literature's; and how Table 1 of Wang et al. compares with the derived local errors. A derived number that differs from
a known one ends the study with an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sympy import Integer, Rational

from analysis import mathml
from analysis.common import Mark, save_answer, save_formula, save_table
from vsvf.symbolic import Derivation, derive, local_errors, symbols
from vsvf.symbolic.render import plain, spelt

STEPS = (2, 3, 4, 5)

# Uniform steps: a_1 … a_k, b_1 … b_{k-1} and the largest modulus of a root, to the digits printed.
UNIFORM: dict[int, tuple[tuple[int, ...] | None, tuple[int, ...] | None, str, str]] = {
    2: ((0, 1), (-2,), "1", "two-step midpoint rule, Hairer, Nørsett & Wanner I, III.1"),
    3: ((-9, 9, 1), (-6, -6), "9.899", "independent calculation"),
    4: ((-28, 0, 28, 1), (-12, -36, -12), "27.96", "independent calculation"),
    5: (None, None, "56.5", "independent calculation, root only"),
}

# Error constants in the sign of Hairer, Nørsett & Wanner I (III.2), for the equation solved for the newest state.
CONSTANTS = {
    "ddim": Rational(1, 2),
    "adams_bashforth(2)": Rational(5, 12),
    "adams_bashforth(3)": Rational(3, 8),
    "adams_bashforth(4)": Rational(251, 720),
    "adams_moulton(1)": Rational(-1, 12),
    "adams_moulton(2)": Rational(-1, 24),
    "adams_moulton(3)": Rational(-19, 720),
    "bdf(2)": Rational(-2, 9),
    "bdf(3)": Rational(-3, 22),
    "bdf(4)": Rational(-12, 125),
    "belm(2)": Rational(1, 3),
    "belm(3)": None,
    "belm(4)": None,
    "belm(5)": None,
    "stable_belm(3)": None,
    "deis(2)": None,
}


def main(out: Path) -> None:
    """Write formulas_*.csv and the formulas into `out`.

    Raises:
        AssertionError: a derived number differs from the literature's.
    """
    out.mkdir(parents=True, exist_ok=True)
    for k in STEPS:
        d = derive(steps=k)
        caption = f"The LTE-minimising BELM formula with k = {k} steps and its local truncation error, as derived."
        save_formula(out, f"formulas_belm_{k}", caption, mathml.equations(d) if k == 2 else mathml.in_distances(d))
    coefficients_table(out)
    uniform_table(out)
    constants_table(out)
    disagreeing = local_error_table(out)
    known = sum(constant is not None for constant in CONSTANTS.values())
    save_answer(
        out, "formulas",
        f"The derivations reproduce {known} of {known} error constants of the literature exactly. Of the local errors in Table 1 "
        f"of Wang et al., {disagreeing} differ from the derived ones.",
    )  # fmt: skip


def coefficients_table(out: Path) -> None:
    """Every coefficient and the residual for k = 2 … 5, in text that Python and sympy read."""
    rows = []
    for k in STEPS:
        d = derive(steps=k)
        rows += [(k, f"a{j}", spelt(e)) for j, e in enumerate(d.a, start=1)]
        rows += [(k, f"b{j}", spelt(e)) for j, e in enumerate(d.b) if e != 0]
        rows.append((k, f"coefficient of x_bar^({d.order + 1}) in the local truncation error", spelt(d.residual)))
    header = ("k", "quantity", "expression, h0 = h_i, h1 = h_(i+1), …")
    save_table(out, "formulas_coefficients", "The BELM coefficients as text that Python reads.", header, rows)


def uniform_table(out: Path) -> None:
    """The formulas with equal steps, and the largest root of their first characteristic polynomial."""
    rows = []
    for k in STEPS:
        d = derive(steps=k)
        a, b = on_uniform(d, d.a), on_uniform(d, d.b)[1:-1]
        root = max(abs(np.roots([1.0, *(-float(w) for w in a)])))
        known_a, known_b, known_root, source = UNIFORM[k]
        assert (known_a is None or a == list(known_a)) and (known_b is None or b == list(known_b)), k
        digits = len(known_root.partition(".")[2])
        assert round(float(root), digits) == float(known_root), k
        rows.append((k, text(a), text(b), text(known_a), text(known_b), f"{root:.6g}", known_root, source))
    header = ("k", "a derived", "b derived", "a known", "b known", "largest root derived", "largest root known", "source")
    caption = "The BELM formulas with equal steps: derived, and known from elsewhere. A root beyond 1 forbids their use (k >= 3)."
    save_table(out, "formulas_uniform_limit", caption, header, rows)


def constants_table(out: Path) -> None:
    """Leading local truncation error with equal steps h: coefficient of h^{p+1} x_bar^{(p+1)}."""
    rows = []
    for name, known in CONSTANTS.items():
        d = derive(name)
        # the literature marches along its variable, sampling against it: each derivative changes sign
        ours = Integer(-1) ** (d.order + 1) * on_uniform(d, [d.residual])[0]
        assert known is None or ours == known, name
        variable = plain(d.residual) + (" x̄^(n) terms: " + ", ".join(str(n) for n, _ in d.operator) if d.basis else "")
        rows.append((name, d.order, str(ours), "-" if known is None else str(known), variable))
    caption = "Local truncation error: coefficient of h^(p+1) x_bar^(p+1) with equal steps, and with variable steps."
    header = ("formula", "order", "constant derived", "constant in the literature", "with variable steps")
    save_table(out, "formulas_lte_constants", caption, header, rows)


def local_error_table(out: Path) -> int:
    """Table 1 of Wang et al., its column of local errors, beside the derived ones; returns how many differ."""
    rows = []
    for line in local_errors():
        verdict = {True: Mark("✓", "agrees"), False: Mark("✗", "disagrees"), None: Mark("–", "not in the table")}[line.agrees]
        derived = plain(line.coefficient) + ("" if line.derivatives == "1" else f" {line.derivatives}")
        rows.append((line.method, line.printed, derived, line.power, verdict, line.note, "; ".join(line.assumptions)))
    caption = (
        "Local errors of x = alpha x_bar, printed in Table 1 of Wang et al. and derived. EDICT's printed bound is one power of h "
        "too weak; e is the slope, J its Jacobian, x'' the second derivative of x_bar, kappa = -d log alpha/d sigma_bar."
    )
    header = ("method", "printed", "leading term derived", "power of the steps", "verdict", "note", "assumptions")
    save_table(out, "formulas_table1", caption, header, rows)
    return sum(line.agrees is False for line in local_errors())


def on_uniform(d: Derivation, expressions: Iterable[Any]) -> list[Any]:
    """The expressions with every step 1, so that constants remain."""
    place = {symbols.h(j): Integer(1) for j in range(d.steps)}
    return [e.subs(place) for e in expressions]


def text(values: Sequence[Any] | None) -> str:
    return "-" if values is None else " ".join(str(v) for v in values)


if __name__ == "__main__":
    main(Path("results"))
