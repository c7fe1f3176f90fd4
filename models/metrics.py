"""Classification metrics: scores of a confusion matrix, and all metrics of predicted probabilities.

In shapes: N number of clips, C number of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

CALIBRATION_BINS = 15
# Softmax in half precision sums to 1 within a few thousandths; logits passed by mistake are far off.
SUM_TOLERANCE = 1e-2


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Count (true class, predicted class) pairs.

    Args:
        labels: true classes `[shape=(N,)]`, integers.
        predictions: predicted classes `[shape=(N,)]`, integers.
        num_classes: number C of classes.

    Returns:
        Counts `[shape=(C, C)]`, int64; rows are true classes, columns predictions. Matrices of disjoint
        subsets add up.

    Raises:
        ValueError: the shapes differ, or a value is not an integer in [0, C).
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise ValueError(
            f"labels and predictions must both have shape (N,), not {labels.shape} and {predictions.shape}"
        )
    for name, values in (("labels", labels), ("predictions", predictions)):
        _check_classes(name, values, num_classes)
    # int64 first: class indices are often uint8, in which the product would overflow.
    pairs = labels.astype(np.int64) * num_classes + predictions.astype(np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def scores(confusion: np.ndarray) -> dict[str, float]:
    """Compute accuracy and macro-F1 of a confusion matrix `[shape=(C, C)]`; both are 0 if it is all zeros.

    The macro mean is over classes with true clips: as in scikit-learn with them as `labels`, and
    `zero_division=0`. A class without any has no recall, so its F1 would say nothing.
    """
    total = confusion.sum()
    present = confusion.sum(axis=1) > 0
    f1 = class_scores(confusion)["f1"]
    return {
        "accuracy": float(np.trace(confusion) / total) if total else 0.0,
        "macro_f1": float(f1[present].mean()) if total else 0.0,
    }


def class_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Compute `precision`, `recall`, `f1` and `support` of each class, each `[shape=(C,)]`.

    A ratio with denominator 0 is 0.
    """
    correct, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "precision": correct / np.maximum(predicted, 1),
        "recall": correct / np.maximum(support, 1),
        "f1": 2 * correct / np.maximum(support + predicted, 1),
        "support": support,
    }


def classification_metrics(
    probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> dict[str, Any]:
    """Compute all metrics of a classifier on labeled clips, as plain JSON values.

    Args:
        probabilities: predicted class probabilities `[shape=(N, C)]`, floating point; rows sum to 1.
        labels: true classes `[shape=(N,)]`, integers in [0, C).
        class_names: names of the C classes.

    Returns:
        `clips`, `accuracy`, `macro_f1`, `log_loss` (natural logarithm), `ece` (expected calibration error,
        Guo et al. 2017), `per_class` (name, precision, recall, f1, support), `confusion` (rows are true
        classes), `classes_without_clips` (names of those that `macro_f1` leaves out) and `calibration`, the
        bins of `ece` (low, high, confidence, accuracy, count; confidence and accuracy are None in an empty
        bin).

    Raises:
        ValueError: the shapes do not match, there is no clip, or a value is not a probability or a class.
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    _check_probabilities(probabilities, labels, len(class_names))
    predictions = probabilities.argmax(axis=1)
    confusion = confusion_matrix(labels, predictions, len(class_names))
    columns = {key: values.tolist() for key, values in class_scores(confusion).items()}
    bins = calibration_bins(probabilities.max(axis=1), predictions == labels)
    return {
        "clips": len(labels),
        **scores(confusion),
        "log_loss": log_loss(probabilities, labels),
        "ece": sum(
            entry["count"] * abs(entry["accuracy"] - entry["confidence"]) for entry in bins if entry["count"]
        )
        / len(labels),
        "per_class": [
            {"name": name, **{key: columns[key][i] for key in columns}} for i, name in enumerate(class_names)
        ],
        "confusion": confusion.tolist(),
        "classes_without_clips": [
            name for name, count in zip(class_names, confusion.sum(axis=1), strict=True) if not count
        ],
        "calibration": bins,
    }


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Compute the mean negative natural log likelihood of the true classes.

    Probabilities are clipped to [eps, 1 - eps] of their type, as in scikit-learn.
    """
    eps = float(np.finfo(probabilities.dtype).eps)
    true_class_probs = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(true_class_probs, eps, 1.0 - eps)).mean())


def calibration_bins(
    confidence: np.ndarray, correct: np.ndarray, num_bins: int = CALIBRATION_BINS
) -> list[dict[str, Any]]:
    """Compute confidence and accuracy in bins (low, high] of equal width.

    Args:
        confidence: probability of the predicted class `[shape=(N,)]`.
        correct: whether the prediction is correct `[shape=(N,)]`.
        num_bins: number of bins over [0, 1].
    """
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    # Inner edges only, so that 0 is in the first bin and a confidence slightly above 1 in the last.
    index = np.digitize(confidence.astype(np.float64), edges[1:-1], right=True)
    bins = []
    for i in range(num_bins):
        inside = index == i
        count = int(inside.sum())
        bins.append(
            {
                "low": float(edges[i]),
                "high": float(edges[i + 1]),
                "confidence": float(confidence[inside].mean(dtype=np.float64)) if count else None,
                "accuracy": float(correct[inside].mean()) if count else None,
                "count": count,
            }
        )
    return bins


def _check_probabilities(probabilities: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
    shapes = f"probabilities {probabilities.shape}, labels {labels.shape}, {num_classes} class names"
    if (
        probabilities.ndim != 2
        or labels.shape != probabilities.shape[:1]
        or probabilities.shape[1] != num_classes
    ):
        raise ValueError(f"need probabilities (N, C), labels (N,) and C class names, not {shapes}")
    if probabilities.size == 0:
        raise ValueError(f"need at least one clip and one class, not {shapes}")
    if not np.issubdtype(probabilities.dtype, np.floating):
        raise ValueError(f"probabilities must be floating point, not {probabilities.dtype}")
    sums = probabilities.sum(axis=1, dtype=np.float64)
    # Negated so that NaN fails too: it is the output of a diverged model.
    invalid = ~((probabilities.min(axis=1) >= 0) & (np.abs(sums - 1.0) <= SUM_TOLERANCE))
    if invalid.any():
        row = int(invalid.argmax())
        raise ValueError(
            f"{int(invalid.sum())} of {len(invalid)} rows are not probabilities that sum to 1 "
            f"(first: row {row}, sum {sums[row]:g})"
        )


def _check_classes(name: str, values: np.ndarray, num_classes: int) -> None:
    if values.size == 0:
        return
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name} must be integers, not {values.dtype}")
    if values.min() < 0 or values.max() >= num_classes:
        raise ValueError(f"{name} must be in [0, {num_classes}), not in [{values.min()}, {values.max()}]")
