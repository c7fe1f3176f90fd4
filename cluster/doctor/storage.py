"""Looks at storage: can it be written and read, and how fast."""

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

SIZE = 16 * 2**20
# Below this, reading shards would be what a training waits for.
SLOW = 5.0


class Store(NamedTuple):
    """Writing, reading and deleting one file."""

    write: Callable[[bytes], None]
    read: Callable[[], bytes]
    delete: Callable[[], None]


def check_storage(place: str, open_store: Callable[[str], Store] | None = None) -> Check:
    """Writes a file to a folder or URI, reads it back and deletes it."""
    content = os.urandom(SIZE)
    what = f"storage {place}"
    try:
        store = (open_store or store_at)(place)
        begin = time.monotonic()
        store.write(content)
        written = time.monotonic()
        try:
            same = store.read() == content
            read = time.monotonic()
        finally:
            store.delete()
    except Exception as error:  # each kind of storage has errors of its own
        text = " ".join(str(error).split())[:200] or type(error).__name__
        return fail(
            what,
            text,
            "see that it exists, that its address is right, and that this machine's credentials may write there",
        )
    if not same:
        return fail(what, "what is read is not what was written", "don't use it")
    speeds = [SIZE / 1e6 / max(seconds, 1e-6) for seconds in (written - begin, read - written)]
    found = f"writes {speeds[0]:,.0f} MB/s, reads {speeds[1]:,.0f} MB/s"
    return (
        warn(what, found, "slow: keep shards nearer to the cluster")
        if min(speeds) < SLOW
        else ok(what, found)
    )


def store_at(place: str) -> Store:
    """A new file in a folder, or below a URI such as s3://bucket/folder, reached as all commands reach it.

    Raises:
        ValueError: a URI of another kind.
    """
    folder = unquote(place.removeprefix("file://")) if place.startswith("file://") else place
    path = to_path(Path(folder)) / f".melray-doctor-{uuid.uuid4().hex[:8]}"
    return (
        Store(path.write_bytes, path.read_bytes, path.unlink)
        if isinstance(path, RemotePath)
        else _at_path(path)
    )


def _at_path(path: Path) -> Store:
    def write(content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def read() -> bytes:
        with path.open("rb") as file:
            if hasattr(os, "posix_fadvise"):
                # From the disk, where the system allows it, rather than from memory.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file.read()

    return Store(write, read, lambda: path.unlink(missing_ok=True))
