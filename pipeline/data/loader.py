"""Epoch order, batch loading and normalization statistics.

In shapes: N number of rows of a dataset, B batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from models.device_batches import to_device

Sampling = Literal["uniform", "balanced"]
# Spectrograms are moved to a GPU in pieces of this size.
COPIED_BYTES = 2**28
# Rows from which the mean and the standard deviation of each mel band are computed.
MAX_STATISTICS_ROWS = 2000
# Spectrograms whose inputs are computed together: some 16 clips of 5 s.
STATISTICS_BYTES = 2**21


def epoch_order(
    labels: np.ndarray, train: np.ndarray, sampling: Sampling, rng: np.random.Generator
) -> np.ndarray:
    """Return the training rows of an epoch in random order.

    Args:
        labels: class index of every row of the dataset `[shape=(N,)]`.
        train: indices of the training rows.
        sampling: `uniform` for every row once, `balanced` for the same number of rows, sampled with
            replacement and equal probability per class.
        rng: random generator in the same state on all workers.
    """
    if sampling == "uniform":
        return rng.permutation(train)
    weights = sampling_weights(labels[train])
    return rng.choice(train, len(train), p=weights / weights.sum())


def sampling_weights(labels: np.ndarray) -> np.ndarray:
    """Return weights of rows by which all classes are equally probable, from their class indices."""
    return 1.0 / np.bincount(labels)[labels]


def subsample_evenly(rows: np.ndarray, limit: int) -> np.ndarray:
    """Return `limit` evenly spaced rows; all rows if there are not more."""
    return rows if len(rows) <= limit else rows[np.arange(limit) * len(rows) // limit]


class BatchLoader:
    """Loads spectrograms by row index as float16 tensors on a device.

    Spectrograms that fit the budget are moved to the GPU's memory once; others are copied batch by batch.
    """

    def __init__(
        self,
        arrays: Sequence[np.ndarray],
        device: torch.device,
        gpu_bytes: int = 0,
        held: np.ndarray | None = None,
    ):
        """Use the rows of all `arrays`, numbered consecutively.

        Args:
            arrays: spectrograms in dB, float16 `[shape=(N, n_mels, num_frames)]` each.
            device: device of the batches.
            gpu_bytes: memory of the GPU that the spectrograms may fill.
            held: mask of the rows that this node holds, bool `[shape=(rows of all arrays,)]`; default: all.
        """
        self._arrays = arrays
        self._ends = np.cumsum([len(mels) for mels in arrays])
        self._device = device
        self._held = held
        self._resident: Tensor | None = None
        # Number of each row among those that are resident.
        self._positions: np.ndarray | None = None
        rows = self._ends[-1] if held is None else np.count_nonzero(held)
        if device.type != "cpu" and rows * self._row_bytes <= gpu_bytes:
            self._resident = self._copy_to_device(int(rows))

    @property
    def _row_bytes(self) -> int:
        return int(2 * np.prod(self._arrays[0].shape[1:]))

    @property
    def is_resident(self) -> bool:
        """Whether all spectrograms are in the memory of the GPU."""
        return self._resident is not None

    def arrays(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Return the inputs of a step from which `take` gets the rows `index` `[shape=(B,)]`.

        Raises:
            IndexError: this node does not hold a row.
        """
        if self._held is not None and not self._held[index].all():
            raise IndexError(f"row {index[~self._held[index]][0]} is not held by this node")
        if self._resident is None:
            return {"mel_BMT": self._gather(index)}
        return {"row_B": index if self._positions is None else self._positions[index]}

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

    def _copy_to_device(self, rows: int) -> Tensor:
        """Copy all rows that are held, `rows` in number, without a copy of all in the memory of the host."""
        if self._held is not None:
            self._positions = np.cumsum(self._held) - 1
        index = np.arange(rows) if self._held is None else np.flatnonzero(self._held)
        resident = torch.empty((rows, *self._arrays[0].shape[1:]), dtype=torch.float16, device=self._device)
        for piece in batch_slices(rows, max(1, COPIED_BYTES // self._row_bytes)):
            resident[piece].copy_(torch.from_numpy(self._gather(index[piece])))
        return resident


def gpu_budget(device: torch.device, fraction: float, gpus: float) -> int:
    """Return the bytes that spectrograms may fill: a fraction of a worker's part of a GPU; 0 on CPUs.

    A part of the whole memory rather than of the free: concurrent workers of a GPU then agree.
    """
    if device.type != "cuda":
        return 0
    return int(fraction * min(gpus or 1.0, 1.0) * torch.cuda.mem_get_info(device)[1])


def statistics_rows(train: np.ndarray, max_rows: int = MAX_STATISTICS_ROWS) -> np.ndarray:
    """Return the rows from which `mel_statistics` computes."""
    return subsample_evenly(train, max_rows)


def mel_statistics(
    mels: np.ndarray, train: np.ndarray, max_rows: int = MAX_STATISTICS_ROWS
) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation of each mel band over up to `max_rows` evenly spaced training rows.

    Args:
        mels: spectrograms in dB `[shape=(N, n_mels, num_frames)]`.
        train: indices of the training rows.
        max_rows: maximum number of rows to read.

    Returns:
        Mean and standard deviation in dB, float32 `[shape=(n_mels,)]` each.
    """
    return input_statistics(mels, statistics_rows(train, max_rows), lambda mel_BMT: [mel_BMT])[0]


def input_statistics(
    mels: np.ndarray, rows: np.ndarray, inputs_of: Callable[[Tensor], list[Tensor]]
) -> list[tuple[Tensor, Tensor]]:
    """Compute mean and standard deviation over time and rows of inputs of a network; reads each row once.

    Args:
        mels: spectrograms in dB `[shape=(N, n_mels, num_frames)]`.
        rows: indices of the rows.
        inputs_of: returns inputs `[shape=(B, K, any)]` of spectrograms in dB, float32
            `[shape=(B, n_mels, num_frames)]`.

    Returns:
        Mean and standard deviation, float32 `[shape=(K,)]` each, of each input.
    """
    batches = batch_slices(len(rows), max(1, STATISTICS_BYTES // (4 * math.prod(mels.shape[1:]))))
    sums = [
        [_sums(value_BKT) for value_BKT in inputs_of(torch.from_numpy(mels[rows[part]].astype(np.float32)))]
        for part in batches
    ]
    return [_mean_and_std(parts_of_input) for parts_of_input in zip(*sums, strict=True)]


def _sums(value_BKT: Tensor) -> tuple[int, np.ndarray, np.ndarray]:
    """Return number, sum and sum of squares of values over rows and time."""
    values = value_BKT.double().numpy()
    return values.shape[0] * values.shape[2], values.sum(axis=(0, 2)), (values**2).sum(axis=(0, 2))


def _mean_and_std(sums: Sequence[tuple[int, np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation from number, sum and sum of squares of several parts."""
    count, total, squares = (sum(part[i] for part in sums) for i in range(3))
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
