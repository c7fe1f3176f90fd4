"""Metrics of classifiers with a probability per class: average precision, ROC-AUC, F1 and thresholds.

All of a class follow from its ranking: its clips in order of probability. Means over classes leave out those
that no clip has, and of ROC-AUC also those that all clips have. In shapes: N number of clips, C number of
classes, K number of different probabilities of a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from models.metrics import calibration_bins, calibration_error

# True clips with probability 1 that are added to each class by the padded metric of BirdCLEF 2023.
PADDING = 5
# A class with fewer true clips has the threshold of all classes together: its own would fit a few clips.
MIN_POSITIVES = 5
DEFAULT_THRESHOLD = 0.5


class Ranking(NamedTuple):
    """Clips of which a class is predicted, for each threshold from high to low, `[shape=(K,)]` each."""

    value: np.ndarray
    """Lowest probability of these clips."""
    predicted: np.ndarray
    """Their number."""
    correct: np.ndarray
    """Number of those that have the class."""

    @property
    def precision(self) -> np.ndarray:
        """Fraction of the predicted clips that have the class."""
        return self.correct / self.predicted

    @property
    def recall(self) -> np.ndarray:
        """Fraction of the clips with the class that are predicted."""
        return self.correct / max(1, int(self.correct[-1]))

    @property
    def f1(self) -> np.ndarray:
        """Harmonic mean of precision and recall."""
        return 2 * self.correct / (self.predicted + self.correct[-1])

    def average_precision(self) -> float:
        """Return the mean of the precision, weighted by the increase of recall; NaN without true clips."""
        if not self.correct[-1]:
            return float("nan")
        return float(np.sum(np.diff(self.recall, prepend=0.0) * self.precision))

    def roc_auc(self) -> float:
        """Return the area under the ROC curve; NaN unless some clips have the class and others do not."""
        wrong = self.predicted - self.correct
        if not self.correct[-1] or not wrong[-1]:
            return float("nan")
        heights = self.correct + np.concatenate([[0], self.correct[:-1]])
        return float(np.sum(np.diff(wrong, prepend=0) * heights) / (2.0 * self.correct[-1] * wrong[-1]))

    def best_threshold(self) -> float:
        """Return the threshold of the highest F1, the higher one of two: between two probabilities."""
        best = int(self.f1.argmax())
        lower = float(self.value[best + 1]) if best + 1 < len(self.value) else 0.0
        return (float(self.value[best]) + lower) / 2


def rank_clips(is_true: np.ndarray, probability: np.ndarray) -> Ranking:
    """Rank clips by a probability.

    Args:
        is_true: whether each clip has the class `[shape=(N,)]`, N at least 1.
        probability: probability of the class `[shape=(N,)]`.
    """
    order = np.argsort(-probability, kind="stable")
    value = probability[order]
    last = np.append(np.flatnonzero(value[1:] != value[:-1]), len(value) - 1)  # of equal probabilities
    return Ranking(value[last], last + 1, np.cumsum(is_true[order], dtype=np.int64)[last])


def rank_classes(targets: np.ndarray, probabilities: np.ndarray) -> list[Ranking]:
    """Return the ranking of each class.

    Args:
        targets: which classes each clip has, bool `[shape=(N, C)]`.
        probabilities: probability of each class `[shape=(N, C)]`.
    """
    return [rank_clips(targets[:, c], probabilities[:, c]) for c in range(targets.shape[1])]


def average_precisions(rankings: Sequence[Ranking]) -> np.ndarray:
    """Return the average precision of each class `[shape=(C,)]`; NaN for one that no clip has."""
    return np.array([ranking.average_precision() for ranking in rankings])


def mean_of_defined(values: np.ndarray) -> float | None:
    """Return the mean of the values that are not NaN; None without any."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def padded_map(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the metric of BirdCLEF 2023, the macro average precision over all classes with padding.

    Each class gets `PADDING` more clips that have it, with probability 1, so that those without true clips
    are defined (1 at best, low where they are predicted confidently) and those with few have less weight.
    The arguments are those of `rank_classes`.
    """
    shape = (PADDING, targets.shape[1])
    padded = np.concatenate([probabilities, np.ones(shape, probabilities.dtype)])
    rankings = rank_classes(np.concatenate([targets, np.ones(shape, bool)]), padded)
    return float(np.mean(average_precisions(rankings)))


def choose_thresholds(
    rankings: Sequence[Ranking], targets: np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
    """Return the probability from which on each class counts as present: that of the highest F1.

    A class that fewer than `MIN_POSITIVES` clips have gets the threshold of the highest micro-F1, that of
    all classes together; if no clip has any class, this is `DEFAULT_THRESHOLD`.

    Args:
        rankings: result of `rank_classes`.
        targets: its argument.
        probabilities: its argument.

    Returns:
        Thresholds in (0, 1) `[shape=(C,)]`.
    """
    positives = targets.sum(axis=0)
    if not positives.any():
        return np.full(len(rankings), DEFAULT_THRESHOLD)
    is_rare = positives < MIN_POSITIVES
    common = rank_clips(targets.ravel(), probabilities.ravel()).best_threshold() if is_rare.any() else 0.0
    return np.array(
        [
            common if rare else ranking.best_threshold()
            for rare, ranking in zip(is_rare, rankings, strict=True)
        ]
    )


def multi_label_metrics(
    targets: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray, class_names: Sequence[str]
) -> dict[str, Any]:
    """Compute all metrics of a multi-label classifier, as plain JSON values.

    Args:
        targets: which classes each clip has, bool `[shape=(N, C)]`, N at least 1.
        probabilities: probability of each class, floating point `[shape=(N, C)]`.
        thresholds: probability from which on each class counts as present `[shape=(C,)]`, or that of each
            clip `[shape=(N, C)]`, whose mean is the `threshold` of a class.
        class_names: names of the C classes.

    Returns:
        `clips`, `background_clips` (those without any class), `map` (macro average precision), `padded_map`
        (see `padded_map`), `roc_auc`, `macro_f1`, `micro_f1` (both at the thresholds; macro over classes with
        clips), `log_loss` (binary cross-entropy, natural logarithm, mean over clips and classes), `ece`
        (expected calibration error over all pairs of a clip and a class), `calibration` (its bins, see
        `models.metrics.calibration_bins`; accuracy is the fraction of the pairs whose class is present),
        `classes_without_clips`, and `per_class`: name, average_precision, roc_auc, threshold, f1, precision
        and recall at the threshold, support, predicted. Undefined values are None.

    Raises:
        ValueError: the shapes do not match, or a value is not a probability.
    """
    _check(targets, probabilities, thresholds, class_names)
    rankings = rank_classes(targets, probabilities)
    precisions = average_precisions(rankings)
    areas = np.array([ranking.roc_auc() for ranking in rankings])
    predicted, support = probabilities >= thresholds, targets.sum(axis=0)
    correct, count = (targets & predicted).sum(axis=0), predicted.sum(axis=0)
    f1 = 2 * correct / np.maximum(support + count, 1)
    bins = calibration_bins(probabilities.ravel(), targets.ravel())
    columns = {
        "name": list(class_names),
        "average_precision": [_defined(value) for value in precisions],
        "roc_auc": [_defined(value) for value in areas],
        "threshold": np.atleast_2d(np.asarray(thresholds, float)).mean(axis=0).tolist(),
        "f1": f1.tolist(),
        "precision": (correct / np.maximum(count, 1)).tolist(),
        "recall": (correct / np.maximum(support, 1)).tolist(),
        "support": support.tolist(),
        "predicted": count.tolist(),
    }
    return {
        "clips": len(targets),
        "background_clips": int((~targets.any(axis=1)).sum()),
        "map": mean_of_defined(precisions),
        "padded_map": padded_map(targets, probabilities),
        "roc_auc": mean_of_defined(areas),
        "macro_f1": float(f1[support > 0].mean()) if support.any() else None,
        "micro_f1": float(2 * correct.sum() / max(1, support.sum() + count.sum())),
        "log_loss": binary_log_loss(targets, probabilities),
        "ece": calibration_error(bins),
        "classes_without_clips": [
            name for name, clips in zip(class_names, support, strict=True) if not clips
        ],
        "calibration": bins,
        "per_class": [
            dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
        ],
    }


def binary_log_loss(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Compute the mean binary cross-entropy (natural logarithm) over clips and classes.

    Probabilities are clipped to [eps, 1 - eps] of their type, as in scikit-learn.
    """
    eps = float(np.finfo(probabilities.dtype).eps)
    own = np.where(targets, probabilities, 1 - probabilities).astype(np.float64)
    return float(-np.log(np.clip(own, eps, 1.0 - eps)).mean())


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _check(
    targets: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray, class_names: Sequence[str]
) -> None:
    shapes = f"targets {targets.shape}, probabilities {probabilities.shape}, thresholds {thresholds.shape}"
    num_classes = len(class_names)
    is_fitting = thresholds.shape in ((num_classes,), targets.shape)
    if not len(targets) or targets.shape != probabilities.shape or not is_fitting:
        raise ValueError(f"need (N, C) targets and probabilities and (C,) or (N, C) thresholds, not {shapes}")
    if targets.shape[1] != num_classes:
        raise ValueError(f"need a column for each of {num_classes} classes, not {targets.shape[1]}")
    # Negated so that NaN fails too: it is the output of a diverged model.
    if not (probabilities.min() >= 0 and probabilities.max() <= 1):
        raise ValueError("probabilities must be in [0, 1]")
