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


def check_integer(name: str, value: Any, minimum: int | None = None) -> int:
    """Return a whole number of any type as int.

    Raises:
        ValueError: it is none, or below `minimum`.
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or (minimum is not None and value < minimum):
        limit = "" if minimum is None else f" of {minimum} or more"
        raise ValueError(f"{name} {shown_value(value)}: expected a whole number{limit}")
    return int(value)


def check_number(name: str, value: Any, low: float, high: float = math.inf, unit: str = "") -> float:
    """Return a number of any type as float.

    Raises:
        ValueError: it is none, not finite, or outside of [low, high].
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        limits = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:,.12g}"
        raise ValueError(f"{name} {shown_value(value)}: expected a number {limits}{unit and ' '}{unit}")
    return float(value)
