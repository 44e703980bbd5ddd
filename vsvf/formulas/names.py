"""Names of methods, such as "belm(2)" or "root_placed_belm((-1,),0)": the one parser of them, for formulas and for patterns."""

from __future__ import annotations

import ast
import cmath
import re
from collections.abc import Iterable
from typing import Any

LONGEST = 2000  # characters
LARGEST = 1e300


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
    """The arguments of a name: numbers, True and False, and tuples of these.

    Args:
        text: as `split` returns it. name, what: for the message.

    Raises:
        ValueError: something else, or a number that is not finite or beyond 1e300.
    """
    if not text:
        return ()
    try:
        return _value(ast.parse(f"({text},)", mode="eval").body)
    except _TooLargeError:
        raise ValueError(f"{what} {str(name)[:80]!r}: the numbers in parentheses must be finite and below {LARGEST:g}") from None
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(f"{what} {str(name)[:80]!r}: the arguments in parentheses must be numbers") from None


class _TooLargeError(Exception):
    pass


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, complex)):
        if (not isinstance(node.value, int) and not cmath.isfinite(node.value)) or abs(node.value) > LARGEST:
            raise _TooLargeError
        return node.value
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        value = _number(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):  # a complex number
        left, right = _number(node.left), _number(node.right)
        return left + right if isinstance(node.op, ast.Add) else left - right
    raise ValueError


def _number(node: ast.expr) -> Any:
    value = _value(node)
    if isinstance(value, (bool, tuple)):
        raise ValueError
    return value
