"""Filling of a row cache from shards, concurrently; an interrupted fill continues with the missing shards.

mels.f16       spectrograms of all rows, each at its position; a sparse file: shards that this node does not
               hold take no space
rows.parquet   table of all rows
fill.jsonl     a line per shard that is held: its name, and the checksum of its spectrograms; always written
               after these, so a later change of `mels.f16` is noticed by its time

The name of a shard contains a digest of its content, so parts of other shards are never used.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.row_table import join_tables, read_complete_shard, read_tables
from pipeline.data.shard_manifest import ShardManifest
from pipeline.data.shards import mel_values
from pipeline.io.concurrent import map_concurrently
from pipeline.io.console import logger
from pipeline.io.storage import is_remote
from pipeline.io.text import plural

MELS_NAME, ROWS_NAME, LOG_NAME = "mels.f16", "rows.parquet", "fill.jsonl"
# Shards that are unpacked concurrently, if the memory for them allows; each is in memory about three times:
# compressed, decompressed and as a column.
MAX_THREADS, MAX_MEMORY, COPIES_IN_MEMORY = 16, 1 << 30, 3
_READ_BYTES = 1 << 24

# Number of rows that a cache has so far; None if that is not known or has not changed.
FillSteps = Iterator[int | None]


class Part(NamedTuple):
    """Part of `mels.f16` with the spectrograms of a shard."""

    name: str
    rows: int
    start: int
    """First byte."""
    size: int
    """Number of bytes."""


def cache_parts(manifest: ShardManifest) -> list[Part]:
    """Return the part of each shard of a dataset, in order."""
    width = 2 * int(np.prod(manifest.features.shape))
    ends = np.cumsum([width * shard.rows for shard in manifest.shards]).tolist()
    return [
        Part(shard.name, shard.rows, end - width * shard.rows, width * shard.rows)
        for shard, end in zip(manifest.shards, ends, strict=True)
    ]


def held_shards(folder: Path, parts: Sequence[Part]) -> dict[str, int]:
    """Return the checksum of each shard that a cache holds; none if its file was changed meanwhile."""
    try:
        mels, log = (folder / MELS_NAME).stat(), (folder / LOG_NAME).stat()
    except OSError:
        return {}
    if mels.st_size != parts[-1].start + parts[-1].size or mels.st_mtime_ns > log.st_mtime_ns:
        return {}
    return _read_log(folder, parts)


def has_table(folder: Path, rows: int) -> bool:
    """Return whether a cache has the table of all rows."""
    try:
        return int(pq.read_metadata(folder / ROWS_NAME).num_rows) == rows
    except (OSError, pa.ArrowException):
        return False


def fill_cache(folder: Path, shards: Path, manifest: ShardManifest, wanted: Sequence[int]) -> FillSteps:
    """Write the table of a dataset and the spectrograms of some shards to `folder`; yield after each shard.

    Args:
        folder: folder of the cache, which may hold other shards of the dataset; they are kept.
        shards: folder of the dataset.
        manifest: its manifest.
        wanted: indices of the shards.

    Raises:
        UserError: a missing or damaged shard.
        OSError: the cache cannot be written, such as on a full disk.
    """
    folder.mkdir(exist_ok=True)
    os.utime(folder)  # an old part is in use again
    if not has_table(folder, sum(shard.rows for shard in manifest.shards)):
        yield from _write_table(folder, shards, manifest)
    parts = cache_parts(manifest)
    held = held_shards(folder, parts) or (yield from _verify(folder, parts))
    missing = [parts[index] for index in wanted if parts[index].name not in held]
    rows = sum(parts[index].rows for index in wanted) - sum(part.rows for part in missing)
    yield rows
    with open(folder / MELS_NAME, "r+b") as mels, open(folder / LOG_NAME, "ab") as log:
        log.write(b"\n")  # the last line may be cut off
        copy = partial(_copy_shard, mels.fileno(), shards, shape=manifest.features.shape)
        # One per core: unpacking computes. An object store needs more, for its latency.
        threads = MAX_THREADS if is_remote(shards) else min(MAX_THREADS, os.cpu_count() or 1)
        checksums = map_concurrently(
            copy,
            missing,
            threads,
            threads,
            item_bytes=lambda part: COPIES_IN_MEMORY * part.size,
            max_bytes=MAX_MEMORY,
        )
        # Closed before the file, to which the threads write.
        with closing(checksums):
            for part, checksum in zip(missing, checksums, strict=True):
                log.write(_log_line(part.name, checksum))
                log.flush()
                rows += part.rows
                yield rows


def _write_table(folder: Path, shards: Path, manifest: ShardManifest) -> FillSteps:
    """Write the table of all rows; yield after each shard."""
    tables = []
    for table in read_tables(shards, manifest):
        tables.append(table)
        yield None
    join_tables(tables).to_parquet(folder / "rows.tmp")
    os.replace(folder / "rows.tmp", folder / ROWS_NAME)


def _copy_shard(file: int, shards: Path, part: Part, shape: tuple[int, int]) -> int:
    """Copy the spectrograms of a shard to its position in an open file; return their checksum."""
    table = read_complete_shard(shards / part.name, part.rows, ["mel"])
    data = mel_values(table, shape).reshape(-1).view(np.uint8).data
    written = 0
    while written < part.size:  # a write is limited to 2 GiB
        written += os.pwrite(file, data[written:], part.start + written)
    return zlib.crc32(data)


def _verify(folder: Path, parts: Sequence[Part]) -> Generator[None, None, dict[str, int]]:
    """Set the size of the file; check what it holds, keep a log of the intact shards, and return that.

    Yields while it reads.
    """
    for name in (MELS_NAME, LOG_NAME):
        (folder / name).touch()
    logged, intact = _read_log(folder, parts), {}
    with open(folder / MELS_NAME, "r+b") as mels:
        for part in parts:
            if part.name in logged and (yield from _checksum(mels.fileno(), part)) == logged[part.name]:
                intact[part.name] = logged[part.name]
        mels.truncate(parts[-1].start + parts[-1].size)
    if damaged := len(logged) - len(intact):
        logger.warning("%s: %s damaged; cached again", folder, plural(damaged, "shard"))
    temporary = folder / "fill.tmp"
    temporary.write_bytes(b"".join(_log_line(*line) for line in intact.items()))
    os.replace(temporary, folder / LOG_NAME)
    return intact


def _checksum(file: int, part: Part) -> Generator[None, None, int | None]:
    """Return the checksum of a part of a file; None if the file is too short. Yields while it reads."""
    checksum, position, end = 0, part.start, part.start + part.size
    while position < end:
        data = os.pread(file, min(_READ_BYTES, end - position), position)
        if not data:
            return None
        checksum, position = zlib.crc32(data, checksum), position + len(data)
        yield
    return checksum


def _log_line(name: str, checksum: int) -> bytes:
    return json.dumps({"shard": name, "crc32": checksum}).encode() + b"\n"


def _read_log(folder: Path, parts: Sequence[Part]) -> dict[str, int]:
    """Return the checksums in a log; lines that are cut off, or of other datasets, are ignored."""
    names, checksums = {part.name for part in parts}, {}
    try:
        lines = (folder / LOG_NAME).read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    for line in lines:
        try:
            values = json.loads(line)
            name, checksum = values["shard"], values["crc32"]
        except (ValueError, TypeError, KeyError):
            continue
        if name in names and isinstance(checksum, int):
            checksums[name] = checksum
    return checksums
