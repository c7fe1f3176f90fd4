"""Report of a classifier: self-contained, escaped, with all metrics and figures for any number of classes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.confusion import Confusion, count_confusions
from models.metrics import ClipScores, classification_metrics, score_clips
from pipeline.audio.features import FeatureConfig
from pipeline.classifier.report import MAX_MISTAKES, Mistake, write_report
from pipeline.classifier.report_page import Example, ReportContent
from tests.helpers.html_page import EVIL_NAMES, Page, assert_accessible, parse_checked

FEATURES = FeatureConfig()
SECTIONS = [
    "Learning curves",
    "Confusion matrix",
    "Classes",
    "Calibration",
    "Examples",
    "Most confident mistakes",
    "Settings",
]


def random_mel(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(-40, 12, FEATURES.shape).astype(np.float16)


def make_history(epochs: int, validated: bool = True) -> list[dict[str, Any]]:
    history = []
    for epoch in range(1, epochs + 1):
        entry = {"epoch": epoch, "train_loss": 2.0 / epoch, "learning_rate": 1e-3 / epoch, "seconds": 3.0}
        if validated:
            entry |= {
                "val_loss": 2.2 / epoch,
                "val_accuracy": 1 - 0.9 / epoch,
                "val_macro_f1": 1 - 0.95 / epoch,
                "best": epoch <= 2,
            }
        history.append(entry)
    return history


def make_scores(names: list[str], never_predicted: int | None = None) -> ClipScores:
    """Return random predictions of 4 clips per class."""
    labels = np.arange(4 * len(names)) % len(names)
    scores = np.random.default_rng(0).random((len(labels), len(names))) + 1.5 * np.eye(len(names))[labels]
    if never_predicted is not None:
        scores[:, never_predicted] = 0.0
    return score_clips(scores / scores.sum(axis=1, keepdims=True), labels)


def make_metrics(names: list[str], never_predicted: int | None = None) -> dict[str, Any]:
    return classification_metrics(make_scores(names, never_predicted), names)


def make_confusion(names: list[str], never_predicted: int | None = None) -> Confusion:
    scores = make_scores(names, never_predicted)
    return count_confusions(scores.labels, scores.predictions, len(names))


def write(folder: Path, names: list[str], num_mistakes: int = 3, **changes: Any) -> str:
    """Write a report and return its text."""
    path = folder / "report.html"
    values: dict[str, Any] = {
        "title": "A <test> & more",
        "summary": {"data": "<here>", "device": "CPU"},
        "metrics": make_metrics(names),
        "confusion": make_confusion(names),
        "history": make_history(3),
        "mistakes": [
            Mistake(f"clip {i}", names[0], names[-1], 0.5 + i / 1000, random_mel(i))
            for i in range(num_mistakes)
        ],
        "examples": [Example(f"example {name}", name, random_mel(i)) for i, name in enumerate(names)],
        "features": FEATURES,
        "settings": {"optimizer": {"name": "<adamw>", "betas": [0.9, 0.95]}, "resume": None},
    }
    values |= changes
    other = {name: values.pop(name) for name in ("confusion", "mistakes")}
    write_report(path, ReportContent(**values), **other)
    return path.read_text(encoding="utf-8")


def test_page_is_self_contained_and_accessible(tmp_path):
    text = write(tmp_path, list("abc"))
    page = parse_checked(text)
    assert page.sections == SECTIONS
    assert [chart["title"] for chart in page.charts[:3]] == ["Loss", "Validation", "Learning rate"]
    assert len(page.charts) == 5
    assert os.listdir(tmp_path) == ["report.html"]


def test_names_and_paths_are_escaped(tmp_path):
    names = list(EVIL_NAMES)
    text = write(tmp_path, names)
    page = parse_checked(text)
    assert not [attrs for attrs in page.find_all("b") if "x" in attrs]
    for name in [*names[:-1], "caf\\udce9", "A <test> & more", "<here>", "<adamw>"]:
        assert name in page.text
    assert ["optimizer.betas", "0.9, 0.95"] in page.tables[-1]
    # JSON keeps the surrogate, in an escape of its own.
    assert names[-1] in page.chart("Confusion matrix")["layout"]["xaxis"]["ticktext"]


def test_cards_show_the_metrics(tmp_path):
    metrics = make_metrics(list("abc")) | {
        "accuracy": 0.871,
        "macro_f1": 0.862,
        "log_loss": 0.4567,
        "ece": 0.0321,
    }
    words = Page(write(tmp_path, list("abc"), metrics=metrics)).words
    for text in (
        "Accuracy87.1 %12 clips; chance level: 33.3 %",
        "Macro-F186.2 %unweighted mean over classes",
        "Log-loss0.457lower is better; chance level: 1.099",
        "Calibration error3.2 %",
        "The mean gap between the two (ECE) is 3.2 %.",
    ):
        assert text in words


def test_curves_show_the_history(tmp_path):
    page = Page(write(tmp_path, list("ab"), history=make_history(5)))
    training, validation = page.chart("Loss")["data"]
    assert (training["name"], validation["name"]) == ("training", "validation")
    assert training["x"] == validation["x"] == [1, 2, 3, 4, 5]
    assert training["y"] == [2.0 / epoch for epoch in range(1, 6)]
    assert validation["y"] == [2.2 / epoch for epoch in range(1, 6)]
    assert [trace["name"] for trace in page.chart("Validation")["data"]] == ["accuracy", "macro-F1"]
    assert page.chart("Learning rate")["data"][0]["y"] == [1e-3 / epoch for epoch in range(1, 6)]
    for chart in page.charts[:3]:
        assert [shape["x0"] for shape in chart["layout"]["shapes"]] == [2]
    assert "5 epochs in 15 s; dashed vertical line: best epoch, 2." in page.words


def test_confusion_matrix_and_reliability_show_the_metrics(tmp_path):
    metrics = make_metrics(list("abc"), never_predicted=1)
    page = Page(write(tmp_path, list("abc"), metrics=metrics, confusion=make_confusion(list("abc"), 1)))
    chart = page.chart("Confusion matrix")
    counts = chart["data"][-1]
    confusion = np.zeros((3, 3), int)
    confusion[counts["y"], counts["x"]] = [int(text) for text in counts["text"]]
    assert confusion.tolist() == np.asarray(metrics["confusion"]).tolist()
    assert chart["layout"]["yaxis"]["title"]["text"] == "← true class"
    bars = {trace["name"]: trace["y"] for trace in page.chart("Reliability diagram")["data"]}
    assert bars["clips"] == [entry["count"] for entry in metrics["calibration"] if entry["count"]]


@pytest.mark.parametrize(("confidence", "expected"), [(0.9, "overconfident"), (0.6, "underconfident")])
def test_calibration_names_the_direction(confidence, expected, tmp_path):
    metrics = make_metrics(list("ab"))
    metrics["calibration"] = [
        {"low": 0.5, "high": 1.0, "confidence": confidence, "accuracy": 0.75, "count": metrics["clips"]}
    ]
    words = Page(write(tmp_path, list("ab"), metrics=metrics)).words
    assert f"On average the model is {expected} by 15.0 %." in words


def test_most_confident_mistakes_come_first(tmp_path):
    labels = np.zeros(23, int)
    confusion = count_confusions(labels, np.where(np.arange(23) < 20, 2, 0), 3)
    page = Page(write(tmp_path, list("abc"), num_mistakes=20, confusion=confusion))
    assert f"{MAX_MISTAKES} of 20. Most confident first." in page.words
    assert re.findall(r"predicted c \(52 %\), true aclip (\d+)", page.words) == list(
        map(str, range(19, 14, -1))
    )
    shown = [int(number) for number in re.findall(r"true aclip (\d+)", page.words)]
    assert shown == list(range(19, 19 - MAX_MISTAKES, -1))


@pytest.mark.parametrize("classes", [1, 2, 10, 50])
def test_any_number_of_classes(classes, tmp_path):
    text = write(tmp_path, [f"class {i}" for i in range(classes)])
    page = Page(text)
    assert_accessible(page)
    # A color bar and images of each of the two galleries.
    assert len(page.find_all("img")) == 1 + classes + 1 + 3
    assert len(page.tables[0]) == 1 + classes
    assert len(page.chart("Confusion matrix")["layout"]["xaxis"]["ticktext"]) == classes
    if classes == 10:
        assert len(text) - sum(map(len, page.scripts)) < 1_500_000


def test_page_without_validation_mistakes_and_examples(tmp_path):
    history = make_history(5, validated=False)
    page = Page(write(tmp_path, list("ab"), num_mistakes=0, history=history, examples=[]))
    assert "Trained without validation" in page.text
    assert "No misclassified clips." in page.text
    assert page.sections == [title for title in SECTIONS if title != "Examples"]
    assert [chart["title"] for chart in page.charts[:2]] == ["Loss", "Learning rate"]
    assert [trace["name"] for trace in page.chart("Loss")["data"]] == ["training"]
    assert not page.find_all("img")


@pytest.mark.parametrize("epochs", [1, 500])
def test_any_number_of_epochs(epochs, tmp_path):
    page = Page(write(tmp_path, list("ab"), history=make_history(epochs)))
    assert f"{epochs} epoch{'' if epochs == 1 else 's'} in" in page.text
    assert ("best epoch, 2." in page.text) == (epochs > 1)
    assert len(page.charts) == 5


def test_classes_with_low_f1_come_first(tmp_path):
    names = ["a", "never predicted", "c"]
    metrics = make_metrics(names, never_predicted=1)
    header, *rows = Page(write(tmp_path, names, metrics=metrics)).tables[0]
    assert header == ["class", "F1", "precision", "recall", "clips"]
    assert rows[0] == ["never predicted", "0.0\u202f%", "0.0\u202f%", "0.0\u202f%", "4"]
    f1 = {entry["name"]: entry["f1"] for entry in metrics["per_class"]}
    assert [row[0] for row in rows] == sorted(f1, key=lambda name: (f1[name], name))


def test_classes_without_clips_come_last_without_scores(tmp_path):
    names = ["a", "b", "no clips"]
    scores = score_clips(np.full((2, 3), 1 / 3), np.array([0, 0]))
    confusion = count_confusions(scores.labels, scores.predictions, 3)
    metrics = classification_metrics(scores, names)
    rows = Page(write(tmp_path / "deep" / "er", names, metrics=metrics, confusion=confusion)).tables[0][1:]
    assert rows[0][0] == "a"
    assert rows[-1] == ["no clips", "–", "–", "–", "0"]


def test_page_of_thousands_of_classes_is_small(tmp_path):
    names = [f"class {i}" for i in range(3000)]
    # The classes from 1000 on are predicted as the class before, those from 2000 on with more clips.
    labels = np.concatenate([np.arange(3000), np.arange(2000, 3000)])
    scores = ClipScores(
        labels, labels - (labels >= 1000), np.full(4000, 0.5), np.full(4000, 0.5), labels, np.zeros((4000, 0))
    )
    confusion = count_confusions(scores.labels, scores.predictions, len(names))
    examples = [Example(f"example {i}", names[i], random_mel(i)) for i in range(0, 3000, 60)]
    text = write(
        tmp_path,
        names[:3],
        metrics=classification_metrics(scores, names),
        confusion=confusion,
        examples=examples,
    )
    page = parse_checked(text)
    assert len(text) - sum(map(len, page.scripts)) < 3_000_000
    pairs, classes, *_ = page.tables
    assert pairs[1][:3] == ["class 2000", "class 1999", "2"] and len(pairs) == 1 + 50
    assert classes[1][0] == "class 2000" and len(classes) == 1 + 100
    for note in (
        "Shown: 50 of 3,000 classes, those most often confused; confusion.csv has all.",
        "Shown: 100 of 3,000 classes, those with the lowest F1; evaluation.json has all.",
        "Shown: 50 of 3,000 classes, evenly spaced.",
    ):
        assert note in page.words
    assert len(page.chart("Confusion matrix")["layout"]["xaxis"]["ticktext"]) == 50
