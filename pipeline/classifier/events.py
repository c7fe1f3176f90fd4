"""Events: spans of time in which a class sounds, from the probabilities of windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Event(NamedTuple):
    """A class sounds from `start` to `end`, in seconds."""

    start: float
    end: float
    label: int
    """Class index."""
    probability: float
    """Maximum over its windows."""


def merge_events(
    starts: Sequence[float], window: float, probabilities: np.ndarray, thresholds: np.ndarray
) -> list[Event]:
    """Return the events of a recording, sorted by start: windows above the threshold, merged where they meet.

    Args:
        starts: first second of each window, ascending.
        window: length of a window in seconds.
        probabilities: of each window and class `[shape=(N, C)]`.
        thresholds: probability from which on a class is present `[shape=(C,)]`.
    """
    events = []
    for label in np.flatnonzero((probabilities >= thresholds).any(axis=0)).tolist():
        current: Event | None = None
        for i in np.flatnonzero(probabilities[:, label] >= thresholds[label]).tolist():
            start, value = starts[i], float(probabilities[i, label])
            if current is not None and start <= current.end:
                current = current._replace(end=start + window, probability=max(current.probability, value))
                continue
            if current is not None:
                events.append(current)
            current = Event(start, start + window, label, value)
        if current is not None:
            events.append(current)
    return sorted(events)
