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
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {value}")
    return float(value)


def text(value: float) -> str:
    """A number as in a formula's name: the shortest text that reads back as the same float, 1 rather than 1.0."""
    return repr(float(value)).removesuffix(".0")
