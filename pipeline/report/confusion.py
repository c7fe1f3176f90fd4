"""Figures of a classifier's predictions: confusion matrix and reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pipeline.io.text import plural
from pipeline.report.charts import Chart, plain, truncate
from pipeline.report.page import percent

# Width of the matrix and limits of the size of a cell in pixels: the smallest one holds three digits.
MATRIX_WIDTH, MIN_CELL, MAX_CELL = 620, 18, 62
# Up to this number of classes, column names are at an angle, which is easier to read; more would overlap.
MAX_ANGLED = 20
MAX_NAME = 24
# On a narrow screen, the matrix shrinks to this fraction and scrolls beyond.
MIN_SCALE = 0.7
# Opacity of the strongest cell with a dark count, and of the weakest with a light one: in between, neither
# has a contrast of 4.5.
WEAK, STRONG = 0.58, 0.8
COLOR_NOTE = "blue: correct, orange: wrong; darker cells hold a larger fraction of the row"


def confusion_chart(
    confusion: Sequence[Sequence[int]],
    class_names: Sequence[str],
    row: str = "true class",
    column: str = "predicted class",
) -> Chart:
    """Plot a confusion matrix: correct predictions in blue, wrong ones in orange; zeros are left empty.

    Args:
        confusion: counts `[shape=(C, C)]`; rows are true classes, columns predictions.
        class_names: names of the C classes.
        row: title of the rows.
        column: title of the columns.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    num_classes = len(class_names)
    cell_size = min(MAX_CELL, max(MIN_CELL, MATRIX_WIDTH / num_classes))
    angled = num_classes <= MAX_ANGLED
    names = [plain(truncate(name, MAX_NAME)) for name in class_names]
    figure = go.Figure()
    _add_cells(figure, counts, class_names, cell_size)
    _set_matrix_axes(figure, names, row, column, angled)
    # Room for the names in pixels; the last column's name, if at an angle, is right of the matrix.
    label_width = 6.5 * max(map(len, names))
    right = 0.7 * 6.5 * len(names[-1]) if angled else 8
    figure.update_layout(showlegend=False, margin_r=right)
    width = cell_size * num_classes + label_width + right + 40
    height = cell_size * num_classes + (0.7 if angled else 1) * label_width + 56
    style = (
        f"aspect-ratio:{width:.0f}/{height:.0f};max-width:{width:.0f}px;min-width:{MIN_SCALE * width:.0f}px"
    )
    description = (
        f"Confusion matrix of {num_classes} classes: {int(np.trace(counts))} of {int(counts.sum())} clips "
        "correct."
    )
    if mistakes := top_confusions(confusion, class_names):
        description += f" Most frequent confusions: {mistakes}."
    return Chart(figure, description, style=style)


def _add_cells(figure: go.Figure, counts: np.ndarray, class_names: Sequence[str], cell_size: float) -> None:
    """Add colored cells for counts `[shape=(C, C)]` above zero, and the counts as text over them."""
    totals, names = counts.sum(axis=1), [plain(name) for name in class_names]
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


def top_confusions(confusion: Sequence[Sequence[int]], class_names: Sequence[str], limit: int = 3) -> str:
    """Describe the most frequent confusions, as `rain → sea (3)`; empty if there are none."""
    counts = np.array(confusion, dtype=np.int64)
    np.fill_diagonal(counts, 0)
    pairs = [
        divmod(int(i), len(class_names))
        for i in np.argsort(-counts, axis=None, kind="stable")[:limit]
        if counts.flat[i]
    ]
    return ", ".join(f"{class_names[i]} → {class_names[j]} ({counts[i, j]})" for i, j in pairs)


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
