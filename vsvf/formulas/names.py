"""Names of methods, such as "belm(2)" or "root_placed_belm((-1,),0)": the one parser of them, for formulas and for patterns."""

from __future__ import annotations

import ast
import cmath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

LONGEST = 2000  # characters
LARGEST = 1e300


@dataclass(frozen=True)
class Call:
    """A method as an argument of another: its family and its own arguments, none where the family stands alone."""

    family: str
    arguments: tuple[Any, ...]


def split(name: object, known: Iterable[str], what: str = "formula", example: str = "belm(2)") -> tuple[str, str]:
    """The family and the text of its arguments, "" where there are none.

    Args:
        name: the name. known: the families there are. what, example: for the message.

    Raises:
        ValueError: no name of a known family.
    """
    text = str(name)
    match = re.fullmatch(r"\s*([a-z_]+)\s*(?:\((.*)\))?\s*", text, re.DOTALL) if len(text) <= LONGEST else None
    families = tuple(known)
    if match is None or match[1] not in families:
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        raise ValueError(f"{what} {shown!r} is not known; choose from {', '.join(families)}, as in {example!r}")
    return match[1], (match[2] or "").strip()


def numbers(text: str, name: object, what: str = "formula") -> tuple[Any, ...]:
    """The arguments of a name: numbers and fractions of them, True and False, and tuples of these.

    Args:
        text: as `split` returns it. name, what: for the message.

    Raises:
        ValueError: something else, or a number that is not finite or beyond 1e300.
    """
    return _read(text, name, what, nested=False)


def arguments(text: str, name: object) -> tuple[Any, ...]:
    """As `numbers`, and formulas, each a `Call`: "corrected(stable_belm(3), 0.7)" has one. Nothing is executed.

    Raises:
        ValueError: as `numbers`.
    """
    return _read(text, name, "formula", nested=True)


def _read(text: str, name: object, what: str, nested: bool) -> tuple[Any, ...]:
    if not text:
        return ()
    try:
        return _value(ast.parse(f"({text},)", mode="eval").body, nested)
    except _TooLargeError:
        raise ValueError(f"{what} {str(name)[:80]!r}: the numbers in parentheses must be finite and below {LARGEST:g}") from None
    except (SyntaxError, ValueError, TypeError, ZeroDivisionError, RecursionError, MemoryError):
        accepted = "numbers or formulas" if nested else "numbers"
        raise ValueError(f"{what} {str(name)[:80]!r}: the arguments in parentheses must be {accepted}") from None


class _TooLargeError(Exception):
    pass


def _value(node: ast.expr, nested: bool) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, complex)):
        return _in_range(node.value)
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_value(item, nested) for item in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        value = _number(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub, ast.Div)):  # a complex number, a fraction
        left, right = _number(node.left), _number(node.right)
        if isinstance(node.op, ast.Div):
            return _in_range(left / right)
        return left + right if isinstance(node.op, ast.Add) else left - right
    if nested and isinstance(node, ast.Name):
        return Call(node.id, ())
    if nested and isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return Call(node.func.id, tuple(_value(argument, nested) for argument in node.args))
    raise ValueError


def _in_range(value: Any) -> Any:
    if (not isinstance(value, int) and not cmath.isfinite(value)) or abs(value) > LARGEST:
        raise _TooLargeError
    return value


def _number(node: ast.expr) -> Any:
    value = _value(node, nested=False)
    if isinstance(value, (bool, tuple)):
        raise ValueError
    return value
