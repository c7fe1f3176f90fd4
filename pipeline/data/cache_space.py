"""Disk space of the row caches of a node: checked before a cache is filled; unused caches make way."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.data.cache_fill import cache_parts, held_shards
from pipeline.data.shard_manifest import ShardManifest
from pipeline.io.errors import UserError

# Unused caches are deleted after this time; if space is short, after the shorter one.
MAX_CACHE_AGE_S, MIN_CACHE_AGE_S = 7 * 24 * 3600, 24 * 3600
# Fraction of a cache's size that its table and the file system need in addition.
_OVERHEAD = 0.02


class CacheSpaceError(UserError):
    """Too little disk space for a cache."""


def cache_limit() -> float | None:
    """Return the bytes that the caches of a node may take, `MELRAY_CACHE_GB`; None: all of the disk.

    Raises:
        UserError: not a positive number.
    """
    text = os.environ.get("MELRAY_CACHE_GB")
    if not text:
        return None
    try:
        limit = float(text) * 1e9
    except ValueError:
        limit = -1.0
    if not limit > 0:
        raise UserError(f"MELRAY_CACHE_GB {text}: not a positive number; set it to gigabytes, such as 200")
    return limit


def make_space(folder: Path, shards: Path, manifest: ShardManifest, wanted: Sequence[int]) -> None:
    """Check that the shards `wanted` of a dataset fit into its cache, and delete unused caches if necessary.

    Caches that have not been opened for a day are deleted first, then shards of this dataset that are not
    wanted, such as those of the nodes that a run had before.

    Raises:
        CacheSpaceError: they do not fit.
    """
    if missing_bytes(folder, manifest, wanted) <= available_bytes(folder.parent):
        return
    delete_old_caches(folder.parent, MIN_CACHE_AGE_S, keep=folder.name)
    if missing_bytes(folder, manifest, wanted) <= available_bytes(folder.parent):
        return
    parts = cache_parts(manifest)
    names = {parts[index].name for index in wanted}
    if any(name not in names for name in held_shards(folder, parts)):
        shutil.rmtree(folder, ignore_errors=True)
    needed, available = missing_bytes(folder, manifest, wanted), available_bytes(folder.parent)
    if needed > available:
        raise CacheSpaceError(_describe(folder.parent, shards, needed, available, len(names) < len(parts)))


def fits(folder: Path, manifest: ShardManifest) -> bool:
    """Return whether all shards of a dataset fit into its cache."""
    missing = missing_bytes(folder, manifest, range(len(manifest.shards)))
    return missing <= reclaimable_bytes(folder.parent, [folder.name])


def reclaimable_bytes(caches: Path, digests: Sequence[str]) -> float:
    """Return the space for further caches of the datasets `digests` once unused caches are deleted."""
    unused = [cache for cache in _caches_older_than(caches, MIN_CACHE_AGE_S) if cache.name not in digests]
    return available_bytes(caches) + sum(map(_size, unused))


def available_bytes(caches: Path) -> float:
    """Return the space for further caches in the folder of caches: free on its disk, or left of the limit."""
    free = float(shutil.disk_usage(caches).free)
    limit = cache_limit()
    return free if limit is None else min(free, limit - sum(map(_size, _caches(caches))))


def delete_old_caches(caches: Path, age_s: float = MAX_CACHE_AGE_S, keep: str = "") -> None:
    """Delete the caches that have not been opened for `age_s` seconds, except that named `keep`."""
    for cache in _caches_older_than(caches, age_s, keep):
        shutil.rmtree(cache, ignore_errors=True)


def _caches_older_than(caches: Path, age_s: float, keep: str = "") -> list[Path]:
    return [
        cache for cache in _caches(caches) if cache.name != keep and time.time() - _last_use(cache) > age_s
    ]


def _last_use(cache: Path) -> float:
    """Return when a cache was last opened, in seconds since 1970; now if it was deleted meanwhile."""
    try:
        return cache.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _caches(folder: Path) -> list[Path]:
    """Return the caches in a folder, by their names: `MELRAY_CACHE` may have other content."""
    return [
        entry for entry in folder.iterdir() if re.fullmatch(r"[0-9a-f]{24}", entry.name) and entry.is_dir()
    ]


def missing_bytes(folder: Path, manifest: ShardManifest, wanted: Sequence[int]) -> float:
    """Return the space that the shards `wanted` take which a cache does not hold yet."""
    parts = cache_parts(manifest)
    held = held_shards(folder, parts)
    return (1 + _OVERHEAD) * sum(parts[index].size for index in wanted if parts[index].name not in held)


def _size(cache: Path) -> int:
    """Return the space that a cache takes on the disk; the holes of its sparse file take none."""
    total = 0
    with suppress(FileNotFoundError):  # another process has deleted the cache meanwhile
        for path in cache.iterdir():
            with suppress(OSError):
                total += path.stat().st_blocks * 512
    return total


def _describe(caches: Path, shards: Path, needed: float, available: float, is_share: bool) -> str:
    limit = "of MELRAY_CACHE_GB are left" if cache_limit() is not None else "are free"
    fix = "use more nodes" if is_share else "share the rows among nodes with --data-placement partitioned"
    return (
        f"--shards {shards}: its rows need {_gigabytes(needed)} in {caches} on {socket.gethostname()}, but "
        f"only {_gigabytes(max(0.0, available))} {limit}: {fix}, or set MELRAY_CACHE to a folder on a larger "
        "disk"
    )


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
