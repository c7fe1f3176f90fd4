"""Dataset of a training run: a table of all rows, and their spectrograms in one memory-mapped file.

The Parquet shards are read once per node into a cache file, which all workers, folds and trials of the node
map. The rows are then shared through the page cache, and a dataset larger than memory is read at disk speed.
The cache folder is named by a digest of the content and can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from pipeline.audio.features import FeatureConfig
from pipeline.data.shards import ShardManifest, mel_values, open_shards, read_shard
from pipeline.io.errors import UserError, report_os_errors

COLUMNS = ["clip_id", "path", "label", "fold", "group", "copy", "strength", "augmentation"]
# Unused caches are deleted after this time.
MAX_CACHE_AGE_S = 7 * 24 * 3600


@dataclass(frozen=True)
class ShardDataset:
    """All N rows of a dataset."""

    features: FeatureConfig
    class_names: tuple[str, ...]
    table: pd.DataFrame
    """The columns `COLUMNS` of each row."""
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
        UserError: the folder in the temporary folder is owned by another user.
    """
    configured = os.environ.get("MELRAY_CACHE")
    folder = Path(configured) if configured else Path(tempfile.gettempdir()) / f"melray-cache-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        UserError: an unusable dataset, a damaged shard, or a full disk.
    """
    manifest = open_shards(shards)
    digest = dataset_digest(manifest)
    folder = cache_folder() / digest
    shape = manifest.features.shape
    with report_os_errors("caching shards in", folder):
        with FileLock(str(folder) + ".lock"):
            if not (folder / "rows.parquet").is_file():
                _delete_old_caches(folder.parent)
                _fill_cache(folder, shards, manifest)
        os.utime(folder)
        table = pd.read_parquet(folder / "rows.parquet")
    if len(table) == 0:
        raise UserError(f"--shards {shards}: no usable clips; see its rejected.csv")
    mels = np.memmap(folder / "mels.f16", np.float16, "r", shape=(len(table), *shape))
    return ShardDataset(manifest.features, manifest.class_names, table, mels, digest)


def _fill_cache(folder: Path, shards: Path, manifest: ShardManifest) -> None:
    """Write `mels.f16`, then `rows.parquet`, which marks the cache as complete."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tables = []
    with open(folder / "mels.f16", "wb") as file:
        for shard in manifest.shards:
            path = shards / shard.name
            table = read_shard(path)
            if table.num_rows != shard.rows:
                raise UserError(
                    f"shard {path} has {table.num_rows} rows instead of {shard.rows}: "
                    "delete it and rerun `melray extract`"
                )
            file.write(mel_values(table, manifest.features.shape).data)
            tables.append(table.select(COLUMNS).to_pandas())
    rows = pd.concat(tables, ignore_index=True)
    rows.to_parquet(folder / "rows.tmp")
    os.replace(folder / "rows.tmp", folder / "rows.parquet")


def _delete_old_caches(folder: Path) -> None:
    for entry in folder.iterdir():
        # By name: MELRAY_CACHE may be a folder with other content.
        if (
            re.fullmatch(r"[0-9a-f]{24}", entry.name)
            and entry.is_dir()
            and time.time() - entry.stat().st_mtime > MAX_CACHE_AGE_S
        ):
            shutil.rmtree(entry, ignore_errors=True)
