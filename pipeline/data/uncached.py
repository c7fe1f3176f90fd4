"""Datasets whose spectrograms are read from the shards when they are needed, where a cache would not fit."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from pipeline.data.cache_fill import cache_parts
from pipeline.data.cache_space import fits
from pipeline.data.dataset import ShardDataset, dataset_digest, is_cached, make_dataset, open_dataset
from pipeline.data.row_cache import cache_folder, cache_shape
from pipeline.data.row_table import read_complete_shard
from pipeline.data.rows import read_rows
from pipeline.data.shard_manifest import ShardManifest, open_shards
from pipeline.data.shards import mel_values
from pipeline.io.concurrent import map_concurrently
from pipeline.io.console import logger

# Shards that are read concurrently, and kept in memory for the next rows.
THREADS, KEPT_SHARDS = 4, 2


def open_dataset_to_read(shards: Path) -> ShardDataset:
    """Open a complete dataset of which some rows are read once: without a cache if that would not fit.

    Raises:
        UserError: as `open_dataset`; a damaged shard perhaps not before its spectrograms are read.
    """
    manifest = open_shards(shards)
    digest = dataset_digest(manifest)
    if manifest.rows == 0 or is_cached(manifest) or fits(cache_folder() / digest, manifest):
        return open_dataset(shards)
    logger.info("%s does not fit into %s: reading its shards instead", shards, cache_folder())
    rows = read_rows(shards)
    mels: np.ndarray = ShardMels(shards, manifest)  # type: ignore[assignment]  # as far as readers use one
    return make_dataset(manifest, rows.table, mels, digest)


class ShardMels:
    """Spectrograms of all rows of a dataset, indexed like an array; each access reads the shards it needs."""

    def __init__(self, shards: Path, manifest: ShardManifest):
        """Read from the folder `shards`, whose manifest is given."""
        self.shape = cache_shape(manifest)
        self._parts = cache_parts(manifest)
        self._ends = np.cumsum([part.rows for part in self._parts])
        self._read = lru_cache(KEPT_SHARDS)(partial(self._read_shard, shards))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
        """Return rows in dB, float16 `[shape=(n_mels, num_frames)]`, or with an axis before for several."""
        rows = np.arange(len(self))[index]
        if rows.ndim == 0:
            return self[rows[None]][0]
        out = np.empty((len(rows), *self.shape[1:]), np.float16)
        shard_of_row = np.searchsorted(self._ends, rows, side="right")
        needed = np.unique(shard_of_row).tolist()
        for shard, mels in zip(needed, map_concurrently(self._read, needed, THREADS, THREADS), strict=True):
            selected = shard_of_row == shard
            out[selected] = mels[rows[selected] - (self._ends[shard] - len(mels))]
        return out

    def _read_shard(self, shards: Path, number: int) -> np.ndarray:
        part = self._parts[number]
        table = read_complete_shard(shards / part.name, part.rows, ["mel"])
        return mel_values(table, (self.shape[1], self.shape[2]))
