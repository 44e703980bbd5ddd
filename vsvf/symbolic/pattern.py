"""Patterns: what a formula may look like, and what is asked of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sympy import Expr, Integer, Symbol, diff
from sympy.core.numbers import nan, zoo

from vsvf.symbolic import symbols
from vsvf.symbolic.parse import expression

LARGEST_STEPS = 12


@dataclass(frozen=True)
class Pattern:
    """A k-step row of (12) with some coefficients unknown, some fixed and the others zero, and the conditions on it.

        x_bar_{i-1} = sum_{j=1..k} a_j x_bar_{i-1+j} + sum_{j=0..k} b_j h_{i-1+j} eps_bar_{i-1+j}

    (b_0 multiplies h_i.) Coefficients are spelt a1 … ak, b0 … bk, the steps h_i, h_{i+1}, … are h0, h1, …, alpha at
    s_0, s_1, … is alpha0, alpha1, …, and sigma_bar is the node s_0. Other names are parameters that stay symbolic.

    Attributes:
        steps: k >= 1.
        unknown: the coefficients to solve for, for instance ("a1", "a2", "b1").
        fixed: coefficient -> expression (text, number or sympy), for instance {"a2": "gamma*alpha2/alpha0"}.
        conditions: how many monomials 1, sigma_bar, sigma_bar^2, … the row must reproduce; default as many as unknowns.
            With fewer, parameters stay free. Not together with `basis`.
        basis: functions of sigma_bar that the row must reproduce instead, for instance
            ("1", "sigma_bar", "sqrt(sigma_bar**2 + c**2)").
        name: for reports.

    Raises:
        ValueError: no unknowns, a coefficient that the row does not have or that is both unknown and fixed, a number of
            conditions below 1, an expression that cannot be read, or a basis that is not one of functions of sigma_bar.
    """

    steps: int
    unknown: Sequence[str] = ()
    fixed: Any = ()
    conditions: int | None = None
    basis: Any = None
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        k = self.steps
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= LARGEST_STEPS:
            raise ValueError(f"steps must be an integer from 1 to {LARGEST_STEPS}, got {k!r}")
        object.__setattr__(self, "name", self.name or f"own pattern, {k} step{'s' if k > 1 else ''}")
        possible = [f"a{j}" for j in range(1, k + 1)] + [f"b{j}" for j in range(k + 1)]
        unknown = [self.unknown] if isinstance(self.unknown, str) else list(self.unknown)
        pairs = dict(self.fixed)
        for argument, given in (("unknown", unknown), ("fixed", list(pairs))):
            for coefficient in given:
                if coefficient not in possible:
                    raise ValueError(
                        f"{argument}: {coefficient!r} is not a coefficient of a {k}-step row; it has {', '.join(possible)}"
                    )
        if len(set(unknown)) < len(unknown):
            raise ValueError(f"unknown: {', '.join(unknown)} names a coefficient twice")
        if not unknown:
            raise ValueError("unknown: the pattern has no unknowns, so there is nothing to derive (see symbolic.expand)")
        for coefficient in unknown:
            if coefficient in pairs:
                raise ValueError(f"{coefficient} is both unknown and fixed")
        object.__setattr__(self, "unknown", tuple(c for c in possible if c in unknown))
        object.__setattr__(self, "fixed", self._read_fixed(pairs, possible))
        if self.basis is not None:
            if self.conditions is not None:
                raise ValueError("conditions counts monomials and does not go with basis: give one of the two")
            object.__setattr__(self, "basis", self._read_basis(self.basis))
            return
        count = len(self.unknown) if self.conditions is None else self.conditions
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 4 * LARGEST_STEPS:
            raise ValueError(f"conditions must be an integer from 1 to {4 * LARGEST_STEPS}, got {count!r}")
        object.__setattr__(self, "conditions", count)

    def _read_fixed(self, pairs: Mapping[str, Any], possible: Sequence[str]) -> tuple[tuple[str, Expr], ...]:
        names = symbols.code_names(self.steps)
        coefficients = {names[c] for c in possible}
        read = []
        for coefficient in possible:
            if coefficient in pairs:
                value = expression(pairs[coefficient], names, f"fixed[{coefficient!r}]")
                others = sorted(str(s) for s in value.free_symbols & coefficients)
                if others:
                    raise ValueError(f"fixed[{coefficient!r}] may not depend on another coefficient ({', '.join(others)})")
                read.append((coefficient, value))
        return tuple(read)

    def _read_basis(self, basis: Any) -> tuple[Expr, ...]:
        if isinstance(basis, (str, Expr)):
            basis = split(basis) if isinstance(basis, str) else [basis]
        names = {"sigma_bar": symbols.SIGMA_BAR, "s": symbols.SIGMA_BAR}
        functions = tuple(expression(value, names, "basis") for value in basis)
        if not functions:
            raise ValueError("basis is empty: give at least one function of sigma_bar")
        for function in functions:
            slope = diff(function, symbols.SIGMA_BAR)
            if function.is_zero or slope.has(zoo, nan) or not (function.is_number or function.has(symbols.SIGMA_BAR)):
                raise ValueError(f"basis: {function} is not a function of sigma_bar that can be reproduced")
        if len(functions) > len(self.unknown):
            raise ValueError(f"basis has {len(functions)} functions for {len(self.unknown)} unknowns ({', '.join(self.unknown)})")
        return functions

    @property
    def a(self) -> tuple[Expr, ...]:
        """a_1 … a_k: the symbol where unknown, the given expression where fixed, else 0."""
        return tuple(self._entry(f"a{j}", symbols.a(j)) for j in range(1, self.steps + 1))

    @property
    def b(self) -> tuple[Expr, ...]:
        """b_0 … b_k, likewise."""
        return tuple(self._entry(f"b{j}", symbols.b(j)) for j in range(self.steps + 1))

    @property
    def unknown_symbols(self) -> tuple[Symbol, ...]:
        """The unknowns in the order of elimination, b before a and young before old, so that the oldest a stay free."""
        names = symbols.code_names(self.steps)
        return tuple(names[c] for c in sorted(self.unknown, key=lambda c: (c[0] == "a", int(c[1:]))))

    @property
    def explicit(self) -> bool:
        """The row does not read the slope of the state it computes."""
        return self.b[0] == 0

    def _entry(self, coefficient: str, symbol: Symbol) -> Expr:
        if coefficient in self.unknown:
            return symbol
        return dict(self.fixed).get(coefficient, Integer(0))


def split(text: str) -> list[str]:
    """ "1, sigma_bar, f(x)" -> its parts, splitting at commas outside parentheses."""
    return [part.strip() for part in re.split(r",(?![^()]*\))", text) if part.strip()]
