"""Check of storage: write, read back and delete a file, and measure the throughput."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from cluster.doctor.check import Check, fail, ok, warn
from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import to_path

TEST_BYTES = 16 * 2**20
# Below this throughput, a training run would wait for its shards.
MIN_MB_PER_S = 5.0


class FileAccess(NamedTuple):
    """Functions that write, read and delete one file."""

    write: Callable[[bytes], None]
    read: Callable[[], bytes]
    delete: Callable[[], None]


def check_storage(location: str, open_file: Callable[[str], FileAccess] | None = None) -> Check:
    """Write a file to a folder or URI, read it back and delete it."""
    content = os.urandom(TEST_BYTES)
    name = f"storage {location}"
    try:
        file = (open_file or file_in)(location)
        start = time.monotonic()
        file.write(content)
        written = time.monotonic()
        try:
            is_same = file.read() == content
            read = time.monotonic()
        finally:
            file.delete()
    except Exception as error:  # each kind of storage has its own error classes
        text = " ".join(str(error).split())[:200] or type(error).__name__
        return fail(name, text, "check that it exists and that this host's credentials can write to it")
    if not is_same:
        return fail(name, "read back different data", "use other storage")
    write_speed, read_speed = (
        TEST_BYTES / 1e6 / max(seconds, 1e-6) for seconds in (written - start, read - written)
    )
    text = f"writes {write_speed:,.0f} MB/s, reads {read_speed:,.0f} MB/s"
    if min(write_speed, read_speed) < MIN_MB_PER_S:
        return warn(name, text, "slow: move shards closer to the cluster")
    return ok(name, text)


def file_in(location: str) -> FileAccess:
    """Return access to a new file in a folder or URI such as s3://bucket/folder, as commands access it.

    Raises:
        ValueError: unsupported URI scheme.
    """
    folder = unquote(location.removeprefix("file://")) if location.startswith("file://") else location
    path = to_path(Path(folder)) / f".melray-doctor-{uuid.uuid4().hex[:8]}"
    if isinstance(path, RemotePath):
        return FileAccess(path.write_bytes, path.read_bytes, path.unlink)
    return _local_file(path)


def _local_file(path: Path) -> FileAccess:
    def write(content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def read() -> bytes:
        with path.open("rb") as file:
            if hasattr(os, "posix_fadvise"):
                # Read from the disk, not from the page cache.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file.read()

    return FileAccess(write, read, lambda: path.unlink(missing_ok=True))
