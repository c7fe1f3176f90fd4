"""Parallel coordinates of a search: each trial as a line over the hyperparameters and the score.

Plotly's own parallel coordinates need WebGL and compile code at run time, which the page's
Content-Security-Policy forbids.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from pipeline.report.charts import Chart, plain, truncate
from tune.report.axes import MAX_TICK_NAME, ParamAxis, ScoreAxis, jitter
from tune.report.results import Results
from tune.trials import Trial

# Opacity of the worst and the best line; it rises with a power of the rank.
FAINT, STRONG, RANK_POWER = 0.12, 0.95, 3
# Width that lines through the same choice are spread over, as a fraction of the axis.
SPREAD = 0.04
# Room for them at both ends of the axes.
AXIS_ROOM = 0.03
# Pixels for each axis; more axes scroll.
MIN_STEP = 100


def parallel_coordinates(axes: Sequence[ParamAxis], results: Results) -> Chart | None:
    """Plot each trial as a line over the axes of the hyperparameters and the score; none without trials.

    Lines of better ranks are stronger, the best one is in ink, those without a score are dashed. Values of a
    log range are on a log scale.
    """
    if not results.trials:
        return None
    keys = [axis.key for axis in axes]
    best_scores = [point.score for _, point in results.scored()]
    scores = ScoreAxis.from_scores(results.metric, best_scores) if best_scores else None
    figure = go.Figure()
    _add_lines(figure, axes, scores, results)
    if scores is not None:
        _add_score_axis(figure, len(axes), scores, results, keys)
    for i, axis in enumerate(axes):
        _add_param_axis(figure, i, axis)
    _add_axis_line(figure, len(axes))
    _set_layout(figure, [*keys, results.metric.label])
    names = ", ".join([*keys, f"and {results.metric.label}"])
    description = f"{len(results.trials)} trials in parallel coordinates: {names}."
    if results.best is not None:
        description += f" {results.describe(results.best, keys)}."
    return Chart(figure, description, style=f"height:420px;min-width:{MIN_STEP * (len(axes) + 1)}px")


def _add_lines(
    figure: go.Figure, axes: Sequence[ParamAxis], scores: ScoreAxis | None, results: Results
) -> None:
    """Add a line per trial: those without a score first, so that the best one is on top."""
    scored = results.scored()
    ranks = sorted(results.metric.sign * point.score for _, point in scored)
    for trial in [*(trial for trial in results.trials if not trial.points), *(trial for trial, _ in scored)]:
        point = trial.best(results.metric.mode)
        if point is None:
            line, opacity = {"color": "var(--muted)", "width": 1, "dash": "dash"}, 0.6
        elif trial is results.best:
            line, opacity = {"color": "var(--ink)", "width": 3}, 1.0
        else:
            rank = bisect_left(ranks, results.metric.sign * point.score) / max(len(ranks) - 1, 1)
            line = {"color": "var(--correct)", "width": 1.5}
            opacity = FAINT + (STRONG - FAINT) * rank**RANK_POWER
        figure.add_scatter(
            x=list(range(len(axes) + 1)),
            y=[
                *(_spread_position(axis, trial) for axis in axes),
                scores.position(point.score) if scores and point else None,
            ],
            name=f"trial {trial.number}",
            mode="lines",
            line=line,
            opacity=opacity,
            hovertext=plain(results.describe(trial, [axis.key for axis in axes])),
            hoverinfo="text",
            cliponaxis=False,
        )


def _spread_position(axis: ParamAxis, trial: Trial) -> float | None:
    """Return a trial's position on an axis; lines through the same choice are spread."""
    position = axis.position(trial)
    if position is None or not axis.num_choices:
        return position
    return position + SPREAD * jitter(trial.number)


def _add_score_axis(
    figure: go.Figure, x: int, scores: ScoreAxis, results: Results, keys: Sequence[str]
) -> None:
    """Add the axis of scores on the right with a marker per trial: Plotly hides an axis without a trace."""
    scored = results.scored()
    figure.add_scatter(
        x=[x] * len(scored),
        y=[scores.clip(point.score) for _, point in scored],
        yaxis="y2",
        name="score",
        mode="markers",
        marker={"size": 5, "color": "var(--correct)"},
        hovertext=[plain(results.describe(trial, keys)) for trial, _ in scored],
        hoverinfo="text",
        cliponaxis=False,
    )
    layout = {
        "side": "right",
        "overlaying": "y",
        "tickmode": "auto",
        "title_text": "",
        "showgrid": False,
        "fixedrange": True,
        "zeroline": False,
        "automargin": True,
        "ticks": "outside",
        "tickcolor": "var(--axis)",
    }
    figure.update_layout(yaxis2=scores.layout(AXIS_ROOM) | layout)


def _add_param_axis(figure: go.Figure, x: int, axis: ParamAxis) -> None:
    """Add the vertical line and the labels of a hyperparameter."""
    _add_axis_line(figure, x, layer="below")
    for position, text in axis.labels():
        # Ends of ranges are above and below the axis, choices right of it.
        placement: dict[str, Any] = (
            {"xanchor": "left", "xshift": 6}
            if axis.num_choices
            else {"yanchor": "bottom" if position else "top", "yshift": 2 if position else -2}
        )
        figure.add_annotation(
            x=x,
            y=position,
            text=plain(truncate(text, MAX_TICK_NAME)),
            hovertext=plain(text),
            showarrow=False,
            borderpad=1,
            bgcolor="var(--surface)" if axis.num_choices else None,
            opacity=0.9,
            **placement,
        )


def _add_axis_line(figure: go.Figure, x: int, **options: Any) -> None:
    line = {"color": "var(--axis)", "width": 1}
    figure.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, line=line, **options)


def _set_layout(figure: go.Figure, names: Sequence[str]) -> None:
    figure.update_xaxes(
        side="top",
        range=[-0.45, len(names) - 1],
        ticklabeloverflow="allow",
        tickvals=list(range(len(names))),
        ticktext=[wrap_name(name) for name in names],
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
