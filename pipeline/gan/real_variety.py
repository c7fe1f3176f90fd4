"""Variety of the real clips of each class, to which the diversity of generated clips is compared."""

from __future__ import annotations

import numpy as np

from models.gan_metrics import MIN_DIVERSITY_DB, class_differences, class_diversity
from pipeline.data.dataset import ShardDataset
from pipeline.data.loader import subsample_evenly
from pipeline.data.split import Split
from pipeline.gan.snapshots import MAX_DIVERSITY_CLASSES
from pipeline.report.selection import evenly_spaced

# Rows from which the diversity of real clips is measured, if that is two or more of each class.
MAX_DIVERSITY_ROWS = 1000


def variety_rows(dataset: ShardDataset, split: Split) -> np.ndarray:
    """Return the rows from which the variety of real clips is measured: at least two of each class.

    Of many classes, evenly spaced ones are measured.
    """
    classes = evenly_spaced(len(dataset.class_names), MAX_DIVERSITY_CLASSES)
    per_class = max(2, MAX_DIVERSITY_ROWS // len(classes))
    return np.sort(_sample_classes(dataset.labels, split.train, classes, per_class))


def _sample_classes(labels: np.ndarray, rows: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """Return up to `count` evenly spaced ones of the rows of each of some classes."""
    order = np.argsort(labels[rows], kind="stable")
    ordered, classes_of_rows = rows[order], labels[rows][order]
    starts, ends = (np.searchsorted(classes_of_rows, classes, side=side) for side in ("left", "right"))
    parts = [subsample_evenly(ordered[start:end], count) for start, end in zip(starts, ends, strict=True)]
    return np.concatenate([ordered[:0], *parts])


def rows_of_all_classes(labels: np.ndarray, rows: np.ndarray, count: int, least: int) -> np.ndarray:
    """Return about `count` of some rows, evenly spaced, and of each class at least `least`, or all it has.

    Args:
        labels: class of each row of the dataset.
        rows: indices of rows.
        count: number of rows, before those of rare classes are added.
        least: number of rows of each class; a class with fewer has all of its rows.
    """
    sampled = subsample_evenly(rows, count)
    num_classes = int(labels.max()) + 1
    counts = np.bincount(labels[sampled], minlength=num_classes)
    rare = np.flatnonzero((counts < least) & (np.bincount(labels[rows], minlength=num_classes) > counts))
    return np.unique(np.concatenate([sampled, _sample_classes(labels, rows, rare, least)]))


def measure_variety(
    dataset: ShardDataset, rows: np.ndarray, std_M: np.ndarray
) -> tuple[dict[int, float], np.ndarray]:
    """Return `real_diversity` and `real_difference_C` of the state.

    Each class has its own difference: clips of steady sounds such as rain differ less than others, and would
    have to vary more than their recordings to reach the mean. Classes that are not known to lack variety,
    with a single row or none in the sample, have the mean.
    """
    mels, labels = dataset.mels[rows], dataset.labels[rows]
    real_diversity = class_diversity(mels, labels)
    without_variety = {label for label, value in real_diversity.items() if value < MIN_DIVERSITY_DB}
    differences = class_differences(mels, labels, std_M)
    varied = [value for label, value in differences.items() if label not in without_variety]
    real_difference_C = np.full(len(dataset.class_names), np.mean(varied) if varied else 1.0, np.float32)
    for label, difference in differences.items():
        real_difference_C[label] = 0.0 if label in without_variety else difference
    return real_diversity, real_difference_C
