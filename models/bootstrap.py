"""Confidence intervals of accuracy and macro-F1, by resampling the clips with replacement (Efron 1979).

Clips are resampled as if they were independent: of several clips of one recording the interval is too narrow.
"""

from __future__ import annotations

import numpy as np

from models.confusion import ClassCounts, count_confusions, scores

RESAMPLES, COVERAGE = 1000, 0.95
# Values of all resamples that are in memory at a time.
MAX_VALUES = 2**24


def confidence_intervals(
    labels: np.ndarray, predictions: np.ndarray, num_classes: int
) -> dict[str, list[float]]:
    """Return `accuracy` and `macro_f1`, each as the bounds of an interval that covers 95 %.

    The same clips always give the same intervals.

    Args:
        labels: true classes `[shape=(N,)]`.
        predictions: predicted classes `[shape=(N,)]`.
        num_classes: number of classes.
    """
    confusion = count_confusions(labels, predictions, num_classes)
    rng = np.random.default_rng(0)
    # A resample of clips is one of the pairs of true and predicted class.
    weights = confusion.count / confusion.count.sum()
    values: dict[str, list[float]] = {"accuracy": [], "macro_f1": []}
    is_correct = confusion.true == confusion.predicted
    resamples = max(100, min(RESAMPLES, MAX_VALUES // max(1, len(weights) + 3 * num_classes)))
    for _ in range(resamples):
        counts = rng.multinomial(len(labels), weights)
        resampled = ClassCounts(
            np.bincount(confusion.true, counts * is_correct, num_classes).astype(int),
            np.bincount(confusion.true, counts, num_classes).astype(int),
            np.bincount(confusion.predicted, counts, num_classes).astype(int),
        )
        metrics = scores(resampled)
        for name, results in values.items():
            results.append(metrics[name])
    bounds = [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]
    return {name: [float(x) for x in np.quantile(results, bounds)] for name, results in values.items()}
