"""Trials with finite scores, and how scores and values of hyperparameters are formatted."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.report.page import percent
from tune.trials import Mode, Point, Trial, best_trial, sign

_LABELS = {
    "val_macro_f1": "validation macro-F1",
    "val_accuracy": "validation accuracy",
    "val_loss": "validation log loss",
    "val_map": "validation macro average precision",
    "frechet": "Fréchet distance",
    "class_accuracy": "class accuracy",
}
_FRACTIONS = {"val_macro_f1", "val_accuracy", "val_map", "class_accuracy"}


@dataclass(frozen=True)
class Metric:
    """Metric that trials are compared by."""

    name: str
    mode: Mode

    @property
    def label(self) -> str:
        """Name in words; an unknown metric's own name."""
        return _LABELS.get(self.name, self.name)

    @property
    def direction(self) -> str:
        """Which scores are better, in words."""
        return "higher is better" if self.mode == "max" else "lower is better"

    @property
    def is_fraction(self) -> bool:
        """Whether scores are in [0, 1] and shown as percentages."""
        return self.name in _FRACTIONS

    @property
    def sign(self) -> int:
        """Factor that makes the better of two scores the higher one."""
        return sign(self.mode)

    def format(self, score: float) -> str:
        """Format a score, as a percentage if it is a fraction."""
        return percent(score) if self.is_fraction else f"{score:.4g}"


@dataclass(frozen=True)
class Results:
    """Trials with finite scores only, in order of time, and the best trial; none if no trial has a score."""

    metric: Metric
    trials: list[Trial]
    best: Trial | None

    @classmethod
    def from_trials(cls, trials: Iterable[Trial], metric: str, mode: Mode) -> Results:
        """Drop scores that are not finite: NaN has no order, so the best trial could be missed."""
        kept = [
            replace(
                trial,
                points=sorted(
                    (point for point in trial.points if math.isfinite(point.score)),
                    key=lambda point: point.elapsed_s,
                ),
            )
            for trial in trials
        ]
        return cls(Metric(metric, mode), kept, best_trial(kept, mode))

    def scored(self) -> list[tuple[Trial, Point]]:
        """Return trials with a score and their best point, worst first: figures draw the best on top."""
        scored = [
            (trial, point) for trial in self.trials if (point := trial.best(self.metric.mode)) is not None
        ]
        return sorted(
            scored,
            key=lambda pair: (pair[0] is self.best, self.metric.sign * pair[1].score, -pair[0].number),
        )

    def describe(self, trial: Trial, keys: Sequence[str] = ()) -> str:
        """Return `trial 7, stopped: best 45.0 % at epoch 8`, with a star for the best trial.

        The trial's values of `keys` follow.
        """
        point = trial.best(self.metric.mode)
        score = (
            "no score" if point is None else f"best {self.metric.format(point.score)} at epoch {point.epoch}"
        )
        text = f"{'★ ' if trial is self.best else ''}trial {trial.number}, {trial.state}: {score}"
        values = [f"{key} {format_value(trial.params[key])}" for key in keys if key in trial.params]
        return "; ".join([text, *values])


def format_value(value: Any, digits: int = 4) -> str:
    """Format a hyperparameter: lists without brackets, floats with a number of significant digits."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(map(format_value, value))
    if isinstance(value, float):
        return f"{value:.{digits}g}".replace("e-0", "e-").replace("e+0", "e")
    return "none" if value is None else json.dumps(value, ensure_ascii=False, default=str)
