"""Which of many classes a page or an image shows: thousands would be unreadable and too large to open."""

from __future__ import annotations

import numpy as np

# Classes with clips on a page or in an image: each takes up to 0.2 MB and a second.
MAX_CLIP_CLASSES = 50


def evenly_spaced(count: int, limit: int = MAX_CLIP_CLASSES) -> np.ndarray:
    """Return the indices of up to `limit` of `count` items, the first and the last among them, sorted."""
    return np.linspace(0, count - 1, min(count, limit)).round().astype(int)


def describe_selection(shown: int, total: int, kind: str = "evenly spaced") -> str:
    """Return `50 of 5,000 classes, evenly spaced`; an empty text if all are shown."""
    return f"{shown:,} of {total:,} classes, {kind}" if shown < total else ""
