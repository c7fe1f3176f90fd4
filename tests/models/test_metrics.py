"""Classification metrics against scikit-learn, calibration by hand, and invalid inputs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sklearn.metrics

from models.metrics import (
    MAX_MATRIX_CLASSES,
    ClipScores,
    calibration_bins,
    classification_metrics,
    concatenate,
    score_clips,
)

NAMES = [f"class {i}" for i in range(7)]


def random_predictions(
    seed: int, clips: int = 200, classes: int = 7, dtype: type = np.float64
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, clips)
    logits = rng.normal(size=(clips, classes)) + 2.0 * np.eye(classes)[labels] * rng.random((clips, 1))
    odds = np.exp(logits)
    return (odds / odds.sum(axis=1, keepdims=True)).astype(dtype), labels


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_metrics_match_scikit_learn(dtype):
    probabilities, labels = random_predictions(0, dtype=dtype)
    predictions = probabilities.argmax(axis=1)
    metrics = classification_metrics(score_clips(probabilities, labels), NAMES)
    assert metrics["clips"] == 200
    assert metrics["accuracy"] == pytest.approx(
        sklearn.metrics.accuracy_score(labels, predictions), abs=1e-12
    )
    assert metrics["macro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(labels, predictions, average="macro", zero_division=0), abs=1e-12
    )
    # scikit-learn sums in the type of the input, hence the tolerance.
    assert metrics["log_loss"] == pytest.approx(sklearn.metrics.log_loss(labels, probabilities), rel=1e-6)
    assert (
        metrics["confusion"]
        == sklearn.metrics.confusion_matrix(labels, predictions, labels=range(7)).tolist()
    )
    expected = sklearn.metrics.precision_recall_fscore_support(
        labels, predictions, labels=range(7), zero_division=0
    )
    for entry, name, *row in zip(metrics["per_class"], NAMES, *expected, strict=True):
        assert entry["name"] == name
        assert [entry["precision"], entry["recall"], entry["f1"], entry["support"]] == pytest.approx(
            row, abs=1e-12
        )


def test_metrics_name_classes_without_clips():
    probabilities = np.eye(3)[[0, 1, 2, 1]]
    metrics = classification_metrics(score_clips(probabilities, np.array([0, 1, 1, 1])), ["a", "b", "c"])
    assert metrics["classes_without_clips"] == ["c"]
    assert metrics["macro_f1"] == pytest.approx((1 + 0.8) / 2)


def test_calibration_matches_values_by_hand():
    # Bins (9/15, 10/15], (11/15, 12/15] and (13/15, 14/15]; class 0 is predicted throughout.
    first = np.array([0.62, 0.64, 0.76, 0.90, 0.92])
    probabilities = np.stack([first, 1 - first], axis=1)
    labels = np.array([0, 1, 0, 0, 1])
    metrics = classification_metrics(score_clips(probabilities, labels), ["a", "b"])
    expected = (2 * abs(0.63 - 0.5) + 1 * abs(0.76 - 1.0) + 2 * abs(0.91 - 0.5)) / 5
    assert metrics["ece"] == pytest.approx(expected)
    nonempty = [
        (round(e["low"] * 15), e["count"], e["accuracy"]) for e in metrics["calibration"] if e["count"]
    ]
    assert nonempty == [(9, 2, 0.5), (11, 1, 1.0), (13, 2, 0.5)]
    assert len(metrics["calibration"]) == 15
    assert metrics["calibration"][0] == {
        "low": 0.0,
        "high": pytest.approx(1 / 15),
        "confidence": None,
        "accuracy": None,
        "count": 0,
    }


def test_calibration_bins_include_upper_edge_and_ends():
    counts = [
        entry["count"]
        for entry in calibration_bins(np.array([0.0, 0.25, 0.5, 1.0, 1.0000001]), np.ones(5, bool), 4)
    ]
    assert counts == [2, 1, 0, 2]


def test_perfect_and_confidently_wrong_predictions():
    one_hot = np.eye(3)
    correct = classification_metrics(score_clips(one_hot, np.arange(3)), "abc")
    assert (correct["accuracy"], correct["macro_f1"], correct["ece"]) == (1.0, 1.0, 0.0)
    assert correct["log_loss"] == pytest.approx(0.0, abs=1e-12)
    wrong = classification_metrics(score_clips(one_hot, np.array([1, 2, 0])), "abc")
    assert (wrong["accuracy"], wrong["ece"]) == (0.0, 1.0)
    assert wrong["log_loss"] == pytest.approx(-np.log(np.finfo(np.float64).eps))


def test_metrics_are_plain_json():
    metrics = classification_metrics(score_clips(*random_predictions(1, dtype=np.float32)), NAMES)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.ones((4, 2)) / 2, np.zeros(3, int), r"\(4, 2\), labels \(3,\)"),
        (np.ones((4, 2)) / 2, np.zeros((4, 1), int), r"labels \(4, 1\)"),
        (np.ones(4), np.zeros(4, int), r"probabilities \(4,\)"),
        (np.ones((2, 2), int), np.zeros(2, int), "floating point"),
        (np.array([[0.5, 0.5], [np.nan, 0.5]]), np.zeros(2, int), "1 of 2 rows .* row 1"),
        (np.array([[2.0, -1.0]]), np.zeros(1, int), "not probabilities"),
        (np.array([[3.0, 1.0]]), np.zeros(1, int), "sum 4"),
        (np.ones((2, 2)) / 2, np.array([0, 2]), r"\[0, 2\), not in \[0, 2\]"),
        (np.ones((2, 2)) / 2, np.array([0, -1]), "labels must be in"),
        (np.ones((2, 2)) / 2, np.array([0.0, 1.0]), "labels must be integers"),
    ],
)
def test_invalid_inputs_raise(probabilities, labels, message):
    with pytest.raises(ValueError, match=message):
        score_clips(probabilities, labels)


def test_metrics_of_no_clips_raise():
    with pytest.raises(ValueError, match="need at least one clip"):
        classification_metrics(score_clips(np.ones((0, 2)), np.zeros(0, int)), "ab")


def test_class_beyond_the_names_raises():
    with pytest.raises(ValueError, match=r"labels must be in \[0, 1\)"):
        classification_metrics(score_clips(np.eye(2), np.arange(2)), "a")


def test_batches_of_clips_give_the_same_metrics():
    probabilities, labels = random_predictions(2, dtype=np.float32)
    parts = [score_clips(probabilities[part], labels[part]) for part in (slice(7), slice(7, None))]
    whole = score_clips(probabilities, labels)
    assert classification_metrics(concatenate(parts), NAMES) == classification_metrics(whole, NAMES)


def test_metrics_of_many_classes_have_no_matrix():
    """All else is of the size of the classes."""
    for count in (MAX_MATRIX_CLASSES, MAX_MATRIX_CLASSES + 1, 20_000):
        labels = np.arange(3) * (count // 3)
        clips = ClipScores(
            labels, np.zeros(3, int), np.full(3, 0.5), np.full(3, 0.1), labels, np.zeros((3, 0))
        )
        metrics = classification_metrics(clips, [f"{i}" for i in range(count)])
        assert (metrics["confusion"] is None) == (count > MAX_MATRIX_CLASSES)
        assert len(metrics["per_class"]) == count and metrics["accuracy"] == pytest.approx(1 / 3)


def test_equal_probabilities_rank_as_argmax_does() -> None:
    """A model that has collapsed is not right about all classes."""
    clips = score_clips(np.full((8, 8), 1 / 8), np.arange(8))
    assert clips.rank.tolist() == list(range(8))
    assert (clips.rank == 0).sum() == (clips.predictions == clips.labels).sum() == 1
