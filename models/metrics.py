"""Metrics of a classifier's predicted probabilities: accuracy, macro-F1, ranking, log loss and calibration.

They need a few values of each clip rather than all its probabilities, which for thousands of classes and many
clips would not fit into memory: `score_clips` reduces a batch of probabilities to them. Only for few classes
it keeps the probabilities as well.

In shapes: N number of clips, C number of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from models.bootstrap import confidence_intervals
from models.confusion import check_class_range, class_scores, count_classes, count_confusions, scores
from models.ranking_metrics import ranking_metrics

CALIBRATION_BINS = 15
# Softmax in half precision sums to 1 within a few thousandths; logits passed by mistake are far off.
SUM_TOLERANCE = 1e-2
# Up to this number of classes the confusion matrix is among the metrics: it grows with the square of them.
MAX_MATRIX_CLASSES = 100
# Up to this number of classes, all probabilities are kept: 0.4 kB for each clip.
MAX_RANKED_CLASSES = 100
# Number of most probable classes that the metric `top5_accuracy` searches for the true one.
TOP = 5


class ClipScores(NamedTuple):
    """What metrics need of the predictions of N clips, `[shape=(N,)]` where no shape is given."""

    labels: np.ndarray
    """True classes."""
    predictions: np.ndarray
    """Predicted classes."""
    confidence: np.ndarray
    """Probabilities of the predicted classes."""
    true_probability: np.ndarray
    """Probabilities of the true classes."""
    rank: np.ndarray
    """Number of classes with a higher probability than the true class."""
    probabilities: np.ndarray
    """Probabilities of all classes `[shape=(N, C)]`; of none, `[shape=(N, 0)]`, for many classes."""


def score_clips(probabilities: np.ndarray, labels: np.ndarray) -> ClipScores:
    """Reduce predicted probabilities to what metrics need.

    Args:
        probabilities: predicted class probabilities `[shape=(N, C)]`, floating point; rows sum to 1.
        labels: true classes `[shape=(N,)]`, integers in [0, C).

    Raises:
        ValueError: the shapes do not match, or a value is not a probability or a class.
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    _check_probabilities(probabilities, labels)
    true_probability = probabilities[np.arange(len(labels)), labels]
    num_classes = probabilities.shape[1]
    return ClipScores(
        labels,
        probabilities.argmax(axis=1),
        probabilities.max(axis=1),
        true_probability,
        _ranks(probabilities, true_probability, labels),
        probabilities if num_classes <= MAX_RANKED_CLASSES else probabilities[:, :0],
    )


def _ranks(probabilities: np.ndarray, true_probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the number of classes before the true one; of equal ones the first is first, as in argmax."""
    is_first = np.arange(probabilities.shape[1]) < labels[:, None]
    true = true_probability[:, None]
    return ((probabilities > true) | ((probabilities == true) & is_first)).sum(axis=1)


def concatenate(parts: Sequence[ClipScores]) -> ClipScores:
    """Return the scores of the clips of all parts, of which there is at least one."""
    return ClipScores(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def classification_metrics(clips: ClipScores, class_names: Sequence[str]) -> dict[str, Any]:
    """Compute all metrics of a classifier on labeled clips, as plain JSON values.

    Args:
        clips: scores of at least one clip.
        class_names: names of the C classes.

    Returns:
        `clips`, `accuracy`, `macro_f1`, `intervals` (of both, see `models.bootstrap`), `top5_accuracy` (None
        for up to five classes), `roc_auc` and `average_precision` (means over classes; None for more than
        `MAX_RANKED_CLASSES`), `log_loss` (natural logarithm), `ece` (expected calibration error, Guo et al.
        2017), `classes_without_clips` (names of those that `macro_f1` leaves out), `calibration`,
        the bins of `ece` (low, high, confidence, accuracy, count; confidence and accuracy are None in an
        empty bin), `per_class` (name, precision, recall, f1, support) and `confusion`, the confusion matrix
        (rows are true classes), which is None for more than `MAX_MATRIX_CLASSES` classes.

    Raises:
        ValueError: there is no clip, or a class is not in [0, C).
    """
    num_classes = len(class_names)
    if not len(clips.labels):
        raise ValueError("need at least one clip")
    counts = count_classes(clips.labels, clips.predictions, num_classes)
    columns = {key: values.tolist() for key, values in class_scores(counts).items()}
    bins = calibration_bins(clips.confidence, clips.predictions == clips.labels)
    return {
        "clips": len(clips.labels),
        **scores(counts),
        "intervals": confidence_intervals(clips.labels, clips.predictions, num_classes),
        "top5_accuracy": float((clips.rank < TOP).mean()) if num_classes > TOP else None,
        **_ranking(clips, num_classes),
        "log_loss": log_loss(clips.true_probability),
        "ece": calibration_error(bins),
        "classes_without_clips": [
            name for name, count in zip(class_names, counts.support, strict=True) if not count
        ],
        "calibration": bins,
        "per_class": [
            {"name": name, **{key: columns[key][i] for key in columns}} for i, name in enumerate(class_names)
        ],
        "confusion": confusion_matrix(clips.labels, clips.predictions, num_classes),
    }


def _ranking(clips: ClipScores, num_classes: int) -> dict[str, float | None]:
    if clips.probabilities.shape[1] < num_classes:
        return {"roc_auc": None, "average_precision": None}
    return ranking_metrics(clips.probabilities, clips.labels)


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> list[list[int]] | None:
    """Return the confusion matrix as JSON, rows are true classes; None for too many classes."""
    if num_classes > MAX_MATRIX_CLASSES:
        return None
    confusion = count_confusions(labels, predictions, num_classes)
    return confusion.matrix(np.arange(num_classes)).tolist()


def log_loss(true_probability: np.ndarray) -> float:
    """Compute the mean negative natural log likelihood from the probabilities of the true classes.

    Probabilities are clipped to [eps, 1 - eps] of their type, as in scikit-learn.
    """
    eps = float(np.finfo(true_probability.dtype).eps)
    return float(-np.log(np.clip(true_probability.astype(np.float64), eps, 1.0 - eps)).mean())


def calibration_error(bins: Sequence[dict[str, Any]]) -> float:
    """Return the mean distance of confidence and accuracy over all entries of `calibration_bins`."""
    filled = [entry for entry in bins if entry["count"]]
    gaps = sum(entry["count"] * abs(entry["accuracy"] - entry["confidence"]) for entry in filled)
    return float(gaps / sum(entry["count"] for entry in filled))


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


def _check_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> None:
    shapes = f"probabilities {probabilities.shape}, labels {labels.shape}"
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not probabilities.shape[1]:
        raise ValueError(f"need probabilities (N, C) and labels (N,), not {shapes}")
    if not np.issubdtype(probabilities.dtype, np.floating):
        raise ValueError(f"probabilities must be floating point, not {probabilities.dtype}")
    check_class_range("labels", labels, probabilities.shape[1])
    sums = probabilities.sum(axis=1, dtype=np.float64)
    # Negated so that NaN fails too: it is the output of a diverged model.
    invalid = ~((probabilities.min(axis=1) >= 0) & (np.abs(sums - 1.0) <= SUM_TOLERANCE))
    if invalid.any():
        row = int(invalid.argmax())
        raise ValueError(
            f"{int(invalid.sum())} of {len(invalid)} rows are not probabilities that sum to 1 "
            f"(first: row {row}, sum {sums[row]:g})"
        )
