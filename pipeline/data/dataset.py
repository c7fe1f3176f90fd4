"""Shards as training reads them: one table of rows, and all spectrograms in one memory-mapped file.

Parquet is read once a machine, into a file that every worker, fold and trial on it maps: the rows then live in the page
cache, shared, and a set larger than memory still works at the speed of the disk. The file is named by the content of the
set and can be deleted at any time.
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

COLUMNS = ["clip_id", "path", "label", "fold", "group", "copy", "strength", "recipe"]
KEEP_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class ShardDataset:
    """All rows of a set: `table` has the columns of `COLUMNS`, `mels` is float16 in dB `[shape=(N, n_mels, num_frames)]`."""

    features: FeatureConfig
    class_names: tuple[str, ...]
    table: pd.DataFrame
    mels: np.ndarray
    digest: str

    @property
    def labels(self) -> np.ndarray:
        """Number of each row's class `[shape=(N,)]`."""
        return (
            self.table["label"].map({name: i for i, name in enumerate(self.class_names)}).to_numpy(np.int64)
        )


def cache_folder() -> Path:
    """Where the mapped files lie: `MELRAY_CACHE`, or a folder of this user below the temporary one."""
    named = os.environ.get("MELRAY_CACHE")
    folder = Path(named) if named else Path(tempfile.gettempdir()) / f"melray-cache-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not named and folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder} belongs to somebody else: set MELRAY_CACHE to a folder of yours")
    return folder


def dataset_digest(manifest: ShardManifest) -> str:
    """Names the content of a set: the names of its parts hold digests of all that went into them."""
    text = json.dumps([manifest.fingerprint, manifest.class_names, [part.name for part in manifest.parts]])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def open_dataset(shards: Path) -> ShardDataset:
    """The rows of a complete set, from the cache or, the first time on a machine, through it.

    Raises:
        UserError: an unusable set, a damaged part, or no room for the cache.
    """
    manifest = open_shards(shards)
    digest = dataset_digest(manifest)
    folder = cache_folder() / digest
    shape = manifest.features.shape
    with report_os_errors("caching shards in", folder):
        with FileLock(str(folder) + ".lock"):
            if not (folder / "rows.parquet").is_file():
                _clear_old(folder.parent)
                _fill(folder, shards, manifest)
        os.utime(folder)
        table = pd.read_parquet(folder / "rows.parquet")
    if len(table) == 0:
        raise UserError(f"--shards {shards}: not one usable clip in it; see rejected.csv there")
    mels = np.memmap(folder / "mels.f16", np.float16, "r", shape=(len(table), *shape))
    return ShardDataset(manifest.features, manifest.class_names, table, mels, digest)


def _fill(folder: Path, shards: Path, manifest: ShardManifest) -> None:
    """Writes `mels.f16`, then `rows.parquet`, whose presence makes the cache valid."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tables = []
    with open(folder / "mels.f16", "wb") as file:
        for part in manifest.parts:
            table = read_shard(shards / part.name)
            if table.num_rows != part.rows:
                raise UserError(
                    f"shard {shards / part.name} has {table.num_rows} rows instead of {part.rows}: delete it and extract again"
                )
            file.write(mel_values(table, manifest.features.shape).data)
            tables.append(table.select(COLUMNS).to_pandas())
    rows = pd.concat(tables, ignore_index=True)
    rows.to_parquet(folder / "rows.tmp")
    os.replace(folder / "rows.tmp", folder / "rows.parquet")


def _clear_old(folder: Path) -> None:
    for entry in folder.iterdir():
        # Only what was made here: MELRAY_CACHE may be a folder that holds other things too.
        if (
            re.fullmatch(r"[0-9a-f]{24}", entry.name)
            and entry.is_dir()
            and time.time() - entry.stat().st_mtime > KEEP_SECONDS
        ):
            shutil.rmtree(entry, ignore_errors=True)
