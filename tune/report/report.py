"""HTML report of a search: best values, progress, trials, and the effect of each hyperparameter."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.io.console import duration
from pipeline.report.page import percent, write_page
from tune.dimensions import Choice, Range
from tune.report.axes import ParamAxis, has_outliers
from tune.report.charts import (
    STATES,
    best_so_far,
    importance_chart,
    learning_curves,
    param_vs_score,
    score_over_time,
    state_legend,
)
from tune.report.parallel_coordinates import parallel_coordinates
from tune.report.results import Results, format_value
from tune.space import SearchSpace
from tune.trials import Mode, Trial, trained_epochs

TEMPLATES = Path(__file__).parent / "templates"
# Longer reasons of failures are collapsed behind their start.
MAX_REASON = 100


@dataclass(frozen=True)
class ParamRow:
    """A hyperparameter in the table of best values, as texts."""

    key: str
    best: str
    base: str
    searched: str


@dataclass(frozen=True)
class TrialRow:
    """A trial in the table of trials, as texts."""

    number: int
    is_best: bool
    state: str
    score: str
    best_epoch: str
    num_epochs: int
    time: str
    values: list[str]


@dataclass(frozen=True)
class Failure:
    """A reason of failure with the trials that it ended."""

    trials: str
    reason: str
    start: str
    """The reason's first line, of limited length."""


def write_search_report(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, str],
    space: SearchSpace,
    trials: Sequence[Trial],
    mode: Mode,
    metric: str,
    importances: Mapping[str, float] | None,
    settings: Mapping[str, Any],
    base_values: Mapping[str, Any],
) -> None:
    """Write the report atomically.

    Args:
        path: HTML file; its folder is created.
        title: heading of the page.
        summary: short facts of the search, shown below the title.
        space: search space.
        trials: all trials, in any order; scores that are not finite count as none.
        mode: whether higher or lower scores are better.
        metric: metric of the scores, such as `val_macro_f1`.
        importances: result of `tune.study.importances`.
        settings: all settings of the search, nested; with `max_epochs`, the epochs of a trial that is not
            stopped.
        base_values: values of the base settings by dotted key.
    """
    results = Results.from_trials(trials, metric, mode)
    axes = [ParamAxis.from_trials(key, one, results.trials) for key, one in space.dimensions.items()]
    param_charts = [chart for axis in axes if (chart := param_vs_score(axis, results)) is not None]
    usable = {key: value for key, value in (importances or {}).items() if math.isfinite(value)}
    write_page(
        path,
        "search.html.j2",
        folder=TEMPLATES,
        title=title,
        summary={**summary, "metric": f"{results.metric.label}, {results.metric.direction}"},
        cards=headline(results, trials, settings.get("max_epochs", 0)),
        score_over_time=score_over_time(results),
        time_note=time_note(results),
        best=results.best,
        best_rows=best_rows(space, results, base_values),
        base_trial=describe_base_trial(space, results, base_values),
        parallel=parallel_coordinates(axes, results),
        parallel_note=parallel_note(results),
        legend=state_legend(results),
        param_charts=param_charts,
        param_note=param_note(results),
        importances=importance_chart(usable) if usable else None,
        num_scored=sum(trial.state != "failed" for trial, _ in results.scored()),
        learning_curves=learning_curves(results),
        curve_note=curve_note(results),
        keys=list(space.dimensions),
        trials=trial_rows(space, results, trials),
        failures=failures(results.trials),
        settings=settings,
    )


def headline(results: Results, trials: Sequence[Trial], max_epochs: int) -> list[tuple[str, str, str]]:
    """Return name, value and description of each card."""
    metric = results.metric
    score, source = "–", "no trial has a score yet"
    if results.best is not None and (point := results.best.best(metric.mode)) is not None:
        score, source = metric.format(point.score), f"trial {results.best.number}, epoch {point.epoch}"
    counts = Counter(trial.state for trial in trials)
    states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    # Epochs whose scores are not finite were trained too.
    epochs, full = sum(trained_epochs(trials).values()), len(trials) * max_epochs
    fraction = f"{percent(epochs / full, 0)} of {full:,} without stopping" if full else "by all trials"
    elapsed = max((point.elapsed_s for trial in trials for point in trial.points), default=0.0)
    total = duration(sum(trial.seconds for trial in trials))
    return [
        (f"Best {metric.label}", score, source),
        ("Trials", f"{len(trials):,}", states or "none started"),
        ("Epochs trained", f"{epochs:,}", fraction),
        ("Time", _short_duration(elapsed), f"to the last score; total trial time {total}"),
    ]


def _short_duration(seconds: float) -> str:
    """Format a duration for a card: without seconds from 10 minutes on."""
    if 600 <= seconds < 3570:
        return f"{seconds / 60:.0f} min"
    return duration(seconds).replace(" min", "\u00a0min")


def time_note(results: Results) -> str:
    """Return the note on scores over time."""
    note = "Line: best score so far. Markers: best score of each trial, at the time it was reached."
    if any(trial.state == "failed" and trial.points for trial in results.trials):
        note += " Failed trials don't count for the line."
    scores = _best_scores(results) + [score for _, score in best_so_far(results)]
    return note + _outlier_note(results, scores)


def best_rows(space: SearchSpace, results: Results, base_values: Mapping[str, Any]) -> list[ParamRow]:
    """Return the best trial's values with those of the base settings; empty if no trial has a score."""
    if results.best is None:
        return []
    return [
        ParamRow(key, _value(results.best.params, key), _value(base_values, key), _searched(dimension))
        for key, dimension in space.dimensions.items()
    ]


def describe_base_trial(space: SearchSpace, results: Results, base_values: Mapping[str, Any]) -> str:
    """Describe the first trial with the base settings' values; empty if there is none."""
    base = [_value(base_values, key, digits=12) for key in space.dimensions if key in base_values]
    if len(base) < len(space.dimensions):
        return ""
    for trial in results.trials:
        if [_value(trial.params, key, digits=12) for key in space.dimensions] == base:
            return results.describe(trial).removeprefix("★ ")
    return ""


def _value(values: Mapping[str, Any], key: str, digits: int = 4) -> str:
    return format_value(values[key], digits) if key in values else "–"


def _searched(dimension: Range | Choice) -> str:
    if isinstance(dimension, Choice):
        return " or ".join(map(format_value, dimension.choices))
    scale = ", log scale" if dimension.log else ""
    return f"{format_value(dimension.low)} to {format_value(dimension.high)}{scale}"


def parallel_note(results: Results) -> str:
    """Return the note on parallel coordinates."""
    note = (
        "Each line is a trial: it crosses each axis at the trial's value, the last one at its best score. "
        f"More opaque lines: better rank; {results.metric.direction}."
    )
    if results.best is not None:
        note += f" Bold line: best trial, {results.best.number}."
    if any(not trial.points for trial in results.trials):
        note += " Dashed lines: no score."
    return note + _outlier_note(results, _best_scores(results))


def param_note(results: Results) -> str:
    """Return the note on hyperparameters vs. score."""
    note = (
        "Each marker is a trial: its best score over its value of the hyperparameter; "
        f"{results.metric.direction}. Trials with the same choice are jittered horizontally."
    )
    if any(trial.state == "stopped" for trial in results.trials):
        note += " Stopped trials had fewer epochs, which lowers their rank too."
    if unscored := sum(not trial.points for trial in results.trials):
        note += f" Not shown: {unscored} without a score."
    return note + _outlier_note(results, _best_scores(results))


def curve_note(results: Results) -> str:
    """Return the note on learning curves."""
    states = {trial.state for trial in results.trials if trial.points}
    note = "One line per trial, from its first epoch to its last."
    note += " Open circle: stopped early." if "stopped" in states else ""
    note += " Triangle: still running." if "running" in states else ""
    note += " Cross: failed." if "failed" in states else ""
    return note + _outlier_note(results, [point.score for trial in results.trials for point in trial.points])


def _best_scores(results: Results) -> list[float]:
    return [point.score for _, point in results.scored()]


def _outlier_note(results: Results, scores: Sequence[float]) -> str:
    return " Outliers are at the end of the axis." if has_outliers(results.metric, scores) else ""


def trial_rows(space: SearchSpace, results: Results, trials: Sequence[Trial]) -> list[TrialRow]:
    """Return all trials: best first, then those without a score, failed ones, which cannot be best, last."""
    scored = [trial for trial, _ in reversed(results.scored())]
    unscored = [trial for trial in results.trials if not trial.points]
    num_epochs = trained_epochs(trials)
    rows = []
    for trial in sorted([*scored, *unscored], key=lambda trial: trial.state == "failed"):
        point = trial.best(results.metric.mode)
        rows.append(
            TrialRow(
                trial.number,
                trial is results.best,
                trial.state,
                "–" if point is None else results.metric.format(point.score),
                "–" if point is None else str(point.epoch),
                num_epochs[trial.number],
                duration(trial.seconds),
                # Short values are easier to compare; trials.csv has all digits.
                [_value(trial.params, key, digits=3) for key in space.dimensions],
            )
        )
    return rows


def failures(trials: Sequence[Trial]) -> list[Failure]:
    """Return each distinct reason of failure with its trials."""
    numbers: dict[str, list[str]] = {}
    for trial in trials:
        if trial.state == "failed" and (reason := trial.reason.strip()):
            numbers.setdefault(reason, []).append(str(trial.number))
    return [
        Failure(
            f"trial{'' if len(group) == 1 else 's'} {', '.join(group)}",
            reason,
            reason.splitlines()[0][:MAX_REASON],
        )
        for reason, group in numbers.items()
    ]
