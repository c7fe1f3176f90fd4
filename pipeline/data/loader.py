"""Epoch order, batch loading and normalization statistics.

In shapes: N number of rows of a dataset, B batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from models.device_batches import to_device

Sampling = Literal["uniform", "balanced"]
# Spectrograms are moved to a GPU in pieces of this size.
COPIED_BYTES = 2**28


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

    Spectrograms that fit the budget are moved to the GPU's memory once; others are copied batch by batch.
    """

    def __init__(self, arrays: Sequence[np.ndarray], device: torch.device, gpu_bytes: int = 0):
        """Use the rows of all `arrays`, numbered consecutively.

        Args:
            arrays: spectrograms in dB, float16 `[shape=(N, n_mels, num_frames)]` each.
            device: device of the batches.
            gpu_bytes: memory of the GPU that the spectrograms may fill.
        """
        self._arrays = arrays
        self._ends = np.cumsum([len(mels) for mels in arrays])
        self._device = device
        self._resident: Tensor | None = None
        if device.type != "cpu" and sum(mels.nbytes for mels in arrays) <= gpu_bytes:
            self._resident = _copy_in_pieces(arrays, device)

    @property
    def is_resident(self) -> bool:
        """Whether all spectrograms are in the memory of the GPU."""
        return self._resident is not None

    def arrays(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Return the inputs of a step from which `take` gets the rows `index` `[shape=(B,)]`."""
        return {"row_B": index} if self.is_resident else {"mel_BMT": self._gather(index)}

    def take(self, inputs: Mapping[str, Any]) -> Tensor:
        """Return a step's batch from its inputs, on the device, in dB `[shape=(B, n_mels, num_frames)]`."""
        return inputs["mel_BMT"] if self._resident is None else self._resident[inputs["row_B"]]

    def __call__(self, index: np.ndarray) -> Tensor:
        """Return the rows `index` `[shape=(B,)]` as a batch in dB `[shape=(B, n_mels, num_frames)]`."""
        return self.take(
            {name: to_device(values, self._device) for name, values in self.arrays(index).items()}
        )

    def _gather(self, index: np.ndarray) -> np.ndarray:
        if len(self._arrays) == 1:
            return self._arrays[0][index]
        out = np.empty((len(index), *self._arrays[0].shape[1:]), np.float16)
        source = np.searchsorted(self._ends, index, side="right")
        for i, (mels, end) in enumerate(zip(self._arrays, self._ends, strict=True)):
            out[source == i] = mels[index[source == i] - (end - len(mels))]
        return out


def gpu_budget(device: torch.device, fraction: float, gpus: float) -> int:
    """Return the bytes that spectrograms may fill: a fraction of a worker's part of a GPU; 0 on CPUs.

    A part of the whole memory rather than of the free: concurrent workers of a GPU then agree.
    """
    if device.type != "cuda":
        return 0
    return int(fraction * min(gpus or 1.0, 1.0) * torch.cuda.mem_get_info(device)[1])


def _copy_in_pieces(arrays: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Copy the rows of all arrays to a device without a copy of all in the memory of the host."""
    shape = (sum(len(mels) for mels in arrays), *arrays[0].shape[1:])
    resident = torch.empty(shape, dtype=torch.float16, device=device)
    start = 0
    for mels in arrays:
        for piece in batch_slices(len(mels), max(1, COPIED_BYTES * len(mels) // max(1, mels.nbytes))):
            # A copy, since a memory map is read-only.
            rows = torch.from_numpy(np.array(mels[piece]))
            resident[start : start + len(rows)].copy_(rows)
            start += len(rows)
    return resident


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
