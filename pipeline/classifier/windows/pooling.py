"""Prediction of a recording from those of its windows, which may come in several parts."""

from __future__ import annotations

import numpy as np

from pipeline.classifier.windows.config import Pool


class PooledWindows:
    """Mean, maximum or noisy-or of the probabilities of the windows of a recording.

    Noisy-or is 1 - product of 1 - p: the probability that a class is in any of them, were they independent.
    """

    def __init__(self, pool: Pool, num_classes: int):
        """Start without windows."""
        self._pool, self.windows = pool, 0
        self._values = np.zeros(num_classes)

    def add(self, probabilities: np.ndarray) -> None:
        """Add windows, by their probabilities `[shape=(N, C)]`."""
        self.windows += len(probabilities)
        if not len(probabilities):
            return
        if self._pool == "max":
            np.maximum(self._values, probabilities.max(axis=0), out=self._values)
        elif self._pool == "mean":
            self._values += probabilities.sum(axis=0, dtype=np.float64)
        else:  # the sum of log(1 - p), which is -inf for p = 1
            with np.errstate(divide="ignore"):
                self._values += np.log1p(-np.minimum(probabilities, 1), dtype=np.float64).sum(axis=0)

    def result(self) -> np.ndarray:
        """Return the probability of each class, float32 `[shape=(C,)]`.

        At least one window must have been added.
        """
        values = self._values
        if self._pool == "mean":
            values = values / self.windows
        elif self._pool == "noisy-or":
            values = -np.expm1(values)
        return values.astype(np.float32)
