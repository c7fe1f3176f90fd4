"""What is searched: dotted keys of a training's settings, each with a range or a list of choices.

learning_rate: {low: 0.0005, high: 0.008, log: true}
model.channels: [[16, 32, 64, 128], [32, 64, 128, 256]]
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, model_validator

from models.config import Config, ConfigError, flat_values, leaf_fields
from pipeline.distributed.resources import ResourceConfig
from pipeline.training.config import TrainingConfig

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# Keys that a search sets itself, or that don't change what is learnt, and the flag that sets them.
_FIXED = {
    "epochs": "--max-epochs",
    "monitor": "--metric",
    "seed": "--seed",
    "fold": "--fold",
    "num_folds": "--num-folds",
}
_FIXED |= {
    "val_fraction": "--val-fraction",
    "val_split": "--inner-folds",
    "shards": "--shards",
    "run": "--run",
}
_FIXED |= {
    "keep": "nothing: a search keeps the best epoch",
    "extra_shards": "--base",
    "select_best": "nothing: the judge scores the trials",
}
_FIXED |= dict.fromkeys(ResourceConfig.model_fields, "--workers-per-trial and its like")


class Range(Config):
    """Numbers from `low` to `high`, both included."""

    low: float
    """Least value."""
    high: float
    """Greatest value."""
    log: bool = False
    """Search evenly in the logarithm, as for a learning rate."""
    whole: bool = Field(False, exclude=True)
    """Whole numbers only: set by the key's type."""

    @model_validator(mode="after")
    def _check(self) -> Range:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"an empty range: low {self.low:g} must be less than high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs low > 0, not {self.low:g}")
        return self

    def distribution(self) -> BaseDistribution:
        """The same for Optuna."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(round(self.low), round(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def contains(self, value: Any) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def to_raw(self, value: Any) -> Any:
        """A setting's value as searchers see it."""
        return value

    def to_value(self, raw: Any) -> Any:
        """What a searcher suggests as a setting's value, inside the range."""
        value = min(max(float(raw), self.low), self.high)
        return round(value) if self.whole else value

    def to_unit(self, value: float) -> float:
        """The place of a value in the range, from 0 to 1; on a log scale where the range has one."""
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (at - low) / (high - low)

    def draw(self, rng: np.random.Generator) -> Any:
        """A value by chance, evenly on the range's scale."""
        return self.from_unit(rng.random())

    def from_unit(self, place: float) -> Any:
        """The value at a place of the range."""
        low, high = (math.log(v) if self.log else v for v in (self.low, self.high))
        at = low + min(max(place, 0.0), 1.0) * (high - low)
        return self.to_value(math.exp(at) if self.log else at)


class Choice(Config):
    """One of a few values."""

    choices: tuple[Any, ...] = Field(min_length=2)
    """The values."""

    @model_validator(mode="after")
    def _check(self) -> Choice:
        if len({_text(one) for one in self.choices}) < len(self.choices):
            raise ValueError("a choice stands twice")
        return self

    def distribution(self) -> BaseDistribution:
        """The same for Optuna, which wants plain values: a list goes by its text."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution([_text(one) for one in self.choices])

    def contains(self, value: Any) -> bool:
        return _text(value) in {_text(one) for one in self.choices}

    def to_raw(self, value: Any) -> str:
        """A setting's value as searchers see it."""
        return _text(value)

    def to_value(self, raw: Any) -> Any:
        """What a searcher suggests as a setting's value."""
        return next(one for one in self.choices if _text(one) == raw)

    def to_unit(self, value: Any) -> float:
        """The place of a value among the choices, from 0 to 1."""
        return [_text(one) for one in self.choices].index(_text(value)) / (len(self.choices) - 1)

    def draw(self, rng: np.random.Generator) -> Any:
        """A choice by chance."""
        return self.choices[int(rng.integers(len(self.choices)))]

    def from_unit(self, place: float) -> Any:
        """The choice that is nearest to a place."""
        return self.choices[round(min(max(place, 0.0), 1.0) * (len(self.choices) - 1))]


@dataclass(frozen=True)
class SearchSpace:
    """All that is searched, by dotted key."""

    dimensions: dict[str, Range | Choice]
    unit: bool = False
    """Ray Tune sees places from 0 to 1 instead of values, on a log scale where there is one: for pb2, whose model is linear."""

    def values(self) -> dict[str, Any]:
        """As in the file that it came from."""
        return {
            key: list(one.choices)
            if isinstance(one, Choice)
            else {k: v for k, v in one.to_dict().items() if v is not False}
            for key, one in self.dimensions.items()
        }

    def distributions(self) -> dict[str, BaseDistribution]:
        """For Optuna."""
        return {key: one.distribution() for key, one in self.dimensions.items()}

    def read(self, settings: Config) -> dict[str, Any]:
        """The values that settings have at the keys of the space."""
        flat = flat_values(settings.to_dict())
        return {key: flat[key] for key in self.dimensions}

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Whether all values lie in their ranges."""
        return all(one.contains(values[key]) for key, one in self.dimensions.items())

    def to_raw(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values as Optuna sees them."""
        return {key: one.to_raw(values[key]) for key, one in self.dimensions.items()}

    def encode(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values as Ray Tune sees them."""
        return (
            {key: one.to_unit(values[key]) for key, one in self.dimensions.items()}
            if self.unit
            else self.to_raw(values)
        )

    def decode(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """What Ray Tune says, as values of settings."""
        return {
            key: one.from_unit(raw[key]) if self.unit else one.to_value(raw[key])
            for key, one in self.dimensions.items()
        }


def parse_space(values: Mapping[str, Any], base: TrainingConfig, source: str) -> SearchSpace:
    """The space that `values`, from a YAML file called `source`, describe, checked against the settings that it changes.

    Raises:
        ConfigError: an unknown or fixed key, an empty range, a range or choice that the key's field refuses.
    """
    if not values:
        raise ConfigError(
            f"{source}: an empty space: name at least one key with a range, such as learning_rate: {{low: 0.0005, high: 0.008}}"
        )
    known = leaf_fields(type(base))
    dimensions: dict[str, Range | Choice] = {}
    for key, given in values.items():
        if key in _FIXED:
            raise ConfigError(f"{source}: '{key}' can't be searched: it is set by {_FIXED[key]}")
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = (
                f"did you mean '{near[0]}'?"
                if near
                else f"known keys: {', '.join(sorted(set(known) - set(_FIXED)))}"
            )
            raise ConfigError(f"{source}: unknown key '{key}'; {hint}")
        dimensions[key] = _dimension(key, given, _numeric(known[key].annotation), source)
        _try(base, key, dimensions[key], source)
    return SearchSpace(dimensions)


def _dimension(key: str, given: Any, number: type | None, source: str) -> Range | Choice:
    where = f"{source}: '{key}'"
    if isinstance(given, list):
        given = {"choices": given}
    if not isinstance(given, dict):
        raise ConfigError(f"{where} = {given!r}: must be a range {{low: …, high: …}} or a list of choices")
    if "choices" in given:
        return Choice.parse(given, where)
    if number is None:
        raise ConfigError(f"{where}: takes a list of choices, not a range: it is no number")
    return Range.parse({**given, "whole": number is int}, where)


def _numeric(annotation: Any) -> type | None:
    """`int` or `float` where a field holds such numbers, also where it may be None."""
    kinds = [annotation, *getattr(annotation, "__args__", ())]
    return next((kind for kind in (int, float) if kind in kinds), None)


def _try(base: TrainingConfig, key: str, dimension: Range | Choice, source: str) -> None:
    """Has the settings themselves check both ends of a range, and all choices."""
    tried = (
        dimension.choices
        if isinstance(dimension, Choice)
        else [dimension.to_value(dimension.low), dimension.to_value(dimension.high)]
    )
    for value in tried:
        try:
            base.with_overrides({key: value})
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
