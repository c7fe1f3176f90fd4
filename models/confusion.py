"""Counts of correct and confused clips by class, and the scores that follow from them.

A confusion matrix of thousands of classes is almost empty: `Confusion` holds its entries that are not zero,
and `ClassCounts`, from which all scores follow, its diagonal and the sums of its rows and columns.

In shapes: N number of clips, C number of classes, P number of pairs of a true and a predicted class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class ClassCounts(NamedTuple):
    """Numbers of clips by class, int64 `[shape=(C,)]` each; those of disjoint sets of clips add up."""

    correct: np.ndarray
    """Clips of the class that are predicted as it."""
    support: np.ndarray
    """Clips of the class."""
    predicted: np.ndarray
    """Clips that are predicted as the class."""


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix without its zeros, sorted by true, then by predicted class."""

    num_classes: int
    true: np.ndarray
    """True class of each pair `[shape=(P,)]`."""
    predicted: np.ndarray
    """Predicted class of each pair `[shape=(P,)]`."""
    count: np.ndarray
    """Clips of each pair `[shape=(P,)]`, at least 1."""

    @property
    def support(self) -> np.ndarray:
        """Number of clips of each true class `[shape=(C,)]`."""
        return np.bincount(self.true, self.count, self.num_classes).astype(np.int64)

    @property
    def correct(self) -> int:
        """Number of correct predictions."""
        return int(self.count[self.true == self.predicted].sum())

    def mistakes(self, limit: int | None = None) -> list[tuple[int, int, int]]:
        """Return true class, predicted class and count of wrong predictions, the most frequent ones first."""
        wrong = np.flatnonzero(self.true != self.predicted)
        order = wrong[np.argsort(-self.count[wrong], kind="stable")][:limit]
        columns = (self.true[order], self.predicted[order], self.count[order])
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def matrix(self, classes: np.ndarray) -> np.ndarray:
        """Return the counts of some classes `[shape=(K,)]` as a matrix `[shape=(K, K)]`, int64.

        Rows are true classes, columns predictions. Clips of them that are predicted as another class are not
        counted.
        """
        position = np.full(self.num_classes, -1)
        position[classes] = np.arange(len(classes))
        rows, columns = position[self.true], position[self.predicted]
        inside = (rows >= 0) & (columns >= 0)
        matrix = np.zeros((len(classes), len(classes)), np.int64)
        matrix[rows[inside], columns[inside]] = self.count[inside]
        return matrix


def count_confusions(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> Confusion:
    """Count the pairs of true and predicted class.

    Args:
        labels: true classes `[shape=(N,)]`, integers.
        predictions: predicted classes `[shape=(N,)]`, integers.
        num_classes: number C of classes.

    Raises:
        ValueError: the shapes differ, or a value is not an integer in [0, C).
    """
    labels, predictions = _check_classes(labels, predictions, num_classes)
    pairs, counts = np.unique(labels * num_classes + predictions, return_counts=True)
    return Confusion(num_classes, *np.divmod(pairs, num_classes), counts.astype(np.int64))


def count_classes(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> ClassCounts:
    """Count the clips of each class; arguments and errors are those of `count_confusions`."""
    labels, predictions = _check_classes(labels, predictions, num_classes)
    values = labels[labels == predictions], labels, predictions
    return ClassCounts(*(np.bincount(classes, minlength=num_classes) for classes in values))


def scores(counts: ClassCounts) -> dict[str, float]:
    """Compute accuracy and macro-F1; both are 0 without clips.

    The macro mean is over classes with true clips: as in scikit-learn with them as `labels`, and
    `zero_division=0`. A class without any has no recall, so its F1 would say nothing.
    """
    total = counts.support.sum()
    f1 = class_scores(counts)["f1"]
    return {
        "accuracy": float(counts.correct.sum() / total) if total else 0.0,
        "macro_f1": float(f1[counts.support > 0].mean()) if total else 0.0,
    }


def class_scores(counts: ClassCounts) -> dict[str, np.ndarray]:
    """Compute `precision`, `recall`, `f1` and `support` of each class, each `[shape=(C,)]`.

    A ratio with denominator 0 is 0.
    """
    correct, support, predicted = counts
    return {
        "precision": correct / np.maximum(predicted, 1),
        "recall": correct / np.maximum(support, 1),
        "f1": 2 * correct / np.maximum(support + predicted, 1),
        "support": support,
    }


def _check_classes(
    labels: np.ndarray, predictions: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return both as int64, in which a product does not overflow: class indices are often uint8."""
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise ValueError(
            f"labels and predictions must both have shape (N,), not {labels.shape} and {predictions.shape}"
        )
    for name, values in (("labels", labels), ("predictions", predictions)):
        check_class_range(name, values, num_classes)
    return labels.astype(np.int64), predictions.astype(np.int64)


def check_class_range(name: str, values: np.ndarray, num_classes: int) -> None:
    """Raise `ValueError` unless all values are integers in [0, `num_classes`)."""
    if values.size == 0:
        return
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name} must be integers, not {values.dtype}")
    if values.min() < 0 or values.max() >= num_classes:
        raise ValueError(f"{name} must be in [0, {num_classes}), not in [{values.min()}, {values.max()}]")
