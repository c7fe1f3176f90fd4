"""Dataset of a training run: a table of all rows, and their spectrograms in one memory-mapped file.

The Parquet shards are read once per node into a cache file, which all workers, folds and trials of the node
map. The rows are then shared through the page cache, and a dataset larger than memory is read at disk speed.
The cache folder is named by a digest of the content and can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from pipeline.audio.features import FeatureConfig
from pipeline.data.duplicates import duplicate_sets, merge_groups, read_digests
from pipeline.data.shards import (
    ShardManifest,
    empty_dataset_error,
    mel_values,
    open_shards,
    read_shard,
    shard_digests,
)
from pipeline.io.errors import UserError, explain_os_error

COLUMNS = ["clip_id", "path", "label", "fold", "group", "copy", "strength", "augmentation"]
# How often a cache that another program deletes is filled again.
MAX_CACHE_ATTEMPTS = 3
# Unused caches are deleted after this time.
MAX_CACHE_AGE_S = 7 * 24 * 3600


@dataclass(frozen=True)
class ShardDataset:
    """All N rows of a dataset."""

    features: FeatureConfig
    class_names: tuple[str, ...]
    table: pd.DataFrame
    """The columns `COLUMNS` of each row, and two that are equal for duplicates, clips with the same audio:
    `content`, a digest of the clip's spectrogram (0: silence, which is no duplicate), and `split_group`, its
    group, merged with those of its duplicates."""
    mels: np.ndarray
    """Spectrograms in dB, float16, read-only memory map `[shape=(N, n_mels, num_frames)]`."""
    digest: str
    """Hash of the content."""

    @property
    def labels(self) -> np.ndarray:
        """Class index of each row `[shape=(N,)]`, int64."""
        return (
            self.table["label"].map({name: i for i, name in enumerate(self.class_names)}).to_numpy(np.int64)
        )


def cache_folder() -> Path:
    """Return the folder of the caches: `MELRAY_CACHE`, or one for this user in the temporary folder.

    Raises:
        UserError: the folder cannot be created, or that in the temporary folder is owned by another user.
    """
    configured = os.environ.get("MELRAY_CACHE")
    folder = Path(configured) if configured else Path(tempfile.gettempdir()) / f"melray-cache-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"MELRAY_CACHE {folder}: not a folder; set it to a folder you can write to") from None
    except OSError as error:
        text = explain_os_error(error, f"creating the cache folder {folder}")
        raise UserError(f"{text}; MELRAY_CACHE sets the folder of caches") from error
    if not configured and folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder} is owned by another user: set MELRAY_CACHE to a folder you own")
    return folder


def dataset_digest(manifest: ShardManifest) -> str:
    """Return a hash of the content of a dataset; shard names contain digests of their own content."""
    text = json.dumps([manifest.fingerprint, manifest.class_names, [shard.name for shard in manifest.shards]])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def open_dataset(shards: Path) -> ShardDataset:
    """Open a complete dataset; the first call on a node fills the cache.

    Raises:
        UserError: an unusable dataset, a damaged shard, a full disk, or an unusable cache folder.
    """
    manifest = open_shards(shards)
    digest = dataset_digest(manifest)
    if manifest.rows == 0:
        raise empty_dataset_error(shards, manifest)
    shape = (sum(shard.rows for shard in manifest.shards), *manifest.features.shape)
    for _ in range(MAX_CACHE_ATTEMPTS):
        folder = cache_folder() / digest
        # A program that cleans temporary folders deletes any of these files at any time.
        with suppress(FileNotFoundError), _report_cache_errors(folder), FileLock(f"{folder}.lock"):
            if not _is_complete(folder, shape):
                _delete_old_caches(folder.parent)
                _fill_cache(folder, shards, manifest)
            table, mels = _read_cache(folder, shape)
            return ShardDataset(manifest.features, manifest.class_names, table, mels, digest)
    raise UserError(
        f"the row cache {folder} was deleted several times while it was opened: "
        "set MELRAY_CACHE to a folder that is kept"
    )


@contextmanager
def _report_cache_errors(folder: Path) -> Iterator[None]:
    """Convert errors of the cache's file system, except for missing files, into `UserError`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        text = explain_os_error(error, f"caching shards in {folder}")
        raise UserError(f"{text}; MELRAY_CACHE sets the folder of caches") from error


def _is_complete(folder: Path, shape: tuple[int, int, int]) -> bool:
    """Return whether a cache has all rows of spectrograms of `shape` `(rows, n_mels, num_frames)`."""
    try:
        rows = pq.read_metadata(folder / "rows.parquet").num_rows
        size = (folder / "mels.f16").stat().st_size
    except (OSError, pa.ArrowException):
        return False
    return rows == shape[0] and size == 2 * math.prod(shape)


def _read_cache(folder: Path, shape: tuple[int, int, int]) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the table of a complete cache, and its spectrograms as a read-only memory map of `shape`.

    Raises:
        FileNotFoundError: a file has been deleted or damaged meanwhile; the cache is deleted then.
    """
    try:
        with suppress(OSError):  # only its age in `_delete_old_caches` depends on it
            os.utime(folder)
        table = pd.read_parquet(folder / "rows.parquet")
        return table, np.memmap(folder / "mels.f16", np.float16, "r", shape=shape)
    except (OSError, ValueError, pa.ArrowException) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise FileNotFoundError(f"{folder}: {error}") from error


def _fill_cache(folder: Path, shards: Path, manifest: ShardManifest) -> None:
    """Write `mels.f16`, then `rows.parquet`; after an error nothing is left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        tables, digests = [], []
        with open(folder / "mels.f16", "wb") as file:
            for shard in manifest.shards:
                table = read_complete_shard(shards / shard.name, shard.rows)
                file.write(mel_values(table, manifest.features.shape).data)
                tables.append(table.select(COLUMNS).to_pandas())
                digests.append(shard_digests(table))
        rows = pd.concat(tables, ignore_index=True)
        add_split_columns(rows, read_digests(b"".join(digests)))
        rows.to_parquet(folder / "rows.tmp")
        os.replace(folder / "rows.tmp", folder / "rows.parquet")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def read_complete_shard(path: Path, rows: int, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a shard of `rows` rows, or some of its columns.

    Raises:
        UserError: the shard is missing or damaged, or has another number of rows.
    """
    table = read_shard(path, columns)
    if table.num_rows != rows:
        raise UserError(
            f"shard {path} has {table.num_rows} rows instead of {rows}: delete it and rerun `melray extract`"
        )
    return table


def add_split_columns(rows: pd.DataFrame, digests: np.ndarray) -> None:
    """Add the columns `content` and `split_group` from the digest of each clip, uint64 `[shape=(clips,)]`."""
    is_original = rows["copy"].to_numpy() == 0
    clip_index = np.cumsum(is_original) - 1  # an original is followed by its augmented copies
    groups = merge_groups(rows["group"].to_numpy()[is_original], duplicate_sets(digests))
    rows["content"] = digests[clip_index]
    rows["split_group"] = groups[clip_index]


def _delete_old_caches(folder: Path) -> None:
    for entry in folder.iterdir():
        # By name: MELRAY_CACHE may be a folder with other content.
        if (
            re.fullmatch(r"[0-9a-f]{24}", entry.name)
            and entry.is_dir()
            and time.time() - entry.stat().st_mtime > MAX_CACHE_AGE_S
        ):
            shutil.rmtree(entry, ignore_errors=True)
