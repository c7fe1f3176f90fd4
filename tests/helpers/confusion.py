"""Confusion matrices written out, as the entries that are not zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.confusion import Confusion


def confusion_of(matrix: Sequence[Sequence[int]] | np.ndarray) -> Confusion:
    """Return the entries of a matrix whose rows are true classes."""
    counts = np.asarray(matrix)
    true, predicted = np.nonzero(counts)
    return Confusion(len(counts), true, predicted, counts[true, predicted])
