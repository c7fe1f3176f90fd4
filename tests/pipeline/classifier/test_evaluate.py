"""Files of an evaluation: complete for few classes, and small for thousands of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd

from models.classifier import Classifier, ClassifierConfig
from models.metrics import ClipScores
from pipeline.classifier.evaluate import Predictions, class_examples, write_evaluation
from pipeline.training.model_file import ClassifierMetadata, SavedClassifier
from tests.helpers.html_page import Page
from tests.helpers.sounds import SMALL_FEATURES

NETWORK = ClassifierConfig(channels=(4,), convs_per_block=1, embedding_dim=4)


def make_predictions(labels: np.ndarray, predictions: np.ndarray) -> Predictions:
    """Return predictions whose confidence and probability of the true class grow with the row."""
    clips = len(labels)
    dataset = SimpleNamespace(
        table=pd.DataFrame({"clip_id": [f"clip {i}" for i in range(clips)], "path": "/no/file.wav"}),
        features=SMALL_FEATURES,
        mels=np.broadcast_to(np.float16(-40), (clips, *SMALL_FEATURES.shape)),
    )
    confidence = np.linspace(0.2, 0.9, clips, dtype=np.float32)
    return Predictions(
        cast(Any, dataset),
        np.arange(clips),
        ClipScores(labels, predictions, confidence, confidence, np.zeros(clips, int), np.zeros((clips, 0))),
    )


def write(folder: Path, predictions: Predictions, names: list[str]) -> dict[str, Any]:
    metadata = ClassifierMetadata(
        model=NETWORK, features=SMALL_FEATURES, class_names=tuple(names), training={}
    )
    saved = SavedClassifier(Classifier(NETWORK, SMALL_FEATURES.mel.n_mels, len(names)), metadata)
    return write_evaluation(folder, predictions, saved, [], "clips", 1)


def read_confusion(folder: Path) -> list[list[str]]:
    with (folder / "confusion.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_confusion_has_a_row_for_each_pair(tmp_path: Path) -> None:
    labels, predictions = np.array([0, 0, 0, 1, 2]), np.array([1, 0, 1, 1, 0])
    metrics = write(tmp_path, make_predictions(labels, predictions), ["a", 'b,"c"', "d"])
    assert read_confusion(tmp_path) == [
        ["label", "predicted", "clips"],
        ["a", "a", "1"],
        ["a", 'b,"c"', "2"],
        ['b,"c"', 'b,"c"', "1"],
        ["d", "a", "1"],
    ]
    assert metrics["confusion"] == [[1, 2, 0], [0, 1, 0], [1, 0, 0]]


def test_files_of_thousands_of_classes_are_small(tmp_path: Path) -> None:
    names = [f"species {i}" for i in range(5000)]
    labels = np.arange(6000) % 5000
    predictions = np.where(labels % 2, labels, (labels + 7) % 5000)
    metrics = write(tmp_path, make_predictions(labels, predictions), names)
    assert metrics["accuracy"] == 0.5 and metrics["confusion"] is None
    assert json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8")) == metrics
    rows = read_confusion(tmp_path)[1:]
    assert len(rows) == 5000 and sum(int(count) for *_, count in rows) == 6000
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert len(page.find_all("img")) == 1 + 50 + 1 + 12
    assert "12 of 3,000. Most confident first." in page.words
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes["evaluation.json"] < 1_000_000 and sizes["confusion.csv"] < 200_000
    assert sizes["report.html"] - sum(map(len, page.scripts)) < 1_500_000


def test_examples_are_the_most_probable_of_their_class() -> None:
    labels = np.array([1, 1, 3, 3, 0])
    examples = class_examples(make_predictions(labels, labels), list("abcd"))
    assert [(example.label, example.clip_id) for example in examples] == [
        ("a", "clip 4"),
        ("b", "clip 1"),
        ("d", "clip 3"),
    ]


def test_report_of_several_models_has_no_learning_curves(tmp_path: Path) -> None:
    labels = np.array([0, 1, 2])
    write(tmp_path, make_predictions(labels, labels), ["a", "b", "c"])
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Learning curves" not in page.sections and "Confusion matrix" in page.sections
    assert "epochs in" not in page.words
