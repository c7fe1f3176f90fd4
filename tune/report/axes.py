"""Axes of the figures of a search: ranges, ticks and positions of scores and of hyperparameters."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.charts import plain, truncate
from tune.dimensions import Choice, Range
from tune.report.results import Metric, format_value
from tune.trials import Trial

# An outlier, as of a run that diverged, would hide all other differences: the axis ends at the median
# plus this factor times the distance between the best score and the median.
OUTLIER_FACTOR = 4.0
MAX_TICKS = 8
MAX_TICK_NAME = 18


@dataclass(frozen=True)
class ScoreAxis:
    """Range of the axis of scores; scores outside are drawn at its end."""

    metric: Metric
    low: float
    high: float

    @classmethod
    def from_scores(cls, metric: Metric, scores: Sequence[float]) -> ScoreAxis:
        """Return a range for scores, at least one, without the outliers of a metric that has no bounds."""
        low, high = min(scores), max(scores)
        if not metric.is_fraction:
            median = statistics.median(scores)
            if metric.mode == "max" and median < high:
                low = max(low, median - OUTLIER_FACTOR * (high - median))
            elif metric.mode == "min" and median > low:
                high = min(high, median + OUTLIER_FACTOR * (median - low))
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            room = 0.05 if metric.is_fraction else abs(low) / 10 or 1.0
            low, high = low - room, high + room
        if metric.is_fraction:
            low, high = max(low, 0.0), min(high, 1.0)
        return cls(metric, low, high)

    def clip(self, score: float) -> float:
        """Move a score into the range."""
        return min(max(score, self.low), self.high)

    def position(self, score: float) -> float:
        """Return the relative position of a score in the range, 0 to 1."""
        return (self.clip(score) - self.low) / (self.high - self.low)

    def layout(self, margin: float = 0.06) -> dict[str, Any]:
        """Return the layout of a Plotly axis with a relative margin at both ends."""
        room = margin * (self.high - self.low)
        layout = {"range": [self.low - room, self.high + room], "title_text": plain(self.metric.label)}
        return layout | ({"tickformat": ".3~%"} if self.metric.is_fraction else {})


@dataclass(frozen=True)
class ParamAxis:
    """Axis of a hyperparameter, with room for values outside its search space."""

    key: str
    dimension: Range | Choice

    @classmethod
    def from_trials(cls, key: str, dimension: Range | Choice, trials: Sequence[Trial]) -> ParamAxis:
        """Extend a dimension to the values of trials, which may be from before the space was changed."""
        values = [trial.params[key] for trial in trials if key in trial.params]
        if isinstance(dimension, Choice):
            others = {format_value(value): value for value in values if not dimension.contains(value)}
            update: dict[str, Any] = {"choices": (*dimension.choices, *others.values())}
        else:
            numbers = [
                value
                for value in values
                if isinstance(value, int | float)
                and math.isfinite(value)
                and (value > 0 or not dimension.log)
            ]
            update = {"low": min([dimension.low, *numbers]), "high": max([dimension.high, *numbers])}
        return cls(key, dimension.model_copy(update=update))

    @property
    def num_choices(self) -> int:
        """Number of choices; 0 for a range."""
        return len(self.dimension.choices) if isinstance(self.dimension, Choice) else 0

    def position(self, trial: Trial) -> float | None:
        """Return the relative position of a trial's value, 0 to 1; none if it is missing or no number."""
        if self.key not in trial.params or not self.dimension.contains(trial.params[self.key]):
            return None
        return self.dimension.to_unit(trial.params[self.key])

    def coordinate(self, trial: Trial) -> float | None:
        """Return a trial's value on a Plotly axis: the number, or the index of the choice with jitter."""
        position = self.position(trial)
        if position is None or not self.num_choices:
            return None if position is None else trial.params[self.key]
        return round(position * (self.num_choices - 1)) + 0.5 * jitter(trial.number)

    def layout(self) -> dict[str, Any]:
        """Return the layout of a Plotly axis."""
        if isinstance(self.dimension, Choice):
            step = math.ceil(self.num_choices / MAX_TICKS)
            ticks = range(0, self.num_choices, step)
            names = [plain(truncate(format_value(self.dimension.choices[i]), MAX_TICK_NAME)) for i in ticks]
            return {"range": [-0.5, self.num_choices - 0.5], "tickvals": list(ticks), "ticktext": names}
        low, high = self.dimension.low, self.dimension.high
        if not self.dimension.log:
            room = 0.04 * (high - low)
            whole = {"dtick": 1} if self.dimension.integer and high - low <= MAX_TICKS else {"nticks": 6}
            return {"range": [low - room, high + room], **whole}
        room = 0.04 * (math.log10(high) - math.log10(low))
        layout: dict[str, Any] = {
            "type": "log",
            "range": [math.log10(low) - room, math.log10(high) + room],
            "title_text": "log scale",
        }
        # Logarithms of powers of ten are not always exact.
        powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
        if len(powers) < 2:
            return layout | {"nticks": 4}
        values = [10.0**power for power in powers[:: math.ceil(len(powers) / MAX_TICKS)]]
        return layout | {"tickvals": values, "ticktext": [format_value(value) for value in values]}

    def labels(self) -> list[tuple[float, str]]:
        """Return relative positions with their values: both ends of a range, or up to 8 choices."""
        if not isinstance(self.dimension, Choice):
            return [(0.0, format_value(self.dimension.low)), (1.0, format_value(self.dimension.high))]
        step = math.ceil(self.num_choices / MAX_TICKS)
        return [
            (self.dimension.to_unit(value), format_value(value)) for value in self.dimension.choices[::step]
        ]


def has_outliers(metric: Metric, scores: Sequence[float]) -> bool:
    """Return whether some scores are beyond the axis that they get."""
    if not scores:
        return False
    axis = ScoreAxis.from_scores(metric, scores)
    return any(axis.clip(score) != score for score in scores)


def jitter(number: int) -> float:
    """Return a trial's offset in [-0.5, 0.5); offsets of consecutive numbers are evenly spread."""
    return (number * 0.6180339887) % 1.0 - 0.5
