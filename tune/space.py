"""Search space: dotted keys of the training settings, each with a range or a list of choices.

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
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.training.config import TrainingConfig

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# Keys that cannot be tuned, and the reason: set by the search, or without effect on training.
FIXED_KEYS = {
    "epochs": "set by --max-epochs",
    "monitor": "set by --metric",
    "multi_label": "set in --base",
    "refit": "for the run of the result, as trials need validation clips",
    "ensemble": "for the run of the result, as a trial is one model",
    "seed": "set by --seed",
    "split_seed": "set by --seed",
    "fold": "set by --fold",
    "num_folds": "set by --num-folds",
    "val_fraction": "set by --val-fraction",
    "val_split": "set by --inner-folds",
    "shards": "set by --shards",
    "run": "set by --run",
    "keep": "always best",
    "extra_shards": "set in --base",
    "log_to": "set by --log-to",
    "sample_every": "set in --base",
    "samples_per_class": "set in --base",
    "select_best": "always true",
    "data_placement": "set in --base",
    "checkpoint_minutes": "set in --base",
    **dict.fromkeys(ResourceConfig.model_fields, "set by --workers-per-trial and similar flags"),
}


class Range(Config):
    """Numbers from `low` to `high`, both included."""

    low: float
    """Minimum."""
    high: float
    """Maximum."""
    log: bool = False
    """Sample on a log scale, such as for a learning rate."""
    integer: bool = Field(False, exclude=True)
    """Integers only; set from the type of the key."""

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


@dataclass(frozen=True)
class SearchSpace:
    """Hyperparameters to tune, by dotted key."""

    dimensions: dict[str, Range | Choice]
    normalized: bool = False
    """Give Ray Tune relative positions from 0 to 1 instead of values; PB2 fits a Gaussian process to them."""

    def to_dict(self) -> dict[str, Any]:
        """Return the space as in its YAML file."""
        return {
            key: list(dimension.choices)
            if isinstance(dimension, Choice)
            else {name: value for name, value in dimension.to_dict().items() if value is not False}
            for key, dimension in self.dimensions.items()
        }

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the space as Optuna distributions."""
        return {key: dimension.distribution() for key, dimension in self.dimensions.items()}

    def size(self) -> float:
        """Return the number of different settings; infinite with a range of real numbers."""
        return math.prod(dimension.size() for dimension in self.dimensions.values())

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """Sample a value of each dimension, as the settings hold it."""
        return {key: dimension.sample(rng) for key, dimension in self.dimensions.items()}

    def read(self, settings: Config) -> dict[str, Any]:
        """Return the values that settings have at the keys of the space."""
        flat = flat_values(settings.to_dict())
        return {key: flat[key] for key in self.dimensions}

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Return whether all values are inside the space."""
        return all(dimension.contains(params[key]) for key, dimension in self.dimensions.items())

    def to_raw(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Convert values of the settings to Optuna's."""
        return {key: dimension.to_raw(params[key]) for key, dimension in self.dimensions.items()}

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Convert values of the settings to Ray Tune's."""
        if not self.normalized:
            return self.to_raw(params)
        return {key: dimension.to_unit(params[key]) for key, dimension in self.dimensions.items()}

    def decode(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Convert values of Ray Tune to the settings'."""
        return {
            key: dimension.from_unit(raw[key]) if self.normalized else dimension.to_value(raw[key])
            for key, dimension in self.dimensions.items()
        }


def parse_space(values: Mapping[str, Any], base: TrainingConfig, source: str) -> SearchSpace:
    """Parse a search space and validate it with the settings that it changes.

    Args:
        values: content of a YAML file.
        base: settings of the training runs.
        source: name of the file, for messages.

    Raises:
        ConfigError: an unknown or fixed key, an empty range, or values that the key's field rejects.
    """
    if not values:
        raise ConfigError(
            f"{source}: empty search space; add at least one key with a range, such as "
            "learning_rate: {low: 0.0005, high: 0.008}"
        )
    fields = leaf_fields(type(base))
    dimensions: dict[str, Range | Choice] = {}
    for key, value in values.items():
        if key in FIXED_KEYS:
            raise ConfigError(f"{source}: '{key}' cannot be tuned: it is {FIXED_KEYS[key]}")
        if key not in fields:
            raise ConfigError(f"{source}: unknown key '{key}'; {_hint(key, value, fields)}")
        dimension = _parse_dimension(key, value, _numeric_type(fields[key].annotation), source)
        dimensions[key] = _validate_values(base, key, dimension, source)
    return SearchSpace(dimensions)


def _hint(key: str, value: Any, fields: Mapping[str, Any]) -> str:
    """Return what to write instead of an unknown key."""
    tunable = sorted(set(fields) - set(FIXED_KEYS))
    nested = [f"{key}.{name}" for name in value] if isinstance(value, dict) else []
    if any(name in fields for name in nested):
        return f"keys of groups are written with dots, as in '{nested[0]}: …'"
    matches = difflib.get_close_matches(key, tunable, n=1, cutoff=0.5)
    return f"did you mean '{matches[0]}'?" if matches else f"known keys: {', '.join(tunable)}"


def _parse_dimension(key: str, value: Any, number_type: type | None, source: str) -> Range | Choice:
    prefix = f"{source}: '{key}'"
    if isinstance(value, list):
        value = {"choices": value}
    if not isinstance(value, dict):
        raise ConfigError(f"{prefix} = {value!r}: must be a range {{low: …, high: …}} or a list of choices")
    if "choices" in value:
        if value["choices"] == []:
            raise ConfigError(f"{prefix}: no choices; list two or more values, or remove the key")
        if isinstance(value["choices"], list) and len(value["choices"]) == 1:
            raise ConfigError(f"{prefix}: a single choice is nothing to search; set it in --base instead")
        return Choice.parse(value, prefix)
    if "integer" in value:
        raise ConfigError(
            f"{prefix}: unknown key 'integer'; the setting itself says whether values are whole"
        )
    if number_type is None:
        raise ConfigError(f"{prefix}: not numeric; use a list of choices instead of a range")
    return Range.parse({**value, "integer": number_type is int}, prefix)


def _numeric_type(annotation: Any) -> type | None:
    """Return `int` or `float` if a field holds such numbers, also if it may be None."""
    types = [annotation, *getattr(annotation, "__args__", ())]
    return next((number_type for number_type in (int, float) if number_type in types), None)


def _validate_values(
    base: TrainingConfig, key: str, dimension: Range | Choice, source: str
) -> Range | Choice:
    """Validate both ends of a range, or all choices, against the training settings.

    Returns:
        The dimension with choices as the settings hold them: `"1e-3"` as a number, `8.0` as an integer.
    """
    if isinstance(dimension, Range):
        for end in (dimension.low, dimension.high):
            _setting(base, key, dimension.to_value(end), source)
        return dimension
    choices = [_setting(base, key, choice, source) for choice in dimension.choices]
    return Choice.parse({"choices": choices}, f"{source}: '{key}'")


def _setting(base: TrainingConfig, key: str, value: Any, source: str) -> Any:
    """Return a value as the training settings hold it; raise `ConfigError` if they reject it."""
    try:
        return flat_values(base.with_overrides({key: value}).to_dict())[key]
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
