"""Labels of the windows of a recording by its events, and which windows are background.

In shapes: N number of windows of a recording.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.audio.augment import row_rng
from pipeline.data.annotations.annotation import Annotation
from pipeline.data.labels import join_labels, split_labels
from pipeline.data.windows import MinOverlap

# Tolerance of comparisons, in seconds: a tenth of the resolution of window starts.
_EPSILON = 1e-4


@dataclass(frozen=True)
class WindowLabels:
    """Labels of the N windows of a recording."""

    labels: dict[int, str]
    """Label of each window with an event, by its index."""
    background: np.ndarray
    """Indices of the windows that no event touches, ascending."""
    outside: int
    """Number of events that are not in the recording."""
    unused: int = 0
    """Number of events in it, with a class, that label no window."""


def label_windows(
    starts: Sequence[float] | np.ndarray,
    window: float,
    seconds: float,
    events: Sequence[Annotation],
    min_overlap: MinOverlap,
) -> WindowLabels:
    """Label the windows of a recording.

    An event labels the windows with which it overlaps by `min_overlap`; a point in time those that contain
    it. Windows that it touches less, or that only events without class touch, have no label, and are no
    background either.

    Args:
        starts: first second of each window, ascending `[shape=(N,)]`.
        window: length of a window in seconds.
        seconds: length of the recording.
        events: events of the recording, in any order.
        min_overlap: overlap that is required.
    """
    firsts = np.asarray(starts)
    classes: dict[int, set[str]] = defaultdict(set)
    is_background, outside, unused = np.ones(len(firsts), bool), 0, 0
    for event in events:
        start, end = max(0.0, event.start), min(seconds, event.end)
        is_point = event.start == event.end
        if start > end or (start == end and not is_point):
            outside += 1
            continue
        near = slice(*np.searchsorted(firsts, [start - window, math.nextafter(end, math.inf)]))
        overlaps = np.minimum(firsts[near] + window, end) - np.maximum(firsts[near], start)
        if is_point:
            touched = labeled = (firsts[near] <= start) & (start < firsts[near] + window)
        else:
            touched = overlaps > min(_EPSILON, (end - start) / 2)
            lengths = np.minimum(window, seconds - firsts[near])  # without what is beyond the end
            labeled = touched & (overlaps >= min_overlap.required(end - start, lengths) - _EPSILON)
        is_background[near] &= ~touched
        unused += bool(event.label) and not labeled.any()
        for index in near.start + np.flatnonzero(labeled):
            classes[int(index)].update(split_labels(event.label))
    labels = {index: join_labels(names) for index, names in sorted(classes.items()) if names}
    return WindowLabels(labels, np.flatnonzero(is_background), outside, unused)


def choose_background(available: dict[str, np.ndarray], count: int, seed: int) -> dict[str, np.ndarray]:
    """Choose `count` background windows, as evenly as possible over the recordings.

    Args:
        available: indices of the background windows of each recording, by its id.
        count: number of windows to choose; all if there are fewer.
        seed: seed of the choice; a recording's windows depend only on it, its id and their number.

    Returns:
        Indices of the chosen windows of each recording, ascending.
    """
    quotas = _even_quotas({name: len(windows) for name, windows in available.items()}, count, seed)
    return {
        name: np.sort(row_rng(seed, name, 0).permutation(windows)[: quotas[name]])
        for name, windows in available.items()
    }


def _even_quotas(sizes: dict[str, int], count: int, seed: int) -> dict[str, int]:
    """Distribute `count` over recordings of these sizes: none gets more than another that could have more."""
    order = sorted(sizes, key=lambda name: (sizes[name], row_rng(seed, name, 1).random(), name))
    quotas, left = {}, min(count, sum(sizes.values()))
    for position, name in enumerate(order):
        # Smallest first: what it cannot take is left to the larger ones.
        quotas[name] = min(sizes[name], left // (len(order) - position))
        left -= quotas[name]
    return quotas
