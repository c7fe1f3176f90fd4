"""Mix several channels down to one, except where that would lose the recording.

The mean of a channel and its inverse is silence, and that of a channel and a silent one has half the level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A channel this much (power ratio, −50 dB) below the loudest one is silent: noise of an unused input.
_SILENT_POWER = 1e-5
# Channels cancel out if their sum has less than this fraction of the power of uncorrelated channels.
_CANCELED_POWER = 0.3
# Cancellation of a pair of channels counts only if they have at least this fraction of the total power.
_RELEVANT_POWER = 0.1

# Of several channels with at least this fraction of the maximum power, the first one is the loudest.
_ABOUT_EQUAL_POWER = 0.9
# From this number of channels on, numpy adds in another order than one after the other.
_PAIRWISE_CHANNELS = 8


@dataclass(frozen=True)
class Mix:
    """Channels whose mean is used, with the reason why it is not that of all of them."""

    channels: tuple[int, ...]
    reason: str
    silent_power: float | None = None
    """If the others are silent, the mean square of samples up to which a channel is."""


def mix_down(rows: np.ndarray, mix: Mix | None = None) -> np.ndarray:
    """Return the mean over channels, of samples `[shape=(channels, num_frames)]`, float32."""
    if mix is not None:
        rows = rows[list(mix.channels)]
    count = len(rows)
    if count == 1:
        return rows[0]
    with np.errstate(over="ignore", invalid="ignore"):
        if count >= _PAIRWISE_CHANNELS:
            return np.ascontiguousarray(rows.T).mean(axis=1, dtype=np.float32)
        mono = rows[0] + rows[1]
        for row in rows[2:]:
            mono += row
        mono /= np.float32(count)
        return mono


class ChannelStatistics:
    """Covariance between the channels of a file, accumulated block by block."""

    def __init__(self) -> None:
        self._num_frames = 0
        self._offsets: np.ndarray | None = None
        self._sums: np.ndarray | float = 0.0
        self._products: np.ndarray | float = 0.0

    def add(self, rows: np.ndarray) -> None:
        """Add samples `[shape=(channels, num_frames)]`, float32."""
        if len(rows) == 1 or not rows.size:
            return
        if self._offsets is None:
            # float32 cannot resolve a quiet signal on top of a constant one.
            self._offsets = rows[:, :1].copy()
        with np.errstate(over="ignore", invalid="ignore"):
            rows = rows - self._offsets
            self._sums = self._sums + rows.sum(axis=1).astype(np.float64)
            self._products = self._products + _inner_products(rows)
        self._num_frames += rows.shape[1]

    def mix(self) -> Mix | None:
        """Return which channels to use; None: the mean of all."""
        if not self._num_frames:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            covariance = self._products - np.outer(self._sums, self._sums) / self._num_frames
        power = covariance.diagonal()
        # All silent, or values that are not finite.
        if not 0 < power.max() < np.inf:
            return None
        audible = np.flatnonzero(power > power.max() * _SILENT_POWER)
        limit = float(power.max() * _SILENT_POWER / self._num_frames)
        if _cancels(covariance[np.ix_(audible, audible)]):
            loudest = int((power > _ABOUT_EQUAL_POWER * power.max()).argmax())
            return Mix((loudest,), f"the channels cancel out: channel {loudest + 1} of {len(power)} is used")
        if len(audible) == len(power):
            return None
        silent = ", ".join(str(channel + 1) for channel in range(len(power)) if channel not in audible)
        return Mix(tuple(audible.tolist()), f"silent channels of {len(power)}, not used: {silent}", limit)


def _inner_products(rows: np.ndarray) -> np.ndarray:
    """Return the matrix of inner products, float64; a matrix product is slower for so few, long rows."""
    products = np.empty((len(rows), len(rows)))
    for i, row in enumerate(rows):
        for j in range(i, len(rows)):
            products[i, j] = products[j, i] = np.dot(row, rows[j])
    return products


def _cancels(covariance: np.ndarray) -> bool:
    """Return whether the mean over channels, or over a pair of them, loses most of the power."""
    power = covariance.diagonal()
    if covariance.sum() < _CANCELED_POWER * power.sum():
        return True
    pairs = power[:, None] + power[None, :]
    canceled = pairs + 2 * covariance < _CANCELED_POWER * pairs
    return bool((canceled & (pairs > _RELEVANT_POWER * power.sum())).any())
