"""Expressions from text, by walking Python's syntax tree: numbers, names, + - * / **, and a few functions. No eval.

What is read stays small: a short text such as ((9**99)**99)**99 can stand for a number that no machine holds.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import sympy

FUNCTIONS = {name: getattr(sympy, name) for name in ("sqrt", "log", "exp", "sin", "cos", "tan", "sinh", "cosh", "tanh")}
LONGEST = 1000  # characters
LARGEST_EXPONENT = 100  # of any power in the result
LARGEST_BITS = 4000  # of any numerator or denominator


def expression(value: Any, names: Mapping[str, sympy.Symbol], what: str) -> sympy.Expr:
    """`value` as an exact sympy expression.

    Args:
        value: a sympy expression, a number (floats are read as the decimals they print as) or text such as
            "gamma*alpha2/alpha0".
        names: spellings with a fixed meaning; any other name becomes a parameter.
        what: the argument's name, for errors.

    Raises:
        ValueError: text that is not such an expression, or is one too large to be computed with.
    """
    if isinstance(value, sympy.Expr):
        return sympy.nsimplify(value, rational=True) if value.has(sympy.Float) else value
    if isinstance(value, (int, float, Fraction)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a number, text or a sympy expression, got {value!r}")
    if len(value) > LONGEST:
        raise ValueError(f"{what} must have at most {LONGEST} characters, got {len(value)}")
    shown = value if len(value) <= 80 else f"{value[:77]}..."
    try:
        result = _convert(ast.parse(value.strip(), mode="eval").body, names)
    except _TooLargeError:
        raise ValueError(
            f"{what}: {shown!r} is too large: numbers may have {LARGEST_BITS} bits, and powers and arguments of functions go up to "
            f"{LARGEST_EXPONENT}"
        ) from None
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError, _NotAnExpressionError, ZeroDivisionError):
        raise ValueError(
            f"{what}: {shown!r} is not an expression of numbers, names, + - * / ** and {', '.join(FUNCTIONS)}"
        ) from None
    if not result.is_finite and result.is_number:
        raise ValueError(f"{what}: {shown!r} is not finite")
    return result


class _NotAnExpressionError(Exception):
    pass


class _TooLargeError(Exception):
    pass


def _convert(node: ast.expr, names: Mapping[str, sympy.Symbol]) -> sympy.Expr:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        if isinstance(node.value, float) and not math.isfinite(node.value):
            raise _TooLargeError
        return _bounded(sympy.Rational(node.value if isinstance(node.value, int) else str(node.value)))
    if isinstance(node, ast.Name):
        return names.get(node.id, sympy.Symbol(node.id))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        operand = _convert(node.operand, names)
        return -operand if isinstance(node.op, ast.USub) else operand
    if isinstance(node, ast.BinOp):
        left, right = _convert(node.left, names), _convert(node.right, names)
        if isinstance(node.op, ast.Add):
            return _bounded(left + right)
        if isinstance(node.op, ast.Sub):
            return _bounded(left - right)
        if isinstance(node.op, ast.Mult):
            return _bounded(left * right)
        if isinstance(node.op, ast.Div):
            return _bounded(left / right)
        if isinstance(node.op, ast.Pow):
            return _bounded(_power(left, right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
        if len(node.args) == 1 and not node.keywords:
            argument = _convert(node.args[0], names)
            if argument.is_number and node.func.id not in ("sqrt", "log"):
                _small(argument)
            return _bounded(FUNCTIONS[node.func.id](argument))
    raise _NotAnExpressionError


def _power(base: sympy.Expr, exponent: sympy.Expr) -> sympy.Expr:
    if not exponent.is_number:
        raise _NotAnExpressionError
    _small(exponent)
    if base.is_Rational and exponent.is_Rational:  # refused before it is computed
        bits = max(int(base.p).bit_length(), int(base.q).bit_length())
        if bits * abs(exponent) > LARGEST_BITS or int(exponent.q) > LARGEST_EXPONENT:
            raise _TooLargeError
    return base**exponent


def _small(number: sympy.Expr) -> None:
    """Refuse a number beyond the largest exponent, or one that is no real number."""
    if number.is_finite is False or not number.is_real:
        raise _NotAnExpressionError
    if abs(number) > LARGEST_EXPONENT:
        raise _TooLargeError


def _bounded(result: sympy.Expr) -> sympy.Expr:
    """The result, if its numbers and its powers are small."""
    for number in result.atoms(sympy.Rational):
        if max(int(number.p).bit_length(), int(number.q).bit_length()) > LARGEST_BITS:
            raise _TooLargeError
    for power in result.atoms(sympy.Pow):
        if power.exp.is_number and abs(power.exp) > LARGEST_EXPONENT:
            raise _TooLargeError
    return result
