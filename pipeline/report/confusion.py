"""Figures of a classifier's predictions: confusion matrix and reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from models.confusion import Confusion
from pipeline.io.text import plural
from pipeline.report.charts import Chart, plain, truncate
from pipeline.report.page import percent
from pipeline.report.selection import describe_selection, evenly_spaced

# Width of the matrix and limits of the size of a cell in pixels: the smallest one holds three digits.
MATRIX_WIDTH, MIN_CELL, MAX_CELL = 620, 18, 62
# Up to this number of classes, column names are at an angle, which is easier to read; more would overlap.
MAX_ANGLED = 20
MAX_NAME = 24
# Up to this number of classes the matrix shows all; of more, this number of those that are most often
# confused, with a table of this number of confusions.
MAX_CLASSES, MOST_CONFUSED, MAX_PAIRS = 100, 50, 50
SELECTION = "those most often confused"
# On a narrow screen, the matrix shrinks to this fraction and scrolls beyond.
MIN_SCALE = 0.7
# Opacity of the strongest cell with a dark count, and of the weakest with a light one: in between, neither
# has a contrast of 4.5.
WEAK, STRONG = 0.58, 0.8
COLOR_NOTE = "blue: correct, orange: wrong; darker cells hold a larger fraction of the row"


@dataclass(frozen=True)
class FrequentConfusion:
    """A pair of classes with the number of clips of the first that are predicted as the second."""

    true: str
    predicted: str
    count: int
    fraction: float
    """Of the clips of the true class."""


def confusion_chart(
    confusion: Confusion,
    class_names: Sequence[str],
    row: str = "true class",
    column: str = "predicted class",
) -> Chart:
    """Plot a confusion matrix: correct predictions in blue, wrong ones in orange; zeros are left empty.

    Args:
        confusion: counts of C classes; of many, those that are most often confused are shown.
        class_names: names of the C classes.
        row: title of the rows.
        column: title of the columns.
    """
    classes = shown_classes(confusion)
    shown_names = [class_names[i] for i in classes]
    cell_size = min(MAX_CELL, max(MIN_CELL, MATRIX_WIDTH / len(classes)))
    angled = len(classes) <= MAX_ANGLED
    names = [plain(truncate(name, MAX_NAME)) for name in shown_names]
    figure = go.Figure()
    _add_cells(figure, confusion.matrix(classes), confusion.support[classes], shown_names, cell_size)
    _set_matrix_axes(figure, names, row, column, angled)
    # Room for the names in pixels; the last column's name, if at an angle, is right of the matrix.
    label_width = 6.5 * max(map(len, names))
    right = 0.7 * 6.5 * len(names[-1]) if angled else 8
    figure.update_layout(showlegend=False, margin_r=right)
    width = cell_size * len(classes) + label_width + right + 40
    height = cell_size * len(classes) + (0.7 if angled else 1) * label_width + 56
    style = (
        f"aspect-ratio:{width:.0f}/{height:.0f};max-width:{width:.0f}px;min-width:{MIN_SCALE * width:.0f}px"
    )
    return Chart(figure, _describe(confusion, class_names), style=style)


def shown_classes(confusion: Confusion) -> np.ndarray:
    """Return the classes of the matrix, sorted: all, or of many those of the most frequent confusions."""
    if confusion.num_classes <= MAX_CLASSES:
        return np.arange(confusion.num_classes)
    # This number of pairs has at least MOST_CONFUSED classes.
    pairs = confusion.mistakes(MOST_CONFUSED**2)
    classes = dict.fromkeys(label for true, predicted, _ in pairs for label in (true, predicted))
    if not classes:
        return evenly_spaced(confusion.num_classes, MOST_CONFUSED)
    return np.sort(list(classes)[:MOST_CONFUSED])


def selection_note(confusion: Confusion) -> str:
    """Return which classes the matrix shows; an empty text if it shows all."""
    return describe_selection(len(shown_classes(confusion)), confusion.num_classes, SELECTION)


def _describe(confusion: Confusion, class_names: Sequence[str]) -> str:
    """Return what the matrix shows, in words."""
    classes = selection_note(confusion) or f"{confusion.num_classes} classes"
    text = (
        f"Confusion matrix of {classes}: {confusion.correct} of {int(confusion.count.sum())} clips correct."
    )
    if mistakes := top_confusions(confusion, class_names):
        text += f" Most frequent confusions: {mistakes}."
    return text


def _add_cells(
    figure: go.Figure, counts: np.ndarray, totals: np.ndarray, class_names: Sequence[str], cell_size: float
) -> None:
    """Add colored cells for counts `[shape=(K, K)]` above zero, and the counts as text over them.

    `totals` are the clips of each row `[shape=(K,)]`, also those in columns that are not shown.
    """
    names = [plain(name) for name in class_names]
    cells = [(int(i), int(j)) for i, j in zip(*np.nonzero(counts), strict=True)]
    opacity = {(i, j): _opacity(counts[i, j] / totals[i]) for i, j in cells}
    for correct, color in ((True, "var(--cell-correct)"), (False, "var(--cell-wrong)")):
        z: list[list[float | None]] = [[None] * len(names) for _ in names]
        for i, j in cells:
            if (i == j) == correct:
                z[i][j] = opacity[i, j]
        figure.add_heatmap(
            z=z,
            name="correct" if correct else "wrong",
            colorscale=[[0, "var(--surface)"], [1, color]],
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=1,
            ygap=1,
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=[j for _, j in cells],
        y=[i for i, _ in cells],
        mode="text",
        text=[_count(int(counts[i, j])) for i, j in cells],
        textfont={
            "size": min(14, round(0.48 * cell_size)),
            "color": ["var(--on-cell)" if opacity[cell] >= STRONG else "var(--ink)" for cell in cells],
            "weight": ["bold" if opacity[cell] >= STRONG else "normal" for cell in cells],
        },
        hovertext=[
            f"{names[i]} → {names[j]}: {counts[i, j]} of {totals[i]} ({percent(counts[i, j] / totals[i])})"
            for i, j in cells
        ],
        hoverinfo="text",
        name="count",
    )


def _set_matrix_axes(figure: go.Figure, names: Sequence[str], row: str, column: str, angled: bool) -> None:
    """Set names of rows and columns, and grid lines between the cells, which are at whole numbers."""
    num_classes = len(names)
    edges = {
        "tickvals": [i - 0.5 for i in range(num_classes + 1)],
        "showgrid": True,
        "gridcolor": "var(--line)",
    }
    axis = {
        "tickvals": list(range(num_classes)),
        "ticktext": names,
        "tickfont": {"color": "var(--ink)", "size": 12 if angled else 11},
        "range": [-0.5, num_classes - 0.5],
        "minor": edges | {"ticks": ""},
        "showgrid": False,
        "showline": False,
        "ticks": "",
        "ticklabelstandoff": 6,
        "constrain": "domain",
    }
    figure.update_xaxes(axis, side="top", title_text=f"{column} →", tickangle=-45 if angled else -90)
    figure.update_yaxes(
        axis, range=[num_classes - 0.5, -0.5], title_text=f"← {row}", scaleanchor="x", constraintoward="top"
    )


def top_confusions(confusion: Confusion, class_names: Sequence[str], limit: int = 3) -> str:
    """Describe the most frequent confusions, as `rain → sea (3)`; empty if there are none."""
    return ", ".join(
        f"{class_names[true]} → {class_names[predicted]} ({count})"
        for true, predicted, count in confusion.mistakes(limit)
    )


def frequent_confusions(confusion: Confusion, class_names: Sequence[str]) -> list[FrequentConfusion]:
    """Return the most frequent confusions if the matrix does not show all classes, else none."""
    if confusion.num_classes <= MAX_CLASSES:
        return []
    support = confusion.support
    return [
        FrequentConfusion(class_names[true], class_names[predicted], count, count / int(support[true]))
        for true, predicted, count in confusion.mistakes(MAX_PAIRS)
    ]


def _opacity(fraction: float) -> float:
    """Return the opacity of a cell with a fraction of its row; single clips of many are still visible."""
    if fraction < 0.5:
        return 0.07 + (WEAK - 0.07) * (2 * fraction) ** 0.75
    return STRONG + (1 - STRONG) * (2 * fraction - 1)


def _count(value: int) -> str:
    """Format a count in at most four characters."""
    if value < 10_000:
        return str(value)
    return f"{value / 1000:.0f}k" if value < 1_000_000 else f"{value / 1e6:.0f}M"


def reliability_chart(calibration: Sequence[Mapping[str, Any]]) -> Chart:
    """Plot accuracy over confidence in bins, with the gap between the two, and the clips of each bin below.

    Args:
        calibration: bins with `low`, `high`, `confidence`, `accuracy` and `count`.
    """
    bins = [entry for entry in calibration if entry["count"]]
    centers = [(entry["low"] + entry["high"]) / 2 for entry in bins]
    widths = [0.94 * (entry["high"] - entry["low"]) for entry in bins]
    tips = [
        f"confidence {percent(entry['confidence'])}, accuracy {percent(entry['accuracy'])}, "
        f"{plural(entry['count'], 'clip')}"
        for entry in bins
    ]
    gaps = [entry["confidence"] - entry["accuracy"] for entry in bins]
    figure = make_subplots(rows=2, shared_xaxes=True, row_heights=[0.84, 0.16], vertical_spacing=0.05)
    bars = {"x": centers, "width": widths, "hovertext": tips, "hoverinfo": "text"}
    for name, color, heights in (
        ("calibrated", "var(--correct)", [min(entry["accuracy"], entry["confidence"]) for entry in bins]),
        ("overconfident", "var(--wrong)", [max(gap, 0.0) for gap in gaps]),
        ("underconfident", "var(--third)", [max(-gap, 0.0) for gap in gaps]),
    ):
        opacity = 1.0 if name == "calibrated" else 0.6
        figure.add_bar(
            **bars, y=heights, name=name, marker={"color": color, "opacity": opacity}, row=1, col=1
        )
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"dash": "dash", "color": "var(--axis)", "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
        name="ideal",
        row=1,
        col=1,
    )
    figure.add_bar(
        **bars,
        y=[entry["count"] for entry in bins],
        name="clips",
        marker={"color": "var(--correct)", "opacity": 0.45},
        showlegend=False,
        row=2,
        col=1,
    )
    figure.update_layout(barmode="stack")
    figure.update_xaxes(range=[0, 1], tickformat=".0%", dtick=0.2)
    figure.update_xaxes(title_text="confidence", row=2)
    figure.update_yaxes(range=[0, 1], tickformat=".0%", dtick=0.2, title_text="accuracy", row=1)
    figure.update_yaxes(title_text="clips", nticks=2, rangemode="tozero", row=2)
    description = "; ".join(
        f"confidence {percent(entry['confidence'], 0)}, accuracy {percent(entry['accuracy'], 0)}"
        for entry in bins
    )
    return Chart(figure, f"Reliability diagram. {description}.", style="height:420px")
