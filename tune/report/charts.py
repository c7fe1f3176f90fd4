"""Figures of a search: scores over time and epochs, hyperparameters with scores, and importances.

Plain Plotly, since Optuna's own figures omit failed trials and mark neither stopped ones nor the best one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from pipeline.report.charts import Chart, plain, truncate
from tune.report.axes import ParamAxis, ScoreAxis
from tune.report.results import Results
from tune.trials import State, Trial

# In the order of the legend: symbol of Plotly, color, and symbol and CSS class of the legend in the page.
STATES: dict[State, tuple[str, str, str, str]] = {
    "finished": ("circle", "var(--correct)", "●", "real"),
    "stopped": ("circle-open", "var(--correct)", "○", "real"),
    "running": ("triangle-right", "var(--third)", "▶", "generated"),
    "failed": ("x-thin-open", "var(--wrong)", "✕", "wrong"),
}
MAX_NAME = 34
WIDE_STYLE = "height:340px;min-width:560px"


def state_legend(results: Results) -> list[tuple[str, str, str]]:
    """Return symbol, CSS class and name for each state of scored trials, and for the best trial."""
    present = {trial.state for trial, _ in results.scored()}
    items = [(*look[2:], state) for state, look in STATES.items() if state in present]
    return items + ([("◎", "", f"best: trial {results.best.number}")] if results.best is not None else [])


def best_so_far(results: Results) -> list[tuple[float, float]]:
    """Return time in seconds and score of each improvement of the best score, without failed trials."""
    points = [point for trial in results.trials if trial.state != "failed" for point in trial.points]
    steps: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: point.elapsed_s):
        if not steps or results.metric.sign * (point.score - steps[-1][1]) > 0:
            steps.append((point.elapsed_s, point.score))
    return steps


def score_over_time(results: Results) -> Chart | None:
    """Plot the best score so far over wall time, and each trial's best where it was reached.

    Failed trials have markers but don't count for the line: none of them can become the best.
    """
    elapsed_times = [point.elapsed_s for trial in results.trials for point in trial.points]
    if not elapsed_times:
        return None
    metric = results.metric
    end = max(elapsed_times)
    unit, seconds = time_unit(end)
    steps = best_so_far(results)
    scored = results.scored()
    axis = ScoreAxis.from_scores(metric, [point.score for _, point in scored] + [score for _, score in steps])
    figure = go.Figure()
    if steps:
        line = [*steps, (end, steps[-1][1])]
        figure.add_scatter(
            x=[elapsed / seconds for elapsed, _ in line],
            y=[axis.clip(score) for _, score in line],
            name="best so far",
            mode="lines",
            line={"shape": "hv", "color": "var(--ink)", "width": 2},
            hovertext=[f"best so far: {metric.format(score)}" for _, score in line],
            hoverinfo="text",
        )
    _add_markers(
        figure,
        results,
        [
            (
                trial,
                point.elapsed_s / seconds,
                axis.clip(point.score),
                f"{results.describe(trial)}, after {point.elapsed_s / seconds:.3g} {unit}",
            )
            for trial, point in scored
        ],
    )
    figure.update_xaxes(title_text=f"wall time in {unit}", rangemode="tozero")
    figure.update_yaxes(axis.layout())
    texts = [
        f"{metric.format(score)} after {elapsed / seconds:.3g} {unit}"
        for elapsed, score in dict.fromkeys((*steps[:1], *steps[-1:]))
    ]
    description = (
        f"Best {metric.label} so far: {', '.join(texts) or 'none'}; "
        f"the search took {end / seconds:.3g} {unit}."
    )
    return Chart(figure, description, style=WIDE_STYLE)


def param_vs_score(axis: ParamAxis, results: Results) -> Chart | None:
    """Plot the best score of each trial over its value of a hyperparameter; none without scored values."""
    scored = results.scored()
    values = [
        (trial, point.score, value)
        for trial, point in scored
        if (value := axis.coordinate(trial)) is not None
    ]
    if not values:
        return None
    # The same axis for all hyperparameters.
    scores = ScoreAxis.from_scores(results.metric, [point.score for _, point in scored])
    figure = go.Figure()
    _add_markers(
        figure,
        results,
        [
            (trial, value, scores.clip(score), results.describe(trial, [axis.key]))
            for trial, score, value in values
        ],
    )
    figure.update_xaxes(axis.layout())
    figure.update_yaxes(scores.layout(), nticks=6)
    figure.update_layout(showlegend=False)
    description = f"{results.metric.label} of {len(values)} trials by {axis.key}, one marker per trial."
    if results.best is not None:
        description += f" {results.describe(results.best, [axis.key])}."
    return Chart(figure, description, axis.key, "height:240px")


def learning_curves(results: Results) -> Chart | None:
    """Plot the scores of all trials over their epochs, in order of time: lines go back where trials did."""
    scored = results.scored()
    if not scored:
        return None
    points = [point for trial, _ in scored for point in trial.points]
    axis = ScoreAxis.from_scores(results.metric, [point.score for point in points])
    figure = go.Figure()
    for state, (symbol, color, _, _) in STATES.items():
        trials = [trial for trial, _ in scored if trial.state == state and trial is not results.best]
        if trials:
            line = {"color": color, "width": 1}
            _add_curves(figure, results, axis, trials, name=state, mode="lines", line=line, opacity=0.55)
            marker = {"symbol": symbol, "color": color, "size": 7, "line": {"color": color, "width": 1.5}}
            # Gaps separate the points: the line is for the legend only.
            _add_curves(
                figure,
                results,
                axis,
                trials,
                last=True,
                name=state,
                mode="lines+markers",
                line=line,
                marker=marker,
            )
    if results.best is not None:
        _add_curves(
            figure,
            results,
            axis,
            [results.best],
            name=f"best: trial {results.best.number}",
            mode="lines+markers",
            line={"color": "var(--ink)", "width": 2.5},
            marker={"size": 5},
        )
    last = max(point.epoch for point in points)
    figure.update_xaxes(title_text="epoch", dtick=1 if last <= 10 else None, nticks=12)
    figure.update_yaxes(axis.layout())
    figure.update_layout(showlegend=True)
    description = (
        f"{results.metric.label} of {len(scored)} trials over up to {last} epochs; "
        f"{results.describe(scored[-1][0])}."
    )
    return Chart(figure, description, style=WIDE_STYLE)


def importance_chart(importances: Mapping[str, float]) -> Chart:
    """Plot importances in [0, 1] as bars, the longest on top."""
    ordered = sorted(importances.items(), key=lambda item: (-item[1], item[0]))
    values = [value for _, value in ordered]
    figure = go.Figure()
    figure.add_bar(
        x=values,
        y=list(range(len(ordered))),
        orientation="h",
        marker={"color": "var(--correct)"},
        text=[f"{value:.2f}" for value in values],
        textposition="outside",
        textfont={"color": "var(--ink)"},
        hovertext=[f"{plain(name)}: {value:.3f}" for name, value in ordered],
        hoverinfo="text",
        cliponaxis=False,
        width=0.55,
    )
    figure.update_xaxes(range=[0, 1], dtick=0.2, showgrid=True)
    figure.update_yaxes(
        range=[len(ordered) - 0.5, -0.5],
        tickvals=list(range(len(ordered))),
        ticktext=[plain(truncate(name, MAX_NAME)) for name, _ in ordered],
        tickfont={"color": "var(--ink)"},
        ticklabelstandoff=6,
        showgrid=False,
    )
    figure.update_layout(margin_r=40)
    description = f"Importance: {', '.join(f'{name} {value:.2f}' for name, value in ordered)}."
    return Chart(figure, description, style=f"height:{30 * len(ordered) + 40}px;max-width:640px")


def time_unit(seconds: float) -> tuple[str, float]:
    """Return the unit for a duration, and its length in seconds."""
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def _add_markers(
    figure: go.Figure, results: Results, markers: Sequence[tuple[Trial, float, float, str]]
) -> None:
    """Add one marker per trial, given with x, y and text: a trace for each state, and a ring for the best."""
    for state, (symbol, color, _, _) in STATES.items():
        group = [marker for marker in markers if marker[0].state == state]
        if group:
            figure.add_scatter(
                x=[x for _, x, _, _ in group],
                y=[y for _, _, y, _ in group],
                name=state,
                mode="markers",
                marker={"symbol": symbol, "color": color, "size": 8, "line": {"color": color, "width": 1.5}},
                hovertext=[plain(text) for _, _, _, text in group],
                hoverinfo="text",
                cliponaxis=False,
            )
    for trial, x, y, _ in markers:
        if trial is results.best:
            figure.add_scatter(
                x=[x],
                y=[y],
                name=f"best: trial {trial.number}",
                mode="markers",
                marker={"symbol": "circle-open", "color": "var(--ink)", "size": 17, "line": {"width": 2}},
                hoverinfo="skip",
                cliponaxis=False,
            )
    figure.update_layout(showlegend=True, hovermode="closest")


def _add_curves(
    figure: go.Figure,
    results: Results,
    axis: ScoreAxis,
    trials: Sequence[Trial],
    *,
    last: bool = False,
    **look: Any,
) -> None:
    """Add the curves of trials, or their last points, as one trace with gaps between trials."""
    x: list[float | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for trial in trials:
        points = trial.points[-1:] if last else trial.points
        if x:
            x, y, texts = [*x, None], [*y, None], [*texts, ""]
        x += [point.epoch for point in points]
        y += [axis.clip(point.score) for point in points]
        texts += [
            plain(f"{results.describe(trial)}; epoch {point.epoch}: {results.metric.format(point.score)}")
            for point in points
        ]
    is_legend = last or trials[0] is results.best
    figure.add_scatter(
        x=x,
        y=y,
        hovertext=texts,
        hoverinfo="text",
        legendgroup=look["name"],
        showlegend=is_legend,
        cliponaxis=False,
        **look,
    )
