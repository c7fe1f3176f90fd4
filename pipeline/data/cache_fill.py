"""Filling of a row cache from shards; an interrupted fill continues after the last complete shard.

mels.f16       spectrograms of all rows
rows.part      Arrow streams, one per shard: the other columns, and the digests in its footer
fill.jsonl     a line per complete shard: its name, and length and checksum of its part of both files
rows.parquet   table of all rows; written last, marks the cache as complete

The name of a shard contains a digest of its content, so parts of other shards are never used.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from pipeline.data.row_table import COLUMNS, join_tables, read_complete_shard
from pipeline.data.shards import ShardInfo, ShardManifest, mel_values
from pipeline.io.console import logger

MELS_NAME, ROWS_NAME = "mels.f16", "rows.parquet"
_TABLES_NAME, _LOG_NAME = "rows.part", "fill.jsonl"
_PARTIAL_NAMES = (MELS_NAME, _TABLES_NAME, _LOG_NAME)
_READ_BYTES = 1 << 24

# Number of rows that a cache has so far; None if that is not known or has not changed.
FillSteps = Iterator[int | None]


@dataclass(frozen=True)
class _Part:
    """Name of a complete shard, and number of bytes and CRC-32 of its part of each file."""

    shard: str
    mel_bytes: int
    mel_crc: int
    table_bytes: int
    table_crc: int


def fill_cache(folder: Path, shards: Path, manifest: ShardManifest) -> FillSteps:
    """Write the cache of a dataset to `folder`, and yield after every shard.

    Raises:
        UserError: a missing or damaged shard.
        OSError: the cache cannot be written, such as on a full disk.
    """
    folder.mkdir(exist_ok=True)
    os.utime(folder)  # an old part is in use again
    (folder / ROWS_NAME).unlink(missing_ok=True)
    parts = yield from _keep_intact_parts(folder, manifest)
    rows = sum(shard.rows for shard in manifest.shards[: len(parts)])
    yield rows
    with (
        open(folder / MELS_NAME, "ab") as mels,
        open(folder / _TABLES_NAME, "ab") as tables,
        open(folder / _LOG_NAME, "ab") as log,
    ):
        for shard in manifest.shards[len(parts) :]:
            parts.append(_append_shard(mels, tables, shards, shard, manifest.features.shape))
            log.write(json.dumps(asdict(parts[-1])).encode() + b"\n")
            log.flush()
            rows += shard.rows
            yield rows
    join_tables(_read_tables(folder, parts)).to_parquet(folder / "rows.tmp")
    os.replace(folder / "rows.tmp", folder / ROWS_NAME)
    for name in (_TABLES_NAME, _LOG_NAME):
        (folder / name).unlink(missing_ok=True)


def _append_shard(
    mels: BinaryIO, tables: BinaryIO, shards: Path, shard: ShardInfo, shape: tuple[int, int]
) -> _Part:
    """Append the parts of a shard to both files; return their description."""
    table = read_complete_shard(shards / shard.name, shard.rows)
    mel_data = mel_values(table, shape).reshape(-1).view(np.uint8).data
    columns = table.select(COLUMNS)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, columns.schema) as stream:
        stream.write_table(columns)
    table_data = memoryview(sink.getvalue())
    for file, data in ((mels, mel_data), (tables, table_data)):
        file.write(data)
        file.flush()
    return _Part(shard.name, mel_data.nbytes, zlib.crc32(mel_data), table_data.nbytes, zlib.crc32(table_data))


def _read_tables(folder: Path, parts: Sequence[_Part]) -> list[pa.Table]:
    """Read the tables of all shards."""
    with open(folder / _TABLES_NAME, "rb") as file:
        return [pa.ipc.open_stream(file.read(part.table_bytes)).read_all() for part in parts]


def _keep_intact_parts(folder: Path, manifest: ShardManifest) -> Generator[None, None, list[_Part]]:
    """Verify the parts of an earlier fill; cut off what follows the last intact one; return the intact ones.

    Yields while it reads.
    """
    for name in _PARTIAL_NAMES:
        (folder / name).touch()
    lines = (folder / _LOG_NAME).read_bytes().splitlines(keepends=True)
    parts: list[_Part] = []
    with open(folder / MELS_NAME, "r+b") as mels, open(folder / _TABLES_NAME, "r+b") as tables:
        for line, shard in zip(lines, manifest.shards, strict=False):
            part = _parse(line, shard)
            if part is None or not (yield from _is_intact(mels, tables, part)):
                break
            parts.append(part)
        mels.truncate(sum(part.mel_bytes for part in parts))
        tables.truncate(sum(part.table_bytes for part in parts))
    os.truncate(folder / _LOG_NAME, sum(map(len, lines[: len(parts)])))
    if len(parts) < len(lines):
        logger.warning("%s: damaged after shard %d; its other shards are cached again", folder, len(parts))
    return parts


def _parse(line: bytes, shard: ShardInfo) -> _Part | None:
    """Return the part that a line describes; None if it is cut off or describes another shard."""
    try:
        part = _Part(**json.loads(line)) if line.endswith(b"\n") else None
    except (ValueError, TypeError):
        return None
    return part if part is not None and part.shard == shard.name else None


def _is_intact(mels: BinaryIO, tables: BinaryIO, part: _Part) -> Generator[None, None, bool]:
    """Return whether the next bytes of both files are those of a part; yields while it reads."""
    for file, size, crc in (
        (mels, part.mel_bytes, part.mel_crc),
        (tables, part.table_bytes, part.table_crc),
    ):
        left, value = size, 0
        while left and (data := file.read(min(left, _READ_BYTES))):
            left, value = left - len(data), zlib.crc32(data, value)
            yield
        if left or value != crc:
            return False
    return True
