"""Epoch order, batch loading and normalization statistics.

In shapes: N number of rows of a dataset, B batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Sampling = Literal["uniform", "balanced"]
# Spectrograms are moved to the GPU if they take at most this fraction of its free memory.
GPU_MEMORY_FRACTION = 0.4


def epoch_order(
    labels: np.ndarray, train: np.ndarray, sampling: Sampling, rng: np.random.Generator
) -> np.ndarray:
    """Return the training rows of an epoch in random order.

    Args:
        labels: class index of every row of the dataset `[shape=(N,)]`.
        train: indices of the training rows.
        sampling: `uniform` for every row once, `balanced` for as many rows sampled with replacement and equal
            probability per class.
        rng: random generator in the same state on all workers.
    """
    if sampling == "uniform":
        return rng.permutation(train)
    classes = labels[train]
    weights = 1.0 / np.bincount(classes)[classes]
    return rng.choice(train, len(train), p=weights / weights.sum())


def subsample_evenly(rows: np.ndarray, limit: int) -> np.ndarray:
    """Return every k-th row: at least `limit` rows, fewer than twice as many; all rows if there are fewer."""
    return rows[:: max(1, len(rows) // limit)]


class BatchLoader:
    """Loads spectrograms by row index as float16 tensors on a device.

    Spectrograms that are small enough are moved to GPU memory once; others are copied batch by batch.
    """

    def __init__(self, arrays: Sequence[np.ndarray], device: torch.device):
        """Use the rows of all `arrays`, numbered consecutively.

        Args:
            arrays: spectrograms in dB, float16 `[shape=(N, n_mels, num_frames)]` each.
            device: device of the batches.
        """
        self._arrays = arrays
        self._ends = np.cumsum([len(mels) for mels in arrays])
        self._device = device
        self._resident: Tensor | None = None
        size = sum(mels.nbytes for mels in arrays)
        if device.type == "cuda" and size <= GPU_MEMORY_FRACTION * torch.cuda.mem_get_info(device)[0]:
            self._resident = torch.from_numpy(np.concatenate(arrays)).to(device)

    def __call__(self, index: np.ndarray) -> Tensor:
        """Return the rows `index` `[shape=(B,)]` as a batch in dB `[shape=(B, n_mels, num_frames)]`."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(index).to(self._device)]
        batch = torch.from_numpy(self._gather(index))
        if self._device.type == "cuda":
            return batch.pin_memory().to(self._device, non_blocking=True)
        return batch

    def _gather(self, index: np.ndarray) -> np.ndarray:
        if len(self._arrays) == 1:
            return self._arrays[0][index]
        out = np.empty((len(index), *self._arrays[0].shape[1:]), np.float16)
        source = np.searchsorted(self._ends, index, side="right")
        for i, (mels, end) in enumerate(zip(self._arrays, self._ends, strict=True)):
            out[source == i] = mels[index[source == i] - (end - len(mels))]
        return out


def mel_statistics(mels: np.ndarray, train: np.ndarray, max_rows: int = 2000) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation of each mel band over up to `max_rows` evenly spaced training rows.

    Args:
        mels: spectrograms in dB `[shape=(N, n_mels, num_frames)]`.
        train: indices of the training rows.
        max_rows: maximum number of rows to read.

    Returns:
        Mean and standard deviation in dB, float32 `[shape=(n_mels,)]` each.
    """
    count, total, squares = 0, 0.0, 0.0
    for row in subsample_evenly(train, max_rows)[:max_rows]:
        mel = mels[row].astype(np.float64)
        count += mel.shape[1]
        total = total + mel.sum(axis=1)
        squares = squares + (mel**2).sum(axis=1)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return torch.from_numpy(np.asarray(mean, np.float32)), torch.from_numpy(np.asarray(std, np.float32))


def epoch_batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Split the rows of an epoch into batches of at most `batch_size` rows; sizes differ by at most one."""
    return np.array_split(order, max(1, -(-len(order) // batch_size)))


def batch_slices(total: int, size: int) -> Iterator[slice]:
    """Yield slices of `size` that cover `total`; the last may be smaller."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
