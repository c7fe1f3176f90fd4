"""Figures of a search: scores over time and epochs, hyperparameters with scores, and importances.

Plain Plotly, since Optuna's own figures omit failed trials and mark neither stopped ones nor the best one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from pipeline.report.charts import Chart, plain, truncate
from tune.report.results import Metric, Results, format_value
from tune.space import Choice, Range, SearchSpace
from tune.trials import State, Trial

# In the order of the legend: symbol of Plotly, color, and symbol and CSS class of the legend in the page.
STATES: dict[State, tuple[str, str, str, str]] = {
    "finished": ("circle", "var(--correct)", "●", "real"),
    "stopped": ("circle-open", "var(--correct)", "○", "real"),
    "running": ("triangle-right", "var(--third)", "▶", "generated"),
    "failed": ("x-thin-open", "var(--wrong)", "✕", "wrong"),
}
# An outlier, as of a training that diverged, would hide all other differences: the axis ends at the median
# plus this factor times the distance between the best score and the median.
OUTLIER_FACTOR = 4.0
# Opacity of the worst and the best line in parallel coordinates; it rises with a power of the rank.
FAINT, STRONG, RANK_POWER = 0.12, 0.95, 3
# Width that lines through the same choice are spread over, as a fraction of the axis.
SPREAD = 0.04
# Room for them at both ends of the axes.
AXIS_ROOM = 0.03
MAX_TICKS = 8
MAX_TICK_NAME, MAX_NAME = 18, 34
# Pixels for each axis of parallel coordinates; more axes scroll.
MIN_STEP = 100
WIDE_STYLE = "height:340px;min-width:560px"


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
            (trial, value, scores.clip(score), _describe(trial, [axis.key], results))
            for trial, score, value in values
        ],
    )
    figure.update_xaxes(axis.layout())
    figure.update_yaxes(scores.layout(), nticks=6)
    figure.update_layout(showlegend=False)
    description = f"{results.metric.label} of {len(values)} trials by {axis.key}, one marker per trial."
    if results.best is not None:
        description += f" {_describe(results.best, [axis.key], results)}."
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


def parallel_coordinates(space: SearchSpace, results: Results) -> Chart | None:
    """Plot each trial as a line over the axes of the hyperparameters and the score; none without trials.

    Lines of better ranks are stronger, the best one is in ink, those without a score are dashed. Values of a
    log range are on a log scale. Plotly's own parallel coordinates need WebGL and compile code at run time,
    which the page's Content-Security-Policy forbids.
    """
    if not results.trials:
        return None
    axes = [ParamAxis.from_trials(key, one, results.trials) for key, one in space.dimensions.items()]
    scored = results.scored()
    scores = ScoreAxis.from_scores(results.metric, [point.score for _, point in scored]) if scored else None
    ranks = sorted(results.metric.sign * point.score for _, point in scored)
    figure = go.Figure()
    for trial in [*(trial for trial in results.trials if not trial.points), *(trial for trial, _ in scored)]:
        point, look = trial.best(results.metric.mode), {"color": "var(--correct)", "width": 1.5}
        opacity = 0.6
        if point is None:
            look = {"color": "var(--muted)", "width": 1, "dash": "dash"}
        elif trial is results.best:
            look, opacity = {"color": "var(--ink)", "width": 3}, 1.0
        else:
            rank = sum(score < results.metric.sign * point.score for score in ranks) / max(len(ranks) - 1, 1)
            opacity = FAINT + (STRONG - FAINT) * rank**RANK_POWER
        positions = [
            None
            if position is None
            else position + (SPREAD * jitter(trial.number) if axis.num_choices else 0.0)
            for axis in axes
            for position in (axis.position(trial),)
        ]
        figure.add_scatter(
            x=list(range(len(axes) + 1)),
            y=[*positions, scores.position(point.score) if scores and point else None],
            name=f"trial {trial.number}",
            mode="lines",
            line=look,
            opacity=opacity,
            hovertext=plain(_describe(trial, list(space.dimensions), results)),
            hoverinfo="text",
            cliponaxis=False,
        )
    if scores is not None:
        # The right axis, in scores; it is only shown with a trace.
        figure.add_scatter(
            x=[len(axes)] * len(scored),
            y=[scores.clip(point.score) for _, point in scored],
            yaxis="y2",
            name="score",
            mode="markers",
            marker={"size": 5, "color": "var(--correct)"},
            hovertext=[plain(_describe(trial, list(space.dimensions), results)) for trial, _ in scored],
            hoverinfo="text",
            cliponaxis=False,
        )
        figure.update_layout(
            yaxis2=scores.layout(AXIS_ROOM)
            | {
                "side": "right",
                "overlaying": "y",
                "tickmode": "auto",
                "title_text": "",
                "showgrid": False,
                "fixedrange": True,
            }
            | {"zeroline": False, "automargin": True, "ticks": "outside", "tickcolor": "var(--axis)"}
        )
    for i, axis in enumerate(axes):
        figure.add_shape(
            type="line", x0=i, x1=i, y0=0, y1=1, line={"color": "var(--axis)", "width": 1}, layer="below"
        )
        for position, text in axis.labels():
            # Ends of ranges are above and below the axis, choices right of it.
            placement: dict[str, Any] = (
                {"xanchor": "left", "xshift": 6}
                if axis.num_choices
                else {"yanchor": "bottom" if position else "top", "yshift": 2 if position else -2}
            )
            figure.add_annotation(
                x=i,
                y=position,
                text=plain(truncate(text, MAX_TICK_NAME)),
                hovertext=plain(text),
                showarrow=False,
                borderpad=1,
                bgcolor="var(--surface)" if axis.num_choices else None,
                opacity=0.9,
                **placement,
            )
    num_axes = len(axes) + 1
    figure.add_shape(
        type="line", x0=num_axes - 1, x1=num_axes - 1, y0=0, y1=1, line={"color": "var(--axis)", "width": 1}
    )
    names = [wrap_name(name) for name in (*space.dimensions, results.metric.label)]
    figure.update_xaxes(
        side="top",
        range=[-0.45, num_axes - 1],
        ticklabeloverflow="allow",
        tickvals=list(range(num_axes)),
        ticktext=names,
        tickfont={"color": "var(--ink)"},
        tickangle=0,
        ticklabelstandoff=18,
        ticks="",
        showline=False,
        autotickangles=[0],
    )
    figure.update_yaxes(range=[-AXIS_ROOM, 1 + AXIS_ROOM], visible=False, selector={"overlaying": None})
    # Room for the last name, which is centered on the right axis, and for the lower ends of ranges.
    figure.update_layout(showlegend=False, margin_b=24, margin_r=60, margin_t=24)
    description = (
        f"{len(results.trials)} trials in parallel coordinates: "
        f"{', '.join(space.dimensions)}, and {results.metric.label}."
    )
    if results.best is not None:
        description += f" {_describe(results.best, list(space.dimensions), results)}."
    return Chart(figure, description, style=f"height:420px;min-width:{MIN_STEP * num_axes}px")


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


def has_outliers(metric: Metric, scores: Sequence[float]) -> bool:
    """Return whether some scores are beyond the axis that they get."""
    if not scores:
        return False
    axis = ScoreAxis.from_scores(metric, scores)
    return any(axis.clip(score) != score for score in scores)


def time_unit(seconds: float) -> tuple[str, float]:
    """Return the unit for a duration, and its length in seconds."""
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def jitter(number: int) -> float:
    """Return a trial's offset in [-0.5, 0.5); offsets of consecutive numbers are evenly spread."""
    return (number * 0.6180339887) % 1.0 - 0.5


def wrap_name(name: str, width: int = 15, max_lines: int = 3) -> str:
    """Wrap a dotted key after dots and underscores, as text of Plotly; more lines are cut off."""
    lines = [""]
    for piece in name.replace(".", ".\0").replace("_", "_\0").replace(" ", " \0").split("\0"):
        if lines[-1] and len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], "".join(lines[max_lines - 1 :])]
    return "<br>".join(plain(truncate(line.rstrip(), width)) for line in lines)


def _describe(trial: Trial, keys: Sequence[str], results: Results) -> str:
    """Return a trial with its score and its values of hyperparameters."""
    values = [f"{key} {format_value(trial.params[key])}" for key in keys if key in trial.params]
    return "; ".join([results.describe(trial), *values])


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
