"""Search space: the dimensions of a search, by dotted key of the training settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.config import Config, flat_values
from tune.dimensions import Choice, Range

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


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
