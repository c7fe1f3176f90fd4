"""The report of a search: what is best, how it was found, and what the trials say of each parameter, in one HTML file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.io.console import duration
from pipeline.report import page
from pipeline.report.page import Section, escape, percent
from tune.report.axes import Results, breakable, value_text
from tune.report.charts import (
    NO_SCORES,
    STATES,
    importance_bars,
    legend,
    parameter_against_score,
    score_over_time,
    trial_curves,
)
from tune.report.parallel_coordinates import parallel_coordinates
from tune.space import Choice, Range, SearchSpace
from tune.trials import Mode, Trial

# A reason of more characters is folded away behind its start.
LINE = 100


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
    """Writes the page in full or not at all.

    Args:
        path: the HTML file; its folder is made.
        title: heading of the page.
        summary: short facts of the search, shown under the title.
        space: what was searched.
        trials: all that were begun, in any order; scores that are not finite count as none.
        mode: which way the score is better.
        metric: what trials are judged by, such as `val_macro_f1`.
        importances: what `tune.study.importances` returns.
        settings: all settings of the search, nested; with `max_epochs`, the epochs of a trial that is not stopped.
        base_values: what the parameters are without a search, by dotted key.
    """
    results = Results.of(trials, metric, mode)
    measure = results.measure
    charts = "".join(parameter_against_score(key, one, results) for key, one in space.dimensions.items())
    sections = [
        Section("Score over time", page.panel(score_over_time(results)), _time_note(results)),
        _best_section(space, results, base_values),
        Section(
            "All trials in parallel coordinates",
            page.panel(parallel_coordinates(space, results)),
            _parallel_note(results),
        ),
        Section(
            "Each parameter against the score",
            page.panel(f'{legend(results)}<div class="charts">{charts}</div>'),
            _parameter_note(results),
        ),
        _importance_section(space, results, importances),
        Section("Learning curves of all trials", page.panel(trial_curves(results)), _curve_note(results)),
        _trial_section(space, results, trials),
        Section("Settings", page.settings(settings, "All resolved settings")),
    ]
    headline = _headline(results, trials, settings.get("max_epochs", 0))
    page.write_page(
        path,
        page.render_page(
            title, sections, {**summary, "judged by": f"{measure.name}, {measure.better}"}, headline
        ),
    )


def _headline(results: Results, trials: Sequence[Trial], max_epochs: int) -> str:
    measure = results.measure
    figure, where = "–", "no trial has a score yet"
    if results.best is not None and (point := results.best.best(measure.mode)) is not None:
        figure, where = measure.text(point.score), f"trial {results.best.number}, epoch {point.epoch}"
    # Epochs whose scores are not finite were trained too.
    epochs, full = sum(len(trial.points) for trial in trials), len(trials) * max_epochs
    part = f"of the {full:,} of all trials in full: {percent(epochs / full, 0)}" if full else "by all trials"
    took = max((point.at for trial in trials for point in trial.points), default=0.0)
    return page.cards(
        [
            (f"Best {measure.name}", figure, where),
            ("Trials", f"{len(trials):,}", _states_in_words(trials) or "none was begun"),
            ("Epochs trained", f"{epochs:,}", part),
            (
                "Time",
                _time(took),
                f"to the last score; the trials worked {duration(sum(trial.seconds for trial in trials))} in all",
            ),
        ]
    )


def _time(seconds: float) -> str:
    """Short enough for a card."""
    return (
        f"{seconds / 60:.0f} min" if 600 <= seconds < 3570 else duration(seconds).replace(" min", "\u00a0min")
    )


def _states_in_words(trials: Sequence[Trial]) -> str:
    """`9 finished, 19 stopped, 2 failed`."""
    counts = Counter(trial.state for trial in trials)
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])


def _time_note(results: Results) -> str:
    note = "The line is the best score so far; each mark is the best of a trial, at the time when it was reached."
    if any(trial.state == "failed" and trial.points for trial in results.trials):
        note += " Failed trials don't count for the line."
    return note


def _best_section(space: SearchSpace, results: Results, base_values: Mapping[str, Any]) -> Section:
    title = "Best values"
    if results.best is None:
        return Section(title, page.panel(NO_SCORES))
    rows = []
    for key, one in space.dimensions.items():
        values = (_value(results.best.values, key), _value(base_values, key), _range_in_words(one))
        rows.append([breakable(key), f"<b>{escape(values[0])}</b>", *map(escape, values[1:])])
    body = page.table(
        ["parameter", "best", "base", "searched"],
        rows,
        f"Values of trial {results.best.number}, which has the best score",
        "values",
    )
    note = "What the best trial was trained with, beside the base settings' values and what was searched."
    if (base := _base_trial(space, results, base_values)) is not None:
        note += f" The base values were tried too: {results.in_words(base).removeprefix('★ ')}."
    return Section(title, page.panel(body), note)


def _value(values: Mapping[str, Any], key: str, digits: int = 4) -> str:
    return value_text(values[key], digits) if key in values else "–"


def _range_in_words(dimension: Range | Choice) -> str:
    if isinstance(dimension, Choice):
        return " or ".join(map(value_text, dimension.choices))
    return (
        f"{value_text(dimension.low)} to {value_text(dimension.high)}{', log scale' if dimension.log else ''}"
    )


def _base_trial(space: SearchSpace, results: Results, base_values: Mapping[str, Any]) -> Trial | None:
    """The first trial with the base's own values, if one had them."""
    wanted = [_value(base_values, key, digits=12) for key in space.dimensions if key in base_values]
    if len(wanted) < len(space.dimensions):
        return None
    return next(
        (
            one
            for one in results.trials
            if [_value(one.values, key, digits=12) for key in space.dimensions] == wanted
        ),
        None,
    )


def _parallel_note(results: Results) -> str:
    note = (
        "Each line is a trial: where it crosses an axis is its value there, and at the right its best score. "
    )
    note += f"The better its rank, the stronger the line; {results.measure.better}."
    if results.best is not None:
        note += f" The bold line is the best, trial {results.best.number}."
    if any(not trial.points for trial in results.trials):
        note += " Dashed lines have no score."
    return note


def _parameter_note(results: Results) -> str:
    note = f"A mark is a trial: its value of the parameter at the bottom, its best score upwards; {results.measure.better}. "
    note += "Trials with the same choice are spread out sideways."
    if any(trial.state == "stopped" for trial in results.trials):
        note += " Stopped trials had fewer epochs, and score worse for that too."
    if unscored := sum(not trial.points for trial in results.trials):
        note += f" Not shown: {unscored} without a score."
    return note


def _importance_section(
    space: SearchSpace, results: Results, importances: Mapping[str, float] | None
) -> Section:
    title = "Importance of the parameters"
    count, keys = sum(trial.state != "failed" for trial, _ in results.scored()), len(space.dimensions)
    trials = f"{count} trial{'' if count == 1 else 's'} with a score"
    usable = {key: value for key, value in (importances or {}).items() if math.isfinite(value)}
    if not usable:
        words = f"No estimate from {trials}: it takes at least two trials for each of the {keys} parameters, and scores that differ."
        return Section(title, page.panel(f'<p class="note">{words}</p>'))
    note = (
        "How much of the spread of the trials' scores each parameter explains, by functional analysis of variance (fANOVA, Hutter et "
        f"al. 2014); the shares add up to 1. This is an estimate from {trials}: from so few, only large differences mean anything."
    )
    return Section(title, page.panel(importance_bars(usable)), note)


def _curve_note(results: Results) -> str:
    found = {trial.state for trial in results.trials if trial.points}
    note = "A line for each trial, from its first epoch to its last."
    note += (
        " One that ends in a small circle was stopped, as worse than others." if "stopped" in found else ""
    )
    note += " One that ends in a triangle was still running." if "running" in found else ""
    note += " One that ends in a cross failed." if "failed" in found else ""
    return note


def _trial_section(space: SearchSpace, results: Results, trials: Sequence[Trial]) -> Section:
    # The best first, then the unscored, and last the failed: even with a score, none of them can be the best.
    scored = [trial for trial, _ in reversed(results.scored())]
    others = [trial for trial in results.trials if not trial.points]
    ordered = sorted([*scored, *others], key=lambda trial: trial.state == "failed")
    epochs = {trial.number: len(trial.points) for trial in trials}
    rows = [_row(trial, epochs[trial.number], space, results) for trial in ordered]
    head = [
        "trial",
        "state",
        "score#",
        "best epoch#",
        "epochs#",
        "time#",
        *(f"{key}#" for key in space.dimensions),
    ]
    body = page.table(head, rows, "All trials, the best first, failed ones last", "trials")
    # The table escapes its heads, and long keys would make it wider than the page.
    for key in space.dimensions:
        body = body.replace(
            f'<th scope="col" class="number">{escape(key)}</th>',
            f'<th scope="col" class="number">{breakable(key)}</th>',
        )
    return Section("Trials", page.panel(body) + _reasons(results.trials))


def _row(trial: Trial, epochs: int, space: SearchSpace, results: Results) -> list[str]:
    point = trial.best(results.measure.mode)
    figures = ("–", "–") if point is None else (results.measure.text(point.score), str(point.epoch))
    tag = '<span class="tag">best</span>' if trial is results.best else ""
    # Whole columns of numbers are easier to read short; the file of all trials has all digits.
    values = [escape(_value(trial.values, key, digits=3)) for key in space.dimensions]
    return [f"{trial.number}{tag}", trial.state, *figures, str(epochs), duration(trial.seconds), *values]


def _reasons(trials: Sequence[Trial]) -> str:
    """Why trials failed, once for all that failed alike; what doesn't fit a line opens with a click."""
    numbers: dict[str, list[str]] = {}
    for trial in trials:
        if trial.state == "failed" and (reason := trial.reason.strip()):
            numbers.setdefault(reason, []).append(str(trial.number))
    items = []
    for reason, found in numbers.items():
        who = f"<b>trial{'s' if len(found) > 1 else ''} {', '.join(found)}</b>"
        start = reason.splitlines()[0][:LINE]
        more = f"<details><summary>{who}: {escape(start)} …</summary><p>{escape(reason)}</p></details>"
        items.append(f"<li>{who}: {escape(reason)}</li>" if start == reason else f"<li>{more}</li>")
    return page.panel(f'<h3>Why trials failed</h3><ul class="reasons">{"".join(items)}</ul>') if items else ""
