"""Dimensions of a search space: a range of numbers, or a list of choices."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from models.config import Config

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class Range(Config):
    """Numbers from `low` to `high`, both included."""

    low: float
    """Minimum."""
    high: float
    """Maximum."""
    log: bool = False
    """Sample on a log scale, such as for a learning rate."""
    integer: ClassVar = False
    """Whether all values are whole."""

    @model_validator(mode="after")
    def _check(self) -> Range:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"empty range: low {self.low:g} must be less than high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs low > 0, not {self.low:g}")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            # Rounded ends would be outside the range.
            raise ValueError(f"low {self.low:g} and high {self.high:g} must be whole numbers")
        return self

    def distribution(self) -> BaseDistribution:
        """Return the range as an Optuna distribution."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.integer:
            return IntDistribution(round(self.low), round(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def contains(self, value: Any) -> bool:
        """Return whether a value is inside the range."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def to_raw(self, value: Any) -> Any:
        """Convert a value of the settings to a searcher's."""
        return value

    def to_value(self, raw: Any) -> Any:
        """Convert a searcher's value to one of the settings, clipped to the range."""
        value = min(max(float(raw), self.low), self.high)
        return round(value) if self.integer else value

    def size(self) -> float:
        """Return the number of different values; infinite for real numbers."""
        return round(self.high) - round(self.low) + 1 if self.integer else math.inf

    def to_unit(self, value: float) -> float:
        """Return the relative position of a value in the range, 0 to 1; on a log scale if `log`."""
        low, high, position = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (position - low) / (high - low)

    def sample(self, rng: np.random.Generator) -> Any:
        """Sample a value uniformly, on a log scale if `log`."""
        return self.from_unit(rng.random())

    def from_unit(self, position: float) -> Any:
        """Return the value at a relative position, which is clipped to 0 to 1."""
        low, high = (math.log(v) if self.log else v for v in (self.low, self.high))
        scaled = low + min(max(position, 0.0), 1.0) * (high - low)
        return self.to_value(math.exp(scaled) if self.log else scaled)


class IntegerRange(Range):
    """Integers from `low` to `high`, both included, for settings that are integers."""

    integer: ClassVar = True


class Choice(Config):
    """List of choices."""

    choices: tuple[Any, ...] = Field(min_length=2)
    """Values to choose from."""

    @model_validator(mode="after")
    def _check(self) -> Choice:
        if len({_to_text(choice) for choice in self.choices}) < len(self.choices):
            raise ValueError("duplicate choice")
        return self

    def distribution(self) -> BaseDistribution:
        """Return the choices as an Optuna distribution, which needs scalars: lists are encoded as text."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution([_to_text(choice) for choice in self.choices])

    def contains(self, value: Any) -> bool:
        """Return whether a value is one of the choices."""
        return _to_text(value) in {_to_text(choice) for choice in self.choices}

    def to_raw(self, value: Any) -> str:
        """Convert a value of the settings to a searcher's."""
        return _to_text(value)

    def to_value(self, raw: Any) -> Any:
        """Convert a searcher's value to one of the settings."""
        return next(choice for choice in self.choices if _to_text(choice) == raw)

    def size(self) -> float:
        """Return the number of choices."""
        return len(self.choices)

    def to_unit(self, value: Any) -> float:
        """Return the relative position of a value in the list of choices, 0 to 1."""
        return [_to_text(choice) for choice in self.choices].index(_to_text(value)) / (len(self.choices) - 1)

    def sample(self, rng: np.random.Generator) -> Any:
        """Sample a choice uniformly."""
        return self.choices[int(rng.integers(len(self.choices)))]

    def from_unit(self, position: float) -> Any:
        """Return the choice nearest to a relative position, which is clipped to 0 to 1."""
        return self.choices[round(min(max(position, 0.0), 1.0) * (len(self.choices) - 1))]


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
