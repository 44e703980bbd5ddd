"""Argument checks that the formula constructors share."""

from __future__ import annotations

import numpy as np


def whole_number(name: str, value: object, low: int, high: int | None = None) -> int:
    """`value` as an int in [low, high], or a ValueError that says what would be accepted."""
    bounds = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{name} must be {bounds}, got {value!r}")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name} must be {bounds}, got {value}")
    return int(value)


def fraction(name: str, value: float, low: float = 0.0, high: float = 1.0) -> float:
    """`value` as a float in [low, high], or a ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"{name} must be a number in [{low:g}, {high:g}], got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {value}")
    return float(value)


def text(value: float) -> str:
    """A number as in a formula's name: the shortest text that reads back as the same float, 1 rather than 1.0."""
    return repr(float(value)).removesuffix(".0")


def real(name: str, value: object, low: float | None = None) -> float:
    """`value` as a finite float, from `low` on where that is given, or a ValueError."""
    wanted = "a finite number" if low is None else f"a finite number from {low:g} on"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        raise ValueError(f"{name} must be {wanted}, got a whole number beyond 1e308") from None
    if not np.isfinite(number) or (low is not None and number < low):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return number
