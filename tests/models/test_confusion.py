"""Counts by class, their scores against scikit-learn, and confusion matrices without their zeros."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics

from models.confusion import ClassCounts, class_scores, count_classes, count_confusions, scores


def random_classes(clips: int = 300, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, clips)
    return labels, np.where(rng.random(clips) < 0.6, labels, rng.integers(0, classes, clips))


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
    metrics = scores(count_classes(np.array(labels), np.array(predictions), 5))
    assert metrics["macro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(
            labels, predictions, labels=np.unique(labels), average="macro", zero_division=0
        ),
        abs=1e-12,
    )
    assert metrics["accuracy"] == pytest.approx(
        sklearn.metrics.accuracy_score(labels, predictions), abs=1e-12
    )


def test_counts_are_margins_of_the_confusion_matrix():
    labels, predictions = random_classes()
    matrix = sklearn.metrics.confusion_matrix(labels, predictions, labels=range(7))
    counts = count_classes(labels, predictions, 7)
    expected = ClassCounts(np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0))
    assert [values.tolist() for values in counts] == [values.tolist() for values in expected]
    first, second = (
        count_classes(labels[part], predictions[part], 7) for part in (slice(50), slice(50, None))
    )
    assert [(a + b).tolist() for a, b in zip(first, second, strict=True)] == [v.tolist() for v in counts]


def test_confusion_has_the_entries_of_the_matrix():
    labels, predictions = random_classes()
    matrix = sklearn.metrics.confusion_matrix(labels, predictions, labels=range(7))
    confusion = count_confusions(labels, predictions, 7)
    assert confusion.matrix(np.arange(7)).tolist() == matrix.tolist()
    some = np.array([5, 0, 3])
    assert confusion.matrix(some).tolist() == matrix[some][:, some].tolist()
    assert confusion.support.tolist() == matrix.sum(axis=1).tolist()
    assert confusion.correct == np.trace(matrix) and len(confusion.count) == np.count_nonzero(matrix)


def test_mistakes_are_sorted_by_count_then_class():
    labels = np.array([0, 0, 1, 1, 2, 2, 2, 2])
    confusion = count_confusions(labels, np.array([0, 2, 0, 0, 1, 0, 2, 1]), 3)
    assert confusion.mistakes() == [(1, 0, 2), (2, 1, 2), (0, 2, 1), (2, 0, 1)]
    assert confusion.mistakes(1) == [(1, 0, 2)]


def test_confusion_of_many_classes_is_as_small_as_its_clips():
    labels = np.arange(1000)
    confusion = count_confusions(labels, labels[::-1], 10**9)
    assert len(confusion.count) == 1000 and confusion.mistakes(1) == [(0, 999, 1)]


def test_class_indices_of_uint8_do_not_overflow():
    labels = np.full(3, 49, np.uint8)
    assert count_confusions(labels, labels, 50).mistakes() == []
    assert count_classes(labels, labels, 50).correct[49] == 3


def test_scores_of_no_clips_are_zero():
    none = np.zeros(0, np.int64)
    counts = count_classes(none, none, 3)
    assert scores(counts) == {"accuracy": 0.0, "macro_f1": 0.0}
    assert class_scores(counts)["f1"].tolist() == [0, 0, 0]
    assert count_confusions(none, none, 3).mistakes() == []


@pytest.mark.parametrize("count", [count_classes, count_confusions])
@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        (np.zeros(3, int), np.zeros(2, int), r"\(3,\) and \(2,\)"),
        (np.array([0, 2]), np.zeros(2, int), r"labels must be in \[0, 2\), not in \[0, 2\]"),
        (np.zeros(2, int), np.array([0, -1]), "predictions must be in"),
        (np.array([0.0, 1.0]), np.zeros(2, int), "labels must be integers"),
    ],
)
def test_invalid_classes_raise(count, labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        count(labels, predictions, 2)
