"""Precision-recall curves of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from pipeline.report.charts import DASHES, Chart, plain, truncate
from pipeline.report.page import percent
from pipeline.report.selection import evenly_spaced

# Curves of a chart: more cannot be distinguished. Points of a curve: more would be within one pixel.
MAX_CURVES, MAX_POINTS = 8, 200
MAX_NAME = 24
_COLORS = ("var(--correct)", "var(--wrong)", "var(--third)", "var(--fourth)")


@dataclass(frozen=True)
class PrecisionRecall:
    """Curve of a class, from high to low thresholds."""

    name: str
    average_precision: float
    recall: np.ndarray
    precision: np.ndarray
    chosen: tuple[float, float]
    """Recall and precision at the threshold of the class."""


def precision_recall_chart(curves: Sequence[PrecisionRecall]) -> Chart:
    """Plot precision over recall, with a marker at the threshold of each class."""
    figure = go.Figure()
    for i, curve in enumerate(curves):
        color, dash = _COLORS[i % len(_COLORS)], DASHES[i // len(_COLORS) % len(DASHES)]
        points = evenly_spaced(len(curve.recall), MAX_POINTS)
        name = f"{plain(truncate(curve.name, MAX_NAME))} ({percent(curve.average_precision)})"
        figure.add_scatter(
            x=curve.recall[points].tolist(),
            y=curve.precision[points].tolist(),
            mode="lines",
            name=name,
            line={"color": color, "dash": dash, "shape": "vh", "width": 1.8},
        )
        figure.add_scatter(
            x=[curve.chosen[0]],
            y=[curve.chosen[1]],
            mode="markers",
            name=f"{name}, threshold",
            marker={"color": color, "size": 9},
            showlegend=False,
        )
    figure.update_xaxes(title_text="recall", range=[0, 1.02], tickformat=".0%", hoverformat=".1%")
    figure.update_yaxes(title_text="precision", range=[0, 1.02], tickformat=".0%", hoverformat=".1%")
    texts = [
        f"{curve.name}: average precision {percent(curve.average_precision)}, at its threshold recall "
        f"{percent(curve.chosen[0])} and precision {percent(curve.chosen[1])}"
        for curve in curves
    ]
    return Chart(figure, f"Precision-recall curves. {'; '.join(texts)}.", style="height:420px")
