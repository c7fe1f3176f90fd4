"""Outputs of a classifier for many spectrograms, and what is computed from them for clips and recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

# No level of a sound is further from 0.
MAX_DECIBELS = 1000.0
# Which of N rows: their indices, a slice, or a flag for each.
Rows = Sequence[int] | Sequence[bool] | slice | np.ndarray


class Outputs(NamedTuple):
    """Probabilities and, if they were requested, embeddings of N spectrograms, windows or clips."""

    probabilities: np.ndarray
    """Calibrated probability of each class, float32 `[shape=(N, C)]`."""
    embeddings: np.ndarray | None = None
    """Clip embeddings, float32 `[shape=(N, embedding_dim)]`; None if they were not requested."""

    @staticmethod
    def join(parts: Sequence[Outputs]) -> Outputs:
        """Return the outputs of all parts, one after the other."""
        probabilities, embeddings = zip(*parts, strict=True)
        return Outputs(
            np.concatenate(probabilities), None if embeddings[0] is None else np.concatenate(embeddings)
        )

    def check_finite(self, mels: np.ndarray) -> None:
        """Check that all values are finite; `mels` are the spectrograms in dB, which errors may blame.

        Raises:
            ValueError: a value that is NaN or infinite.
        """
        failed = ~np.logical_and.reduce(
            [np.isfinite(values).all(axis=1) for values in self if values is not None]
        )
        if not failed.any():
            return
        # Only these are searched for the cause: the spectrograms may be a large memory map.
        largest = np.abs(mels[failed]).max()  # NaN if one is
        if not np.isfinite(largest):
            raise ValueError("mels with values that are NaN or infinite: expected decibels")
        if largest > MAX_DECIBELS:
            raise ValueError(f"mels with values of {largest:.3g}: expected decibels")
        raise ValueError(
            "the network returns values that are not finite: evaluate the run, or train it again"
        )

    def select(self, rows: Rows) -> Outputs:
        """Return those of some rows."""
        return self._map(lambda values: values[rows])

    def with_missing(self, rows: Rows, count: int) -> Outputs:
        """Return `count` rows: these outputs at `rows`, and NaN for what could not be read."""

        def spread(values: np.ndarray) -> np.ndarray:
            result = np.full((count, values.shape[1]), np.nan, np.float32)
            result[rows] = values
            return result

        return self._map(spread)

    def means(self, counts: Sequence[int]) -> Outputs:
        """Return the means over the windows of each clip; NaN for a clip without any.

        Args:
            counts: number of windows of each clip; the rows of a clip follow each other.
        """
        return self._map(lambda values: _means_of_parts(values, counts))

    def _map(self, function: Callable[[np.ndarray], np.ndarray]) -> Outputs:
        probabilities, embeddings = self
        return Outputs(function(probabilities), None if embeddings is None else function(embeddings))


def _means_of_parts(values: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    means = np.full((len(counts), values.shape[1]), np.nan, np.float32)
    count_N = np.array(counts, np.int64)
    is_read_N = count_N > 0
    if is_read_N.any():
        starts = np.cumsum(count_N)[is_read_N] - count_N[is_read_N]
        means[is_read_N] = np.add.reduceat(values, starts) / count_N[is_read_N, None].astype(np.float32)
    return means
