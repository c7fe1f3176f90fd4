"""What all charts of a search share: its trials with usable scores, and how scores and values become places in a chart.

A place goes from 0, left or at the bottom, to 1; a tick is a place with its text.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.report.charts import format_number, text_width, ticks, truncate_text
from pipeline.report.page import escape, percent
from tune.space import Choice, Range
from tune.trials import Mode, Point, Trial, best_trial, sign

NAMES = {
    "val_macro_f1": "validation macro-F1",
    "val_accuracy": "validation accuracy",
    "val_loss": "validation log-loss",
    "frechet": "Fréchet distance",
    "class_accuracy": "class accuracy",
}
RATIOS = {"val_macro_f1", "val_accuracy", "class_accuracy"}
# A score without bounds, as that of a training that diverged, would press all others together: the axis ends at the median and
# this many times its distance from the best beyond.
OUTLIER_FACTOR = 4.0
Tick = tuple[float, str]
Dimension = Range | Choice


@dataclass(frozen=True)
class Scale:
    """The axis of a score, from `low` to `high`; what lies beyond is drawn at its end."""

    low: float
    high: float
    ticks: list[Tick]

    def place(self, score: float) -> float:
        return min(max((score - self.low) / (self.high - self.low), 0.0), 1.0)


@dataclass(frozen=True)
class MetricAxis:
    """What trials are judged by, and which way is better."""

    metric: str
    mode: Mode

    @property
    def name(self) -> str:
        """In words; a metric without any is called as it is."""
        return NAMES.get(self.metric, self.metric)

    @property
    def better(self) -> str:
        return "higher is better" if self.mode == "max" else "lower is better"

    def text(self, score: float) -> str:
        """A score in per cent where it is a ratio."""
        return percent(score) if self.metric in RATIOS else f"{score:.4g}"

    def sign(self) -> int:
        """Makes the better score the greater one."""
        return sign(self.mode)

    def scale(self, scores: Sequence[float]) -> Scale:
        """An axis for these scores, at least one."""
        bounded = self.metric in RATIOS
        low, high = min(scores), max(scores)
        if not bounded:
            middle = statistics.median(scores)
            if self.mode == "max" and middle < high:
                low = max(low, middle - OUTLIER_FACTOR * (high - middle))
            elif self.mode == "min" and middle > low:
                high = min(high, middle + OUTLIER_FACTOR * (middle - low))
        # Nearly equal ones are equal: between them no ticks can be told apart.
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            room = 0.05 if bounded else abs(low) / 10 or 1.0
            low, high = low - room, high + room
        if bounded:
            low, high = max(low, 0.0), min(high, 1.0)
        values = ticks(low, high, 5)
        low, high = values[0], values[-1]
        digits = max(0, -math.floor(math.log10(values[1] - values[0]) + 1e-9) - 2)
        texts = [percent(value, digits) if bounded else format_number(value) for value in values]
        texts[0] = f"≤ {texts[0]}" if min(scores) < low else texts[0]
        texts[-1] = f"≥ {texts[-1]}" if max(scores) > high else texts[-1]
        return Scale(
            low,
            high,
            [((value - low) / (high - low), text) for value, text in zip(values, texts, strict=True)],
        )


@dataclass(frozen=True)
class Results:
    """Trials whose points are finite and in the order of time, and the best of them, if any has a score."""

    measure: MetricAxis
    trials: list[Trial]
    best: Trial | None

    @classmethod
    def of(cls, trials: Iterable[Trial], metric: str, mode: Mode) -> Results:
        # NaN compares with nothing, so that a best one could be missed.
        kept = [
            replace(one, points=sorted((p for p in one.points if math.isfinite(p.score)), key=lambda p: p.at))
            for one in trials
        ]
        return cls(MetricAxis(metric, mode), kept, best_trial(kept, mode))

    def scored(self) -> list[tuple[Trial, Point]]:
        """Trials that have a score with their best point, from the worst to the best: so the best are drawn last, on top."""
        found = [
            (trial, point) for trial in self.trials if (point := trial.best(self.measure.mode)) is not None
        ]
        return sorted(
            found, key=lambda one: (one[0] is self.best, self.measure.sign() * one[1].score, -one[0].number)
        )

    def in_words(self, trial: Trial) -> str:
        """`trial 7, stopped: best 45.0 % at epoch 8`, with a star for the best."""
        point = trial.best(self.measure.mode)
        said = (
            "no score" if point is None else f"best {self.measure.text(point.score)} at epoch {point.epoch}"
        )
        return f"{'★ ' if trial is self.best else ''}trial {trial.number}, {trial.state}: {said}"


def value_text(value: Any, digits: int = 4) -> str:
    """A setting's value in short: lists without brackets, numbers in so many digits."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(map(value_text, value))
    if isinstance(value, float):
        return f"{value:.{digits}g}".replace("e-0", "e-").replace("e+0", "e")
    return "none" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def breakable(key: str) -> str:
    """A dotted key as HTML that may be broken at its dots and underscores."""
    return escape(key).replace(".", ".<wbr/>").replace("_", "_<wbr/>")


def expand_to_values(dimension: Dimension, values: Sequence[Any]) -> Dimension:
    """The dimension with room for values outside it, as trials may have from before its range was changed."""
    if isinstance(dimension, Choice):
        others = {value_text(value): value for value in values if not dimension.contains(value)}
        return dimension.model_copy(update={"choices": (*dimension.choices, *others.values())})
    numbers = [
        value
        for value in values
        if isinstance(value, int | float) and math.isfinite(value) and (value > 0 or not dimension.log)
    ]
    return dimension.model_copy(
        update={"low": min([dimension.low, *numbers]), "high": max([dimension.high, *numbers])}
    )


def covering_trials(key: str, dimension: Dimension, trials: Iterable[Trial]) -> Dimension:
    """The dimension with room for the values of all trials."""
    return expand_to_values(dimension, [trial.values[key] for trial in trials if key in trial.values])


def value_place(dimension: Dimension, key: str, trial: Trial) -> float | None:
    """The place of a trial's value, as on a log scale where the range has one; none where it is of another kind, or missing."""
    if key not in trial.values or not dimension.contains(trial.values[key]):
        return None
    return dimension.to_unit(trial.values[key])


def value_ticks(dimension: Dimension, count: int) -> list[Tick]:
    """All choices, or about `count` round values of a range."""
    if isinstance(dimension, Choice):
        return [(dimension.to_unit(value), value_text(value)) for value in dimension.choices]
    low, high = dimension.low, dimension.high
    found = _log_ticks(low, high, count) if dimension.log else ticks(low, high, count, dimension.whole)
    # Limits are widened a little, as 0.1 x 3 is not quite 0.3.
    inside = [value for value in found if low - 1e-9 * abs(low) <= value <= high + 1e-9 * abs(high)]
    return [
        (dimension.to_unit(value), value_text(value))
        for value in (inside if len(inside) > 1 else [low, high])
    ]


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    """Powers of ten, with twice and five times them where that gives no more than `count`; of very many every k-th power."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [factor * 10.0**power for power in powers for factor in factors]
        if sum(low <= value <= high for value in found) <= count:
            return found
    return [10.0**power for power in powers[:: math.ceil(len(powers) / count)]]


def jitter(number: int) -> float:
    """A trial's own shift in [-0.5, 0.5), by which those with the same choice are told apart: evenly spread for numbers in a row."""
    return (number * 0.6180339887) % 1.0 - 0.5


def wrap_name(name: str, width: float, size: float, most: int) -> list[str]:
    """A dotted key in up to `most` lines of `width`, broken at dots and underscores; what doesn't fit is clipped."""
    lines = [""]
    for piece in name.replace(".", ".\0").replace("_", "_\0").replace(" ", " \0").split("\0"):
        if lines[-1] and text_width((lines[-1] + piece).rstrip(), size) > width:
            lines.append("")
        lines[-1] += piece
    kept = [*lines[: most - 1], "".join(lines[most - 1 :])] if len(lines) > most else lines
    return [truncate_text(line.rstrip(), width, size) for line in kept]
