"""Checks of arguments that a Python program passes; errors name the argument, its value and the fix."""

from __future__ import annotations

import math
import numbers
from typing import Any

# Longest value that an error shows.
_MAX_SHOWN = 60


def shown_value(value: Any) -> str:
    """Return a value for an error message: in one line, not too long, an array by its type and shape."""
    if getattr(value, "shape", None):
        return f"of type {type(value).__name__} and shape {tuple(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def check_integer(name: str, value: Any, minimum: int) -> int:
    """Return a whole number of any type as int.

    Raises:
        ValueError: it is none, or below `minimum`.
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or value < minimum:
        raise ValueError(f"{name} {shown_value(value)}: expected a whole number of {minimum} or more")
    return int(value)


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, unit: str = "", open_low: bool = False
) -> float:
    """Return a number of any type as float.

    Raises:
        ValueError: it is none, not finite, or outside of [low, high] or (low, high].
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high or (open_low and value == low):
        bound = f"above {low:g}" if open_low else f"of at least {low:g}"
        limit = "" if high == math.inf else f" and at most {high:g}"
        raise ValueError(f"{name} {shown_value(value)}: expected a number {bound}{limit}{unit and ' '}{unit}")
    return float(value)
