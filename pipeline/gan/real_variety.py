"""Variety of the real clips of each class, to which the diversity of generated clips is compared."""

from __future__ import annotations

import numpy as np

from models.gan_metrics import MIN_DIVERSITY_DB, class_diversity, mean_pairwise_difference
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
    order = np.argsort(dataset.labels[split.train], kind="stable")
    rows, labels = split.train[order], dataset.labels[split.train][order]
    limits = zip(
        np.searchsorted(labels, classes), np.searchsorted(labels, classes, side="right"), strict=True
    )
    per_class = max(2, MAX_DIVERSITY_ROWS // len(classes))
    return np.sort(np.concatenate([subsample_evenly(rows[start:end], per_class) for start, end in limits]))


def measure_variety(
    dataset: ShardDataset, rows: np.ndarray, std_M: np.ndarray
) -> tuple[dict[int, float], float, np.ndarray]:
    """Return `real_diversity` and `real_difference` of the state, and the mask of classes with variety."""
    mels, labels = dataset.mels[rows], dataset.labels[rows]
    real_diversity = class_diversity(mels, labels)
    # A class with a single row in the sample is not known to lack variety.
    has_variety = np.array(
        [real_diversity.get(label, np.inf) >= MIN_DIVERSITY_DB for label in range(len(dataset.class_names))]
    )
    varied = has_variety[labels]
    real_difference = mean_pairwise_difference(mels[varied], labels[varied], std_M)
    return real_diversity, real_difference or 1.0, has_variety
