"""Dataset of a training run: a table of all rows, and their spectrograms in one memory-mapped file.

The Parquet shards are read once per node into a cache file (`pipeline/data/row_cache.py`), which all workers,
folds and trials of the node map. The rows are then shared through the page cache, and a dataset larger than
memory is read at disk speed. A node may hold the spectrograms of some shards only.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.audio.features import FeatureConfig
from pipeline.data.label_sets import label_sets, row_labels
from pipeline.data.row_cache import cache_bytes, cache_folder, cache_shape, is_complete, open_cache
from pipeline.data.shard_manifest import ShardManifest, empty_dataset_error, open_shards
from pipeline.io.console import Progress

# Filling the cache of a dataset up to this size takes seconds.
SMALL_DATASET_BYTES = 1 << 30


@dataclass(frozen=True)
class ShardDataset:
    """All N rows of a dataset."""

    features: FeatureConfig
    class_names: tuple[str, ...]
    table: pd.DataFrame
    """The columns `COLUMNS` of `row_table.py` for each row, and two that are equal for duplicates, clips with
    the same audio: `content`, a digest of the clip's spectrogram (0: silence, which is no duplicate), and
    `split_group`, its group, merged with those of its duplicates."""
    mels: np.ndarray
    """Spectrograms in dB, float16, memory map `[shape=(N, n_mels, num_frames)]`; read-only if complete."""
    digest: str
    """Hash of the content."""
    multi_label: bool = False
    """Whether a row has any number of classes, rather than one."""

    @property
    def labels(self) -> np.ndarray:
        """Class index of each row `[shape=(N,)]`, int64; of several classes the rarest, C without any."""
        return row_labels(self.table, self.class_names, self.multi_label)

    @property
    def targets(self) -> np.ndarray:
        """Which classes each row has, bool `[shape=(N, C)]`."""
        return label_sets(self.table, self.class_names, self.multi_label)[:]


def dataset_digest(manifest: ShardManifest) -> str:
    """Return a hash of the content of a dataset; shard names contain digests of their own content."""
    text = json.dumps([manifest.fingerprint, manifest.class_names, [shard.name for shard in manifest.shards]])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def is_cached(manifest: ShardManifest) -> bool:
    """Return whether the cache of a dataset is complete on this node."""
    return is_complete(cache_folder() / dataset_digest(manifest), manifest)


def open_dataset(
    shards: Path, heartbeat: Callable[[], object] = lambda: None, wanted: Sequence[int] | None = None
) -> ShardDataset:
    """Open a complete dataset; the first call on a node fills the cache, and logs its progress.

    Args:
        shards: folder of the dataset.
        heartbeat: called after each shard while the cache is filled, and every second while another process
            fills it.
        wanted: indices of the shards whose spectrograms are needed (default: all); those of the others are
            not to be read.

    Raises:
        UserError: an unusable dataset, a damaged shard, a full disk, or an unusable cache folder.
    """
    manifest = open_shards(shards)
    if manifest.rows == 0:
        raise empty_dataset_error(shards, manifest)
    digest = dataset_digest(manifest)
    steps = open_cache(digest, shards, manifest, wanted)
    with _FillProgress(manifest, wanted) as progress:
        while True:
            try:
                progress.update(next(steps))
            except StopIteration as end:
                table, mels = end.value
                return make_dataset(manifest, table, mels, digest)
            heartbeat()


def make_dataset(manifest: ShardManifest, table: pd.DataFrame, mels: np.ndarray, digest: str) -> ShardDataset:
    """Return the dataset of a manifest with its rows."""
    return ShardDataset(
        manifest.features, manifest.class_names, table, mels, digest, multi_label=manifest.multi_label
    )


class _FillProgress(ExitStack):
    """Progress of filling a cache; not shown for a small dataset, which takes seconds."""

    def __init__(self, manifest: ShardManifest, wanted: Sequence[int] | None):
        super().__init__()
        indices = range(len(manifest.shards)) if wanted is None else wanted
        self._total = sum(manifest.shards[index].rows for index in indices)
        self._is_shown = self._total * cache_bytes(manifest) > SMALL_DATASET_BYTES * cache_shape(manifest)[0]
        self._progress: Progress | None = None

    def update(self, rows: int | None) -> None:
        """Show that the cache has `rows` rows; None changes nothing."""
        if rows is None or not self._is_shown:
            return
        if self._progress is None:
            self._progress = self.enter_context(Progress("caching shards", self._total, "rows", rows))
        elif rows > self._progress.done:
            self._progress.add(rows - self._progress.done)


def fill_cache_of(shards: Path) -> Iterator[int]:
    """Fill the cache of a dataset; yield the number of its rows so far, about every second.

    Raises:
        UserError: as `open_dataset`.
    """
    manifest = open_shards(shards)
    last = time.monotonic()
    for rows in open_cache(dataset_digest(manifest), shards, manifest):
        if rows is not None and time.monotonic() - last > 1:
            last = time.monotonic()
            yield rows
    yield cache_shape(manifest)[0]
