"""Spectrograms that are read from the shards in every epoch, where not even a share of them fits on a disk.

A worker's shards are grouped at random into windows, equal in number for all workers. The steps of an epoch
are divided among the windows; a window is read into memory while the one before is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.data.row_cache import cache_shape
from pipeline.data.shard_manifest import ShardManifest
from pipeline.data.uncached import ShardMels

# Size of a window in memory; two are in memory at a time, and the shards that are being unpacked.
WINDOW_BYTES = 1 << 30
# Shards from whose rows statistics are computed.
SAMPLED_SHARDS = 64


class _Window(NamedTuple):
    rows: np.ndarray
    """Row numbers, sorted."""
    mels: np.ndarray
    """Their spectrograms."""


class ShardStream:
    """Spectrograms of the rows of several datasets, numbered consecutively, indexed like an array.

    Training rows of the current epoch come from windows; others are read from their shards.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        manifests: Sequence[ShardManifest],
        share_of_shard: np.ndarray,
        share: int,
    ):
        """Read datasets for one of several workers.

        Args:
            folders: folder of each dataset.
            manifests: manifest of each.
            share_of_shard: share that each shard of all datasets belongs to `[shape=(shards,)]`.
            share: share of this worker.
        """
        self._readers = [ShardMels(*dataset) for dataset in zip(folders, manifests, strict=True)]
        self._rows_of_shard = np.array([shard.rows for manifest in manifests for shard in manifest.shards])
        self._starts = np.concatenate([[0], np.cumsum(self._rows_of_shard)])
        self._ends = np.cumsum([len(reader) for reader in self._readers])
        self.shape = (int(self._ends[-1]), *cache_shape(manifests[0])[1:])
        self._share_of_shard, self._share = share_of_shard, share
        self._train = np.zeros(len(self), bool)
        self._round_of_shard = np.zeros(len(self._rows_of_shard), np.int64)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shard_stream")
        self._windows: dict[int, Future[_Window]] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def train_on(self, rows: np.ndarray) -> None:
        """Set the training rows, of which windows consist."""
        self._train[rows] = True

    def sampled(self, rows: np.ndarray) -> np.ndarray:
        """Return those of the rows that are in some evenly spaced shards, to compute statistics from."""
        shards = np.unique(self._shard_of_row(rows))
        positions = np.linspace(0, len(shards) - 1, min(len(shards), SAMPLED_SHARDS)).round().astype(np.int64)
        return rows[np.isin(self._shard_of_row(rows), shards[positions])]

    def start_epoch(self, rng: np.random.Generator) -> np.ndarray:
        """Group the shards of all workers into windows; return the number of each row's window.

        Args:
            rng: random generator in the same state on all workers.
        """
        trained = self._shard_of_row(np.flatnonzero(self._train))
        used = np.bincount(trained, minlength=len(self._rows_of_shard)) > 0
        shares = range(int(self._share_of_shard.max()) + 1)
        shards = [np.flatnonzero(used & (self._share_of_shard == share)) for share in shares]
        size = max(self._bytes(own) for own in shards)
        rounds = min(max(1, -(-size // WINDOW_BYTES)), *map(len, shards))
        for own in shards:
            for number, window in enumerate(np.array_split(rng.permutation(own), rounds)):
                self._round_of_shard[window] = number
        self._windows.clear()
        return np.repeat(self._round_of_shard, self._rows_of_shard)

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """Return rows in dB, float16 `[shape=(len(index), n_mels, num_frames)]`: of one window, or others."""
        if not len(index) or not self._train[index].all():
            return self.read(index)
        number = int(self._round_of_shard[self._shard_of_row(index[:1])[0]])
        window = self._window(number).result()
        for other in [other for other in self._windows if other not in (number, number + 1)]:
            del self._windows[other]
        if number < self._round_of_shard.max():
            self._window(number + 1)
        return window.mels[np.searchsorted(window.rows, index)]

    def read(self, index: np.ndarray) -> np.ndarray:
        """Return any rows, read from their shards."""
        out = np.empty((len(index), *self.shape[1:]), np.float16)
        source = np.searchsorted(self._ends, index, side="right")
        for number, (reader, end) in enumerate(zip(self._readers, self._ends, strict=True)):
            selected = source == number
            if selected.any():
                out[selected] = reader[index[selected] - (end - len(reader))]
        return out

    def _window(self, number: int) -> Future[_Window]:
        """Return a window of this worker, which is read in a thread if that has not begun."""
        if number not in self._windows:
            self._windows[number] = self._pool.submit(partial(self._read_window, number))
        return self._windows[number]

    def _read_window(self, number: int) -> _Window:
        is_own = (self._share_of_shard == self._share) & (self._round_of_shard == number)
        shard_rows = [
            np.arange(self._starts[shard], self._starts[shard + 1]) for shard in np.flatnonzero(is_own)
        ]
        rows = np.concatenate(shard_rows)
        rows = rows[self._train[rows]]
        return _Window(rows, self.read(rows))

    def _shard_of_row(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._starts, rows, side="right") - 1

    def _bytes(self, shards: np.ndarray) -> int:
        return int(2 * self._rows_of_shard[shards].sum() * np.prod(self.shape[1:]))


class FetchedRows:
    """Spectrograms of a few rows of a dataset that is streamed, indexed by the rows of the whole dataset."""

    def __init__(self, shape: tuple[int, ...]):
        """Hold no rows yet; `shape` is that of all spectrograms."""
        self.shape = shape
        self._values: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def __setitem__(self, index: np.ndarray, values: np.ndarray) -> None:
        self._values |= dict(zip(index.tolist(), values, strict=True))

    def __getitem__(self, index: int | np.ndarray) -> np.ndarray:
        """Return rows that have been set; raise `KeyError` for others."""
        if np.ndim(index) == 0:
            return self._values[int(index)]
        rows = [self._values[row] for row in np.asarray(index).tolist()]
        return np.stack(rows) if rows else np.empty((0, *self.shape[1:]), np.float16)
