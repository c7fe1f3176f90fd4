"""Evaluation of multi-label models: metrics, report, cross-validation, and data that do not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

from models.multi_label_metrics import multi_label_metrics
from pipeline.classifier import train
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.config import CrossvalConfig
from pipeline.classifier.crossval import crossval
from pipeline.classifier.evaluate import evaluate
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.multi_label.evaluation import (
    LabelSetPredictions,
    best_thresholds,
    class_errors,
    join_label_set_predictions,
    with_cross_thresholds,
)
from pipeline.classifier.multi_label.report import shown_curves, weakest_classes
from pipeline.classifier.predictor_model import load_predictor
from pipeline.classifier.train import train_in_process
from pipeline.data.dataset import open_dataset
from pipeline.io.errors import UserError
from pipeline.report.precision_recall import PrecisionRecall, precision_recall_chart
from pipeline.training.model_file import load_classifier
from tests.helpers.html_page import Page
from tests.helpers.label_sets import write_label_set_shards
from tests.helpers.sounds import SMALL_NETWORK, train_config, write_shards

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_label_set_shards(tmp_path_factory.mktemp("windows") / "shards", folds=True)


@pytest.fixture(scope="module")
def run(windows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that holds out fold 1. Tests must not change it."""
    run = tmp_path_factory.mktemp("run") / "run"
    config = train_config(windows, run, fold=1, epochs=4, learning_rate=1e-2, model=SMALL_NETWORK)
    train.begin_run(config)
    train_in_process(config)
    return run


def test_evaluation_has_metrics_of_held_out_windows(
    run: Path, windows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = evaluate(EvaluateConfig(run=run, out=tmp_path))
    assert json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8")) == metrics
    dataset, saved = open_dataset(windows), load_classifier(run)
    rows = np.flatnonzero(dataset.table["fold"] == 1)
    targets, probabilities = dataset.targets[rows], predict_probabilities(saved.model, dataset.mels[rows])
    assert metrics["clips"] == 30 and metrics["recordings"] == 5
    assert metrics["background_clips"] == int((~targets.any(axis=1)).sum()) > 0
    expected = sklearn.metrics.average_precision_score(targets, probabilities)
    assert metrics["map"] == pytest.approx(expected)
    low, high = metrics["intervals"]["map"]
    assert low <= metrics["map"] <= high
    thresholds = [entry["threshold"] for entry in metrics["per_class"]]
    assert thresholds == list(saved.metadata.thresholds or ())
    f1 = sklearn.metrics.f1_score(targets, probabilities >= thresholds, average="micro")
    assert metrics["micro_f1"] == pytest.approx(f1)
    assert f"30 clips, macro average precision {expected:.3f} (" in capsys.readouterr().out


def test_report_shows_curves_classes_and_errors(run: Path, tmp_path: Path) -> None:
    metrics = evaluate(EvaluateConfig(run=run, out=tmp_path))
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.sections == [
        "Learning curves",
        "Precision and recall",
        "Classes",
        "Calibration",
        "Examples",
        "Confident false positives",
        "Confident false negatives",
        "Settings",
    ]
    curves = next(chart for chart in page.charts if chart["description"].startswith("Precision-recall"))
    assert len(curves["data"]) == 6  # a curve and a marker for each class
    names = [row[0] for row in page.tables[0][1:]]
    by_precision = sorted(metrics["per_class"], key=lambda entry: entry["average_precision"])
    assert names == [entry["name"] for entry in by_precision]
    wrong = sum(round(entry["support"] * (1 - entry["recall"])) for entry in metrics["per_class"])
    assert len(metrics["false_negatives"]) == min(wrong, 12)
    assert (f"12 of {wrong}. Labeled classes with the lowest" in page.words) == (wrong > 12)
    assert len(metrics["false_positives"]) + len(metrics["false_negatives"]) > 0
    assert "without any class" in page.words and "macro average precision" in page.words


def test_errors_are_most_confident_ones_at_thresholds(windows: Path) -> None:
    dataset = open_dataset(windows)
    targets = np.array([[True, False], [False, False], [True, True]])
    probabilities = np.array([[0.1, 0.6], [0.45, 0.9], [0.3, 0.7]], np.float32)
    predictions = LabelSetPredictions(dataset, np.arange(3), targets, probabilities, np.array([0.4, 0.65]))
    positives, negatives = (class_errors(predictions, ("a", "b"), sign) for sign in (1, -1))
    assert [(error.classes, error.name) for error in positives] == [("background", "b"), ("background", "a")]
    assert [(error.classes, error.name) for error in negatives] == [("a", "a"), ("a, b", "a")]
    assert positives[0].clip_id == dataset.table["clip_id"][1]
    assert positives[0].probability == pytest.approx(0.9)


def test_of_many_classes_some_curves_are_shown() -> None:
    curves = [
        PrecisionRecall(f"class {i}", i / 40, np.linspace(0, 1, 500), np.linspace(1, 0.2, 500), (0.5, 0.6))
        for i in range(41)
    ]
    shown = shown_curves(curves)
    assert [curve.average_precision for curve in shown] == sorted(curve.average_precision for curve in shown)
    assert len(shown) == 8 and {shown[0].name, shown[-1].name} == {"class 0", "class 40"}
    figure = precision_recall_chart(shown).figure
    assert len(figure.data) == 16 and len(figure.data[0].x) == 200
    entries = [
        {"name": f"class {i}", "support": i % 3, "average_precision": i / 200 if i % 3 else None}
        for i in range(150)
    ]
    weakest = weakest_classes(entries)
    assert len(weakest) == 100 and weakest[0]["name"] == "class 1"
    assert all(entry["support"] for entry in weakest)


def test_evaluation_on_clips_of_one_label(run: Path, tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "tones", copies=0)
    metrics = evaluate(EvaluateConfig(run=run, shards=shards, out=tmp_path / "out"))
    assert metrics["multi_label"] and metrics["clips"] == 30 and metrics["background_clips"] == 0


def test_model_of_one_class_refuses_label_sets(windows: Path, tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "tones", copies=0)
    config = train_config(shards, tmp_path / "run", epochs=1)
    train.begin_run(config)
    train_in_process(config)
    with pytest.raises(UserError, match=r"rows have no class and \d+ have several, but the model predicts"):
        evaluate(EvaluateConfig(run=config.run, shards=windows, out=tmp_path / "out"))


def test_unknown_class_of_label_sets_is_named(run: Path, tmp_path: Path) -> None:
    shards = write_label_set_shards(tmp_path / "more", recordings=4, rates=(0.5, 0.3, 0.3, 0.3))
    with pytest.raises(UserError, match="the model does not know 'tone 3', only"):
        evaluate(EvaluateConfig(run=run, shards=shards, out=tmp_path / "out"))


def test_crossval_of_label_sets_reports_average_precision(
    windows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train_all(pending: dict, *_: object) -> dict:
        return {name: train_in_process(config) for name, config in pending.items()}

    monkeypatch.setattr(train, "train_concurrently", train_all)
    settings = train_config(windows, tmp_path, epochs=2).model_dump() | {"val_fraction": 0.0}
    results = crossval(CrossvalConfig(**settings))
    assert [fold["fold"] for fold in results["folds"]] == [1, 2, 3, 4]
    maps = [fold["map"] for fold in results["folds"]]
    assert results["mean"]["map"] == pytest.approx(np.mean(maps))
    assert set(results["thresholds"]) == {"tone 0", "tone 1", "tone 2"}
    assert f"mean of 4 folds: macro average precision {np.mean(maps):.1%} ± " in capsys.readouterr().out
    predictor = load_predictor(tmp_path)
    assert predictor.members == 4 and predictor.model.multi_label
    assert predictor.metadata.thresholds == tuple(results["thresholds"].values())
    pooled = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert pooled["clips"] == 120 and pooled["recordings"] == 20
    assert pooled["split"] == "4 folds, each held out once, at thresholds chosen on the other folds"


def folds_of(windows: Path, size: int) -> list[LabelSetPredictions]:
    """Return random predictions of three folds of the first rows, whose scores are higher in later folds."""
    dataset, rng = open_dataset(windows), np.random.default_rng(0)
    folds = []
    for number in range(3):
        rows = np.arange(number * size, (number + 1) * size)
        targets = rng.uniform(size=(size, 2)) < 0.5
        scores = 0.25 * number + 0.15 * targets + rng.uniform(0, 0.2, (size, 2))
        folds.append(LabelSetPredictions(dataset, rows, targets, scores, np.full(2, 0.5)))
    return folds


def test_fold_is_scored_at_thresholds_of_the_other_folds(windows: Path) -> None:
    folds = folds_of(windows, 20)
    scored = with_cross_thresholds(folds)
    for number, part in enumerate(scored):
        others = [fold for i, fold in enumerate(folds) if i != number]
        joined = join_label_set_predictions(folds[0].dataset, others)
        assert part.thresholds.tolist() == list(best_thresholds(joined, "ab").values())
        np.testing.assert_array_equal(part.probabilities, folds[number].probabilities)
    # Labels of the fold itself make no difference to its thresholds.
    changed = [replace(folds[0], targets=~folds[0].targets), *folds[1:]]
    assert with_cross_thresholds(changed)[0].thresholds.tolist() == scored[0].thresholds.tolist()


def test_joined_folds_keep_their_thresholds(windows: Path) -> None:
    scored = with_cross_thresholds(folds_of(windows, 20))
    pooled = join_label_set_predictions(scored[0].dataset, scored)
    metrics = multi_label_metrics(pooled.targets, pooled.probabilities, pooled.thresholds, "ab")
    predicted = np.concatenate([fold.probabilities >= fold.thresholds for fold in scored])
    assert metrics["micro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(pooled.targets, predicted, average="micro")
    )
    means = np.mean([fold.thresholds for fold in scored], axis=0)
    assert [entry["threshold"] for entry in metrics["per_class"]] == pytest.approx(means)
