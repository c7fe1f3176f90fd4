"""How a training gets at its rows: the order of an epoch, a batch on the device, and the statistics that standardise them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Sampling = Literal["uniform", "balanced"]
# The set moves into the GPU's memory if it takes no more than this part of what is free there.
GPU_MEMORY_FRACTION = 0.4


def epoch_order(
    labels: np.ndarray, train: np.ndarray, sampling: Sampling, rng: np.random.Generator
) -> np.ndarray:
    """The training rows in the order of an epoch: each once, or as many draws with equal chance for each class.

    Args:
        labels: class number of every row of the set `[shape=(N,)]`.
        train: numbers of the training rows.
        sampling: `uniform` or `balanced`.
        rng: the same for all workers.
    """
    if sampling == "uniform":
        return rng.permutation(train)
    classes = labels[train]
    chance = 1.0 / np.bincount(classes)[classes]
    return rng.choice(train, len(train), p=chance / chance.sum())


def subsample_evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """Every k-th of the rows, so that about `most` are left, and fewer than twice as many."""
    return rows[:: max(1, len(rows) // most)]


class BatchLoader:
    """Fetches spectrograms by row number, as float16 on the training's device."""

    def __init__(self, sets: Sequence[np.ndarray], device: torch.device):
        """Each of `sets` is float16 in dB `[shape=(N, n_mels, num_frames)]`; their rows are numbered on.

        Small sets move to the GPU once and for all.
        """
        self._sets = sets
        self._ends = np.cumsum([len(mels) for mels in sets])
        self._device = device
        self._resident: Tensor | None = None
        size = sum(mels.nbytes for mels in sets)
        if device.type == "cuda" and size <= GPU_MEMORY_FRACTION * torch.cuda.mem_get_info(device)[0]:
            self._resident = torch.from_numpy(np.concatenate(sets)).to(device)

    def __call__(self, index: np.ndarray) -> Tensor:
        """The rows `index` `[shape=(B, n_mels, num_frames)]`."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(index).to(self._device)]
        rows = torch.from_numpy(self._rows(index))
        return rows.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else rows

    def _rows(self, index: np.ndarray) -> np.ndarray:
        if len(self._sets) == 1:
            return self._sets[0][index]
        out = np.empty((len(index), *self._sets[0].shape[1:]), np.float16)
        number = np.searchsorted(self._ends, index, side="right")
        for i, (mels, end) in enumerate(zip(self._sets, self._ends, strict=True)):
            out[number == i] = mels[index[number == i] - (end - len(mels))]
        return out


def mel_statistics(mels: np.ndarray, train: np.ndarray, most: int = 2000) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each mel band in dB `[shape=(n_mels,)]`, over up to `most` training rows evenly spread."""
    count, total, squares = 0, 0.0, 0.0
    for row in subsample_evenly(train, most)[:most]:
        mel = mels[row].astype(np.float64)
        count += mel.shape[1]
        total = total + mel.sum(axis=1)
        squares = squares + (mel**2).sum(axis=1)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return torch.from_numpy(np.asarray(mean, np.float32)), torch.from_numpy(np.asarray(std, np.float32))


def epoch_batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cuts an epoch's rows into batches of at most `batch_size`, as equal as can be: no last one is tiny, and none is lost."""
    return np.array_split(order, max(1, -(-len(order) // batch_size)))


def batch_slices(total: int, size: int) -> Iterator[slice]:
    """Slices of `size` that cover `total`."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
