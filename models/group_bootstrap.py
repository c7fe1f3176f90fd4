"""Confidence interval of the macro average precision, by resampling whole recordings (Efron 1979).

Windows of a recording are similar; resampled one by one, they would give a far too narrow interval.
In shapes: N number of clips, C number of classes.
"""

from __future__ import annotations

import numpy as np

from models.bootstrap import COVERAGE, RESAMPLES

# Values of all resamples: of many clips and classes there are fewer resamples, each of which takes longer.
MAX_VALUES, MIN_RESAMPLES = 2**27, 50
# Resamples of fewer recordings hardly differ, so that the interval would be far too narrow.
MIN_GROUPS = 5


class RankedClasses:
    """Clips of each class in order of probability, from which resamples are scored without sorting again."""

    def __init__(self, targets: np.ndarray, probabilities: np.ndarray):
        """Sort the clips; `targets` is bool, both `[shape=(N, C)]`."""
        present = targets.any(axis=0)
        scores = probabilities[:, present].T
        self._order = np.argsort(-scores, axis=1, kind="stable")
        self._is_true = np.take_along_axis(targets[:, present].T, self._order, axis=1)
        values = np.take_along_axis(scores, self._order, axis=1)
        ends = np.concatenate([values[:, 1:] != values[:, :-1], np.ones((len(values), 1), bool)], axis=1)
        # Of clips with equal probability, all count for the precision of each.
        position = np.where(ends, np.arange(values.shape[1]), values.shape[1])
        self._last = np.minimum.accumulate(position[:, ::-1], axis=1)[:, ::-1]

    def mean_average_precision(self, weight: np.ndarray) -> float:
        """Return the macro average precision of clips with a weight each `[shape=(N,)]`; NaN without any.

        Classes whose true clips all have weight 0 are left out.
        """
        weights = weight[self._order]
        true_weights = weights * self._is_true
        totals = np.take_along_axis(np.cumsum(weights, axis=1), self._last, axis=1)
        correct = np.take_along_axis(np.cumsum(true_weights, axis=1), self._last, axis=1)
        weighted = (true_weights * correct / np.maximum(totals, 1)).sum(axis=1)
        positives = true_weights.sum(axis=1)
        defined = positives > 0
        return float(np.mean(weighted[defined] / positives[defined])) if defined.any() else float("nan")


def map_interval(targets: np.ndarray, probabilities: np.ndarray, groups: np.ndarray) -> list[float] | None:
    """Return the bounds of an interval of the macro average precision that covers 95 %.

    None if it is undefined, or for fewer than `MIN_GROUPS` recordings. The same clips always give the same
    interval.

    Args:
        targets: which classes each clip has, bool `[shape=(N, C)]`.
        probabilities: probability of each class `[shape=(N, C)]`.
        groups: recording of each clip `[shape=(N,)]`.
    """
    names, group = np.unique(groups, return_inverse=True)
    if not targets.any() or len(names) < MIN_GROUPS:
        return None
    ranked, rng = RankedClasses(targets, probabilities), np.random.default_rng(0)
    resamples = max(MIN_RESAMPLES, min(RESAMPLES, MAX_VALUES // max(1, targets.size)))
    values = [
        ranked.mean_average_precision(rng.multinomial(len(names), np.full(len(names), 1 / len(names)))[group])
        for _ in range(resamples)
    ]
    return [float(x) for x in np.nanquantile(values, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])]
