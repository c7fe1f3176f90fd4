"""Figures as JSON: values of curves, confusion matrices and reliability diagrams, and escaped labels."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import pytest

from models.confusion import count_confusions
from pipeline.report.charts import (
    MAX_MARKERS,
    TEMPLATE,
    Chart,
    best_epoch,
    curve_chart,
    describe_epochs,
    has_key,
    plain,
)
from pipeline.report.confusion import (
    MAX_PAIRS,
    MOST_CONFUSED,
    FrequentConfusion,
    confusion_chart,
    frequent_confusions,
    reliability_chart,
    shown_classes,
    top_confusions,
)
from tests.helpers.confusion import confusion_of

EVIL = "</script><script>alert('&')</script>"


def figure(chart: Chart | None) -> dict[str, Any]:
    """Return the figure as a browser parses it."""
    assert chart is not None
    assert "<" not in chart.json
    return json.loads(chart.json)


def epochs(count: int, **curves: Any) -> list[dict[str, Any]]:
    return [
        {"epoch": i + 1, "seconds": 30.0} | {key: value(i + 1) for key, value in curves.items()}
        for i in range(count)
    ]


def test_curves_have_the_values_of_their_epochs() -> None:
    history = epochs(4, a=lambda epoch: 1 / epoch, b=lambda epoch: 2.0 * epoch if epoch % 2 == 0 else None)
    chart = curve_chart("Title", history, {"a": "first", "b": "second", "missing": "third"}, best=2)
    first, second = figure(chart)["data"]
    assert (first["name"], first["x"], first["y"]) == ("first", [1, 2, 3, 4], [1, 1 / 2, 1 / 3, 1 / 4])
    assert (second["name"], second["x"], second["y"]) == ("second", [2, 4], [4.0, 8.0])
    assert first["line"]["dash"] != second["line"]["dash"]
    assert chart is not None
    assert chart.description == (
        "Title. first: 1 at epoch 1, 0.25 at epoch 4; second: 4 at epoch 2, 8 at epoch 4."
    )


@pytest.mark.parametrize("best", [None, 3])
def test_vertical_line_marks_the_best_epoch(best: int | None) -> None:
    shapes = figure(curve_chart("t", epochs(4, a=float), {"a": "a"}, best))["layout"].get("shapes", [])
    assert [(shape["x0"], shape["x1"]) for shape in shapes] == [(best, best)] * (best is not None)


def test_fractions_have_an_axis_in_percent() -> None:
    chart = curve_chart("t", epochs(2, a=lambda epoch: 0.5 * epoch), {"a": "a"}, as_percent=True)
    axis = figure(chart)["layout"]["yaxis"]
    assert axis["range"] == [0, 1.02] and axis["tickformat"] == ".0%"
    assert chart is not None
    assert " ".join(chart.description.split()) == "t. a: 50 % at epoch 1, 100 % at epoch 2."


def test_long_curves_have_no_markers() -> None:
    modes = [
        figure(curve_chart("t", epochs(count, a=float), {"a": "a"}))["data"][0]["mode"]
        for count in (1, MAX_MARKERS, MAX_MARKERS + 1)
    ]
    assert modes == ["lines+markers", "lines+markers", "lines"]


def test_values_that_are_not_finite_leave_gaps() -> None:
    history = epochs(3, a=lambda epoch: float("nan") if epoch == 2 else 1.0)
    assert figure(curve_chart("t", history, {"a": "a"}))["data"][0]["y"] == [1.0, None, 1.0]


def test_style_is_that_of_the_template_only() -> None:
    layout = figure(curve_chart("t", epochs(2, a=float), {"a": "a"}))["layout"]
    assert layout["template"] == json.loads(json.dumps(TEMPLATE))
    assert "title" not in layout


def test_curves_without_values_give_no_chart() -> None:
    assert curve_chart("t", [], {"a": "a"}) is None
    assert curve_chart("t", epochs(3), {"a": "a"}) is None
    assert has_key(epochs(3, a=float), "a") and not has_key(epochs(3), "a")


def test_description_of_epochs_names_time_and_best() -> None:
    history = epochs(3, best=lambda epoch: epoch <= 2)
    assert best_epoch(history) == 2 and best_epoch([]) is None
    text = "3 epochs in 1 min 30 s; dashed vertical line: best epoch, 2."
    assert describe_epochs(history, 2, "best") == text
    assert describe_epochs(history[:1], None, "best") == "1 epoch in 30 s."


@pytest.mark.parametrize("name", [EVIL, os.fsdecode(b"caf\xe9"), "犬 & 'b'", "$a$"])
def test_labels_of_figures_are_escaped(name: str) -> None:
    data, layout = (
        figure(confusion_chart(confusion_of([[1, 2], [0, 3]]), [name, "b"]))[key]
        for key in ("data", "layout")
    )
    short = name if len(name) <= 24 else name[:23] + "…"
    assert layout["xaxis"]["ticktext"] == layout["yaxis"]["ticktext"] == [plain(short), "b"]
    assert data[-1]["hovertext"][1].startswith(f"{plain(name)} → b: 2 of 3")
    assert "<" not in plain(name)


def test_confusion_chart_shows_counts_by_row_and_column() -> None:
    chart = confusion_chart(confusion_of([[5, 1, 0], [0, 7, 0], [0, 0, 0]]), list("abc"), "requested class")
    correct, wrong, counts = figure(chart)["data"]
    cells = dict(zip(zip(counts["y"], counts["x"], strict=True), counts["text"], strict=True))
    assert cells == {(0, 0): "5", (0, 1): "1", (1, 1): "7"}
    shown = [(np.array(trace["z"], float) > 0).tolist() for trace in (correct, wrong)]
    assert shown == [
        [[True, False, False], [False, True, False], [False, False, False]],
        [[False, True, False], [False, False, False], [False, False, False]],
    ]
    # The larger the fraction of the row, the stronger the color.
    assert wrong["z"][0][1] < correct["z"][0][0] < correct["z"][1][1] == 1.0
    assert "a → b: 1 of 6 (16.7 %)" in [" ".join(tip.split()) for tip in counts["hovertext"]]
    layout = figure(chart)["layout"]
    assert layout["yaxis"]["title"]["text"] == "← requested class"
    # Row 0 is at the top.
    assert layout["yaxis"]["range"] == [2.5, -0.5] and layout["xaxis"]["range"] == [-0.5, 2.5]
    assert chart.description == (
        "Confusion matrix of 3 classes: 12 of 13 clips correct. Most frequent confusions: a → b (1)."
    )


def test_top_confusions_are_the_most_frequent() -> None:
    confusion = confusion_of([[9, 1, 4], [2, 9, 0], [3, 0, 9]])
    assert top_confusions(confusion, list("abc")) == "a → c (4), c → a (3), b → a (2)"
    assert frequent_confusions(confusion, list("abc")) == []  # the matrix shows them
    assert top_confusions(confusion_of(np.eye(3, dtype=int)), list("abc")) == ""


def test_matrix_of_many_classes_shows_most_confused() -> None:
    labels = np.arange(3000)
    predictions = np.concatenate([labels[:2000], np.full(1000, 7)])
    predictions[[20, 21]] = 10
    confusion = count_confusions(np.tile(labels, 2), np.tile(predictions, 2), 3000)
    names = [f"class {i}" for i in range(3000)]
    classes = shown_classes(confusion)
    assert len(classes) == MOST_CONFUSED and {7, 10, 20, 21, 2000} <= set(classes)
    chart = confusion_chart(confusion, names)
    assert chart.description.startswith(
        "Confusion matrix of 50 of 3,000 classes, those most often confused: 3996 of 6000 clips correct."
    )
    assert len(chart.json) < 100_000
    counts = figure(chart)["data"][-1]
    assert "class 20 → class 10: 2 of 2 (100.0 %)" in [" ".join(tip.split()) for tip in counts["hovertext"]]
    pairs = frequent_confusions(confusion, names)
    assert pairs[0] == FrequentConfusion("class 20", "class 10", 2, 1.0) and len(pairs) == MAX_PAIRS


def test_matrix_of_many_classes_without_mistakes() -> None:
    labels = np.arange(1000)
    confusion = count_confusions(labels, labels, 1000)
    assert shown_classes(confusion)[[0, -1]].tolist() == [0, 999]
    assert frequent_confusions(confusion, [f"{i}" for i in labels]) == []


def test_reliability_chart_splits_bars_at_the_confidence() -> None:
    bins = [
        {"low": 0.0, "high": 0.5, "confidence": 0.3, "accuracy": 0.5, "count": 4},
        {"low": 0.5, "high": 0.8, "confidence": 0.0, "accuracy": 0.0, "count": 0},
        {"low": 0.8, "high": 1.0, "confidence": 0.9, "accuracy": 0.6, "count": 6},
    ]
    chart = reliability_chart(bins)
    traces = {trace["name"]: trace for trace in figure(chart)["data"]}
    assert traces["calibrated"]["x"] == pytest.approx([0.25, 0.9])
    for name, heights in (
        ("calibrated", [0.3, 0.6]),
        ("overconfident", [0.0, 0.3]),
        ("underconfident", [0.2, 0.0]),
        ("clips", [4, 6]),
    ):
        assert traces[name]["y"] == pytest.approx(heights)
    assert traces["ideal"]["x"] == traces["ideal"]["y"] == [0, 1]
    assert "confidence 30 %, accuracy 50 %" in " ".join(chart.description.split())
