"""Lists of the clips of a job, of which workers read a unit at a time: one request to an object store.

A file is a sequence of Arrow streams, one per unit. Large jobs have several files, so that the driver holds
none of millions of clips.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.io.concurrent import map_concurrently
from pipeline.io.files import write_atomically
from pipeline.io.remote_path import RemotePath

# Size of a file, and how many are written concurrently; each is in memory meanwhile.
FILE_BYTES, FILE_THREADS = 8 << 20, 4
# Fast to write, and a third of the size: names of clips and folders repeat.
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


class ByteRange(NamedTuple):
    """Position of a unit's clips in the list."""

    start: int
    size: int


def write_clip_lists(
    table: pa.Table, clips_per_unit: int, folder: Path, plan: str
) -> list[tuple[str, ByteRange]]:
    """Write the clips of all units; return the file of the clips of each unit, and where they are in it.

    `plan` is a digest of the plan, for the names of the files: clips of another plan are never read.

    Raises:
        OSError: a list cannot be written.
    """
    positions: list[tuple[str, ByteRange]] = []

    def write(file: tuple[str, bytes]) -> None:
        name, data = file
        write_atomically(folder / name, lambda target: target.write(data))

    files = _list_files(table, clips_per_unit, f".units-{plan}", positions)
    for _ in map_concurrently(write, files, threads=FILE_THREADS, ahead=FILE_THREADS):
        pass
    return positions


def _list_files(
    table: pa.Table, clips_per_unit: int, name: str, positions: list[tuple[str, ByteRange]]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file; append where the clips of each unit are to `positions`."""
    number, buffer = 0, io.BytesIO()
    for first in range(0, len(table), clips_per_unit):
        start, file_name = buffer.tell(), f"{name}-{number}.arrow"
        with pa.ipc.new_stream(buffer, table.schema, options=_OPTIONS) as writer:
            writer.write_table(table.slice(first, clips_per_unit))
        positions.append((file_name, ByteRange(start, buffer.tell() - start)))
        if buffer.tell() >= FILE_BYTES:
            yield file_name, buffer.getvalue()
            number, buffer = number + 1, io.BytesIO()
    if buffer.tell():
        yield f"{name}-{number}.arrow", buffer.getvalue()


def read_clips(path: Path, position: ByteRange) -> list[dict[str, Any]]:
    """Read the clips of a unit.

    Raises:
        OSError: the list cannot be read.
    """
    return pa.ipc.open_stream(_read_range(path, *position)).read_all().to_pylist()


# An attempt reads the clips while it reads the record of the attempt before, and again in its first stage;
# those of the next unit may be read in between.
@lru_cache(maxsize=2)
def _read_range(path: Path, start: int, size: int) -> bytes:
    if isinstance(path, RemotePath):
        return path.read_range(start, size)
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def read_clip_ids(path: Path) -> list[str]:
    """Read the ids of all clips of a list.

    Raises:
        OSError, pa.ArrowException, KeyError: it cannot be read, or is none.
    """
    data = path.read_bytes()
    reader, ids = pa.BufferReader(data), []
    while reader.tell() < len(data):
        ids += pa.ipc.open_stream(reader).read_all()["clip_id"].to_pylist()
    return ids
