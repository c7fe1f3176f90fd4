"""Classification metrics against scikit-learn, calibration by hand, and invalid inputs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sklearn.metrics

from models.metrics import calibration_bins, class_scores, classification_metrics, confusion_matrix, scores

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
    metrics = classification_metrics(probabilities, labels, NAMES)
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


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [
        ([0, 0, 1, 1], [0, 1, 1, 1]),  # classes 2 to 4 absent
        ([0, 1, 2], [0, 1, 1]),  # class 2 never predicted
        ([0, 1, 1], [0, 1, 2]),  # class 2 never true: without recall
        ([3, 3], [4, 4]),  # none correct
    ],
)
def test_macro_f1_ignores_absent_classes(labels, predictions):
    confusion = confusion_matrix(np.array(labels), np.array(predictions), 5)
    metrics = scores(confusion)
    assert metrics["macro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(
            labels, predictions, labels=np.unique(labels), average="macro", zero_division=0
        ),
        abs=1e-12,
    )
    assert metrics["accuracy"] == pytest.approx(
        sklearn.metrics.accuracy_score(labels, predictions), abs=1e-12
    )


def test_metrics_name_classes_without_clips():
    probabilities = np.eye(3)[[0, 1, 2, 1]]
    metrics = classification_metrics(probabilities, np.array([0, 1, 1, 1]), ["a", "b", "c"])
    assert metrics["classes_without_clips"] == ["c"]
    assert metrics["macro_f1"] == pytest.approx((1 + 0.8) / 2)


def test_confusion_matrix_rows_are_true_and_subsets_add():
    labels, predictions = np.array([0, 0, 1, 2]), np.array([1, 1, 1, 0])
    whole = confusion_matrix(labels, predictions, 3)
    assert whole.dtype == np.int64
    assert whole.tolist() == [[0, 2, 0], [0, 1, 0], [1, 0, 0]]
    subsets = confusion_matrix(labels[:1], predictions[:1], 3) + confusion_matrix(
        labels[1:], predictions[1:], 3
    )
    assert (subsets == whole).all()
    assert confusion_matrix(np.zeros(0, np.int64), np.zeros(0, np.int64), 3).sum() == 0


def test_confusion_matrix_of_uint8_does_not_overflow():
    labels = np.full(3, 49, np.uint8)
    assert confusion_matrix(labels, labels, 50)[49, 49] == 3


def test_scores_of_empty_confusion_are_zero():
    assert scores(np.zeros((3, 3), np.int64)) == {"accuracy": 0.0, "macro_f1": 0.0}
    assert class_scores(np.zeros((3, 3), np.int64))["f1"].tolist() == [0, 0, 0]


def test_calibration_matches_values_by_hand():
    # Bins (9/15, 10/15], (11/15, 12/15] and (13/15, 14/15]; class 0 is predicted throughout.
    first = np.array([0.62, 0.64, 0.76, 0.90, 0.92])
    probabilities = np.stack([first, 1 - first], axis=1)
    labels = np.array([0, 1, 0, 0, 1])
    metrics = classification_metrics(probabilities, labels, ["a", "b"])
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
    correct = classification_metrics(one_hot, np.arange(3), "abc")
    assert (correct["accuracy"], correct["macro_f1"], correct["ece"]) == (1.0, 1.0, 0.0)
    assert correct["log_loss"] == pytest.approx(0.0, abs=1e-12)
    wrong = classification_metrics(one_hot, np.array([1, 2, 0]), "abc")
    assert (wrong["accuracy"], wrong["ece"]) == (0.0, 1.0)
    assert wrong["log_loss"] == pytest.approx(-np.log(np.finfo(np.float64).eps))


def test_metrics_are_plain_json():
    metrics = classification_metrics(*random_predictions(1, dtype=np.float32), NAMES)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


@pytest.mark.parametrize(
    ("probabilities", "labels", "names", "message"),
    [
        (np.ones((4, 2)) / 2, np.zeros(3, int), "ab", r"\(4, 2\), labels \(3,\)"),
        (np.ones((4, 2)) / 2, np.zeros((4, 1), int), "ab", r"labels \(4, 1\)"),
        (np.ones((4, 2)) / 2, np.zeros(4, int), "abc", "3 class names"),
        (np.ones(4), np.zeros(4, int), "a", r"probabilities \(4,\)"),
        (np.ones((0, 2)), np.zeros(0, int), "ab", r"at least one clip.*\(0, 2\)"),
        (np.ones((2, 2), int), np.zeros(2, int), "ab", "floating point"),
        (np.array([[0.5, 0.5], [np.nan, 0.5]]), np.zeros(2, int), "ab", "1 of 2 rows .* row 1"),
        (np.array([[2.0, -1.0]]), np.zeros(1, int), "ab", "not probabilities"),
        (np.array([[3.0, 1.0]]), np.zeros(1, int), "ab", "sum 4"),
        (np.ones((2, 2)) / 2, np.array([0, 2]), "ab", r"\[0, 2\), not in \[0, 2\]"),
        (np.ones((2, 2)) / 2, np.array([0, -1]), "ab", "labels must be in"),
        (np.ones((2, 2)) / 2, np.array([0.0, 1.0]), "ab", "labels must be integers"),
    ],
)
def test_invalid_inputs_raise(probabilities, labels, names, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(probabilities, labels, list(names))


def test_confusion_matrix_of_different_shapes_raises():
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        confusion_matrix(np.zeros(3, int), np.zeros(2, int), 2)
