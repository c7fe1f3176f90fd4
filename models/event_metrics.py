"""Metrics of detected events: event-based and segment-based F1, as in DCASE challenges and sed_eval.

Events are arrays `[shape=(N, 3)]`: start and end in seconds, and class index. In shapes: N number of events,
C number of classes.

Reference: Mesaros et al. 2016, Metrics for polyphonic sound event detection.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

# Maximum difference of two starts, and of two ends, in seconds.
COLLAR_SECONDS = 0.5
# The ends of a long event may differ by this fraction of its length.
LENGTH_FRACTION = 0.2
SEGMENT_SECONDS = 1.0
# Times that differ by less are equal: sums and differences of decimal fractions are rounded.
EPS_SECONDS = 1e-6


class EventCounts(NamedTuple):
    """Numbers of events, or of segments with a class, of each class `[shape=(C,)]`, int64."""

    reference: np.ndarray
    """True ones."""
    predicted: np.ndarray
    correct: np.ndarray
    """Predicted ones that match a true one."""


def count_events(
    reference: np.ndarray,
    predicted: np.ndarray,
    num_classes: int,
    collar: float = COLLAR_SECONDS,
    length_fraction: float = LENGTH_FRACTION,
) -> EventCounts:
    """Match the events of a recording: the maximum number of pairs in which each event occurs once.

    Two events match if they have the same class, their starts differ by at most the collar, and their ends by
    at most the collar or the given fraction of the length of the true event, whichever is larger.

    Args:
        reference: true events `[shape=(N, 3)]`.
        predicted: predicted events `[shape=(M, 3)]`.
        num_classes: number of classes.
        collar: in seconds.
        length_fraction: in [0, 1]; infinite: ends are not compared.
    """
    correct = np.zeros(num_classes, np.int64)
    for label in range(num_classes):
        true, found = reference[reference[:, 2] == label], predicted[predicted[:, 2] == label]
        if len(true) and len(found):
            correct[label] = _count_pairs(_matches(true, found, collar, length_fraction))
    return EventCounts(_count_labels(reference, num_classes), _count_labels(predicted, num_classes), correct)


def _matches(true: np.ndarray, found: np.ndarray, collar: float, length_fraction: float) -> np.ndarray:
    """Return which events match, bool `[shape=(N, M)]`."""
    starts = np.abs(true[:, None, 0] - found[None, :, 0]) <= collar + EPS_SECONDS
    tolerance = np.maximum(collar, length_fraction * (true[:, 1] - true[:, 0])) + EPS_SECONDS
    return starts & (np.abs(true[:, None, 1] - found[None, :, 1]) <= tolerance[:, None])


def _count_pairs(matches: np.ndarray) -> int:
    """Return the maximum number of pairs in which each row and column occurs once."""
    from scipy.sparse import csr_array  # slow to import
    from scipy.sparse.csgraph import maximum_bipartite_matching

    return int((maximum_bipartite_matching(csr_array(matches), perm_type="column") >= 0).sum())


def _count_labels(events: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(events[:, 2].astype(np.int64), minlength=num_classes)


def count_segments(
    reference: np.ndarray,
    predicted: np.ndarray,
    num_classes: int,
    seconds: float,
    segment: float = SEGMENT_SECONDS,
) -> EventCounts:
    """Count the segments of a recording in which each class is present.

    Args:
        reference: true events `[shape=(N, 3)]`.
        predicted: predicted events `[shape=(M, 3)]`.
        num_classes: number of classes.
        seconds: length of the recording.
        segment: length of a segment in seconds; an event is present in all that it touches, a point in time
            in the one that it is in or that it starts.
    """
    count = math.ceil(seconds / segment)
    true, found = (_segments(events, num_classes, count, segment) for events in (reference, predicted))
    return EventCounts(true.sum(axis=0), found.sum(axis=0), (true & found).sum(axis=0))


def _segments(events: np.ndarray, num_classes: int, count: int, segment: float) -> np.ndarray:
    """Return in which segments each class is present, bool `[shape=(count, C)]`."""
    present = np.zeros((count, num_classes), bool)
    for start, end, label in events.tolist():
        # A point at the very end of the recording is in the last segment.
        first = min(math.floor((start + EPS_SECONDS) / segment), count - 1)
        stop = max(math.ceil((end - EPS_SECONDS) / segment), first + 1)
        present[first:stop, int(label)] = True
    return present


def add_counts(counts: Iterable[EventCounts]) -> EventCounts:
    """Return the sums over recordings, of which there is at least one."""
    return EventCounts(*(np.sum(values, axis=0) for values in zip(*counts, strict=True)))


def event_scores(counts: EventCounts, class_names: Sequence[str]) -> dict[str, Any]:
    """Compute precision, recall and F1 as plain JSON values.

    Args:
        counts: sums over all recordings.
        class_names: names of the C classes.

    Returns:
        `micro_f1`, `precision` and `recall` of all classes together; `macro_f1`, the mean F1 of the classes
        that occur (None without any); and `per_class`: name, precision, recall, f1, reference, predicted. A
        class of which nothing is predicted has precision 0.
    """
    reference, predicted, correct = counts
    f1 = 2 * correct / np.maximum(reference + predicted, 1)
    occurs = reference > 0
    precision, recall = correct / np.maximum(predicted, 1), correct / np.maximum(reference, 1)
    return {
        "micro_f1": float(2 * correct.sum() / max(1, reference.sum() + predicted.sum())),
        "macro_f1": float(f1[occurs].mean()) if occurs.any() else None,
        "precision": float(correct.sum() / max(1, predicted.sum())),
        "recall": float(correct.sum() / max(1, reference.sum())),
        "per_class": [
            {
                "name": name,
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "reference": int(reference[i]),
                "predicted": int(predicted[i]),
            }
            for i, name in enumerate(class_names)
        ],
    }
