"""Expressions from text, by walking Python's syntax tree: numbers, names, + - * / **, and a few functions. No eval."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import sympy

FUNCTIONS = {name: getattr(sympy, name) for name in ("sqrt", "log", "exp", "sin", "cos", "tan", "sinh", "cosh", "tanh")}


def expression(value: Any, names: Mapping[str, sympy.Symbol], what: str) -> sympy.Expr:
    """`value` as an exact sympy expression.

    Args:
        value: a sympy expression, a number (floats are read as the decimals they print as) or text such as
            "gamma*alpha2/alpha0".
        names: spellings with a fixed meaning; any other name becomes a parameter.
        what: the argument's name, for errors.

    Raises:
        ValueError: text that is not such an expression.
    """
    if isinstance(value, sympy.Expr):
        return sympy.nsimplify(value, rational=True) if value.has(sympy.Float) else value
    if isinstance(value, (int, float, Fraction)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a number, text or a sympy expression, got {value!r}")
    try:
        result = _convert(ast.parse(value.strip(), mode="eval").body, names)
    except (SyntaxError, _NotAnExpressionError, ZeroDivisionError):
        raise ValueError(
            f"{what}: {value!r} is not an expression of numbers, names, + - * / ** and {', '.join(FUNCTIONS)}"
        ) from None
    if not result.is_finite and result.is_number:
        raise ValueError(f"{what}: {value!r} is not finite")
    return result


class _NotAnExpressionError(Exception):
    pass


def _convert(node: ast.expr, names: Mapping[str, sympy.Symbol]) -> sympy.Expr:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return sympy.Rational(str(node.value))
    if isinstance(node, ast.Name):
        return names.get(node.id, sympy.Symbol(node.id))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        operand = _convert(node.operand, names)
        return -operand if isinstance(node.op, ast.USub) else operand
    if isinstance(node, ast.BinOp):
        left, right = _convert(node.left, names), _convert(node.right, names)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div):
            return left / right
        if isinstance(node.op, ast.Pow) and right.is_number and abs(right) <= 100:
            return left**right
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
        if len(node.args) == 1 and not node.keywords:
            return FUNCTIONS[node.func.id](_convert(node.args[0], names))
    raise _NotAnExpressionError
