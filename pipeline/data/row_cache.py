"""Row caches of a node: the rows of a dataset in one file, which all of its workers, folds and trials map.

A cache is a folder that is named by a digest of the dataset's content; it can be deleted at any time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from filelock import FileLock, Timeout

from pipeline.data.cache_fill import (
    MELS_NAME,
    ROWS_NAME,
    FillSteps,
    cache_parts,
    fill_cache,
    has_table,
    held_shards,
)
from pipeline.data.cache_space import delete_old_caches, make_space
from pipeline.data.shard_manifest import ShardManifest
from pipeline.io.console import HEARTBEAT_S, logger
from pipeline.io.errors import UserError, explain_os_error

# How often a cache that another program deletes is filled again.
MAX_CACHE_ATTEMPTS = 3
# Seconds between two attempts to get the lock of a cache that another process fills.
_LOCK_S = 1.0


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


def cache_shape(manifest: ShardManifest) -> tuple[int, int, int]:
    """Return the shape of a dataset's spectrograms, `(rows, n_mels, num_frames)`."""
    return (sum(shard.rows for shard in manifest.shards), *manifest.features.shape)


def cache_bytes(manifest: ShardManifest) -> int:
    """Return the size of a dataset's spectrograms in bytes."""
    return sum(part.size for part in cache_parts(manifest))


def open_cache(
    digest: str, shards: Path, manifest: ShardManifest, wanted: Sequence[int] | None = None
) -> Generator[int | None, None, tuple[pd.DataFrame, np.ndarray]]:
    """Return the table of a dataset and a memory map of its spectrograms; fill the cache if needed.

    Args:
        digest: digest of the dataset's content.
        shards: folder of the dataset.
        manifest: its manifest.
        wanted: indices of the shards whose spectrograms are needed (default: all). Those of others are zero
            or not, and the map can be written to, which changes it in this process only.

    Yields:
        While the cache is filled, and every second while another process fills it: the number of rows so
        far, or None.

    Raises:
        UserError: a damaged shard, a full disk, or an unusable cache folder.
    """
    shape = cache_shape(manifest)
    indices = range(len(manifest.shards)) if wanted is None else wanted
    for _ in range(MAX_CACHE_ATTEMPTS):
        folder = cache_folder() / digest
        lock = FileLock(f"{folder}.lock")
        # A program that cleans temporary folders deletes any of these files at any time.
        with suppress(FileNotFoundError), _report_cache_errors(folder):
            yield from _acquire(lock, folder)
            try:
                if not is_complete(folder, manifest, indices):
                    yield from _fill(folder, shards, manifest, indices)
                return _read_cache(folder, shape, "r" if wanted is None else "c")
            finally:
                lock.release()
    raise UserError(
        f"the row cache {folder} was deleted several times while it was opened: "
        "set MELRAY_CACHE to a folder that is kept"
    )


def _acquire(lock: FileLock, folder: Path) -> FillSteps:
    """Wait for the lock of a cache, without a limit: another process may fill it for hours."""
    next_message = time.monotonic() + _LOCK_S
    while True:
        try:
            lock.acquire(timeout=_LOCK_S)
            return
        except Timeout:
            if time.monotonic() > next_message:
                logger.info("waiting for another process that fills the row cache %s", folder)
                next_message = time.monotonic() + HEARTBEAT_S
            yield None


def _fill(folder: Path, shards: Path, manifest: ShardManifest, wanted: Sequence[int]) -> FillSteps:
    """Fill a cache; after an interruption or a damaged shard it is kept, to continue there."""
    delete_old_caches(folder.parent)
    make_space(folder, shards, manifest, wanted)
    try:
        yield from fill_cache(folder, shards, manifest, wanted)
    except OSError:
        # A full disk above all: others need the space.
        shutil.rmtree(folder, ignore_errors=True)
        raise


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


def is_complete(folder: Path, manifest: ShardManifest, wanted: Sequence[int] | None = None) -> bool:
    """Return whether a cache has the table of all rows, and holds the shards `wanted` (default: all)."""
    parts = cache_parts(manifest)
    held = held_shards(folder, parts)
    indices = range(len(parts)) if wanted is None else wanted
    return all(parts[index].name in held for index in indices) and has_table(
        folder, sum(part.rows for part in parts)
    )


def held_rows(folder: Path, manifest: ShardManifest) -> np.ndarray:
    """Return the number of rows of each shard that a cache holds, 0 for the others `[shape=(shards,)]`."""
    parts = cache_parts(manifest)
    held = held_shards(folder, parts)
    return np.array([part.rows if part.name in held else 0 for part in parts])


def _read_cache(folder: Path, shape: tuple[int, int, int], mode: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the table of a complete cache, and its spectrograms as a memory map of `shape`.

    Raises:
        FileNotFoundError: a file has been deleted or damaged meanwhile; the cache is deleted then.
    """
    try:
        with suppress(OSError):  # only its age in `delete_old_caches` depends on it
            os.utime(folder)
        table = pd.read_parquet(folder / ROWS_NAME)
        return table, np.memmap(folder / MELS_NAME, np.float16, mode, shape=shape)  # type: ignore[call-overload]
    except (OSError, ValueError, pa.ArrowException) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise FileNotFoundError(f"{folder}: {error}") from error
