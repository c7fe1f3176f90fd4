"""Plotly figures of a report: their common style, and learning curves.

Colors are properties of `templates/style.css`, as in `var(--correct)`, which the page's script resolves: so
figures follow the color scheme of the reader.
"""

from __future__ import annotations

import html
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.io import to_json

from pipeline.io.console import duration
from pipeline.io.text import plural
from pipeline.report.page import percent

History = Sequence[Mapping[str, Any]]

_AXIS = {
    "automargin": True,
    "fixedrange": True,
    "zeroline": False,
    "gridcolor": "var(--line)",
    "linecolor": "var(--axis)",
    "tickcolor": "var(--axis)",
    "exponentformat": "e",
    "title": {"standoff": 8, "font": {"size": 12}},
}
TEMPLATE = {
    "layout": {
        "font": {"family": "var(--font)", "size": 12, "color": "var(--muted)"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": ["var(--correct)", "var(--wrong)", "var(--third)", "var(--fourth)"],
        "xaxis": _AXIS | {"showgrid": False, "showline": True, "ticks": "outside", "ticklen": 4},
        "yaxis": _AXIS | {"nticks": 7},
        "legend": {
            "orientation": "h",
            "traceorder": "normal",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "title": {"text": ""},
        },
        "hoverlabel": {
            "bgcolor": "var(--surface)",
            "bordercolor": "var(--axis)",
            "font": {"color": "var(--ink)", "family": "var(--font)"},
            "align": "left",
        },
        "margin": {"l": 8, "r": 18, "t": 8, "b": 8},
        # Dragging would zoom instead of scrolling the page on a touch screen.
        "dragmode": False,
    }
}
# Curves differ in their dashes too, not only in color; curves of more epochs have no markers.
DASHES = ("solid", "dash", "dot", "dashdot")
MAX_MARKERS = 40


@dataclass(frozen=True)
class Chart:
    """A figure with what a page needs to show it."""

    figure: go.Figure
    """Any figure; its style is set by `TEMPLATE`."""
    description: str
    """What the figure shows, in words."""
    title: str = ""
    style: str = "height:260px"
    """CSS of its element: the figure takes the size of it."""

    @property
    def json(self) -> Markup:
        """The figure as JSON that can be put into a script element."""
        # Not by update_layout, which merges with the default template of Plotly, and takes 0.1 s.
        figure = self.figure.to_dict()
        figure["layout"] = {key: value for key, value in figure["layout"].items() if key != "title"}
        figure["layout"]["template"] = TEMPLATE
        # orjson, which Plotly prefers where it is installed, rejects the lone surrogates of file names.
        return Markup(to_json(figure, validate=False, engine="json").replace("<", "\\u003c"))


def plain(text: object) -> str:
    """Escape a text for Plotly, which takes some HTML in labels."""
    return html.escape(str(text), quote=False)


def truncate(text: str, limit: int) -> str:
    """Shorten a text to a number of characters, the last of which is an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def curve_chart(
    title: str,
    history: History,
    curves: Mapping[str, str],
    best: int | None = None,
    as_percent: bool = False,
) -> Chart | None:
    """Plot metrics over epochs, with a dashed vertical line at an epoch.

    Args:
        title: title of the chart.
        history: entries of epochs, with `epoch` from 1.
        curves: name of each curve by its key in an entry; epochs without the key are skipped.
        best: epoch of the vertical line; none: no line.
        as_percent: whether values are fractions.

    Returns:
        The chart; none if no epoch has any of the keys.
    """
    figure, descriptions = go.Figure(), []
    for (key, name), dash in zip(curves.items(), DASHES, strict=False):
        points = [(entry["epoch"], entry[key]) for entry in history if entry.get(key) is not None]
        if not points:
            continue
        epochs, values = zip(*points, strict=True)
        mode = "lines+markers" if len(points) <= MAX_MARKERS else "lines"
        figure.add_scatter(x=epochs, y=values, name=name, mode=mode, line={"dash": dash}, marker={"size": 5})
        texts = [
            f"{percent(value, 0) if as_percent else f'{value:.4g}'} at epoch {epoch}"
            for epoch, value in dict.fromkeys((points[0], points[-1]))
        ]
        descriptions.append(f"{name}: {', '.join(texts)}")
    if not descriptions:
        return None
    if best is not None:
        figure.add_vline(x=best, line={"dash": "dash", "color": "var(--axis)", "width": 1.5})
    num_epochs = max(entry["epoch"] for entry in history)
    figure.update_xaxes(title_text="epoch", dtick=1 if num_epochs <= 10 else None, nticks=8)
    figure.update_layout(hovermode="x unified", showlegend=len(descriptions) > 1)
    if as_percent:
        figure.update_yaxes(range=[0, 1.02], tickformat=".0%", hoverformat=".1%")
    else:
        figure.update_yaxes(hoverformat=".4~g")
    return Chart(figure, f"{title}. {'; '.join(descriptions)}.", title)


def curve_charts(
    history: History,
    curves: Mapping[str, Mapping[str, str]],
    best: int | None = None,
    as_percent: Container[str] = (),
) -> list[Chart]:
    """Return a `curve_chart` for each title in `curves`, without those whose keys no epoch has.

    `as_percent` contains the titles of charts of fractions.
    """
    charts = [
        curve_chart(title, history, names, best, title in as_percent) for title, names in curves.items()
    ]
    return [chart for chart in charts if chart is not None]


def has_key(history: History, key: str) -> bool:
    """Return whether an epoch has a value of a key."""
    return any(entry.get(key) is not None for entry in history)


def best_epoch(history: History) -> int | None:
    """Return the epoch whose weights were kept: the last one that was the best so far."""
    return max((entry["epoch"] for entry in history if entry.get("best")), default=None)


def describe_epochs(history: History, best: int | None, kind: str) -> str:
    """Return `12 epochs in 3 min 20 s; dashed vertical line: best epoch, 7.`; `kind` is best or selected."""
    seconds = duration(sum(entry.get("seconds") or 0.0 for entry in history))
    text = f"{plural(len(history), 'epoch')} in {seconds}"
    return f"{text}." if best is None else f"{text}; dashed vertical line: {kind} epoch, {best}."
