"""Object stores: what melray needs of them.

`obstore_bucket.py` implements it for S3, Google Cloud Storage and Azure, `hub_bucket.py` for the Hugging Face
hub.

Keys are relative to the bucket, without slash at the start and the end. All functions raise `OSError` if a
store cannot be reached, and are safe to call from several threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from mmap import mmap
from typing import NamedTuple, Protocol


class ObjectInfo(NamedTuple):
    """An object, or a folder, which is a common start of keys."""

    key: str
    size: int = 0
    """Bytes."""
    mtime_ns: int = 0
    """Modification time in nanoseconds since 1970; 0 if the store has none."""
    is_folder: bool = False


class ObjectStore(Protocol):
    """A bucket."""

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return the bytes of an object from `start` on, at most `length`.

        Raises:
            FileNotFoundError: no such object.
            ValueError: the store's client cannot address an object of that name.
        """

    def get_end(self, key: str, length: int) -> tuple[bytes, int]:
        """Return the last bytes of an object, at most `length`, and its size; raises as `get`."""

    def put(self, key: str, data: bytes | mmap) -> None:
        """Write or replace an object atomically."""

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one of that name; return whether it was written.

        Of several processes one gets True, except at the same moment in stores without conditional writes.
        """

    def head(self, key: str) -> ObjectInfo | None:
        """Return size and time of an object, None if there is none."""

    def walk(self, folder: str) -> Iterator[ObjectInfo]:
        """Yield all objects below a folder, in any order."""

    def list(self, folder: str) -> Iterator[ObjectInfo]:
        """Yield the objects and folders directly in a folder, in any order."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects.

        Raises:
            FileNotFoundError: some stores only: no such object.
        """

    def copy(self, source: str, target: str) -> None:
        """Copy an object within the bucket."""


def get_end_by_size(store: ObjectStore, uri: str, key: str, length: int) -> tuple[bytes, int]:
    """Return what `ObjectStore.get_end` does, by two requests; `uri` is that of the object, for errors."""
    info = store.head(key)
    if info is None:
        raise FileNotFoundError(f"{uri}: no such object")
    start = max(0, info.size - length)
    return store.get(key, start, info.size - start), info.size


def whole_seconds_ns(time: datetime) -> int:
    """Return a time without fractions of seconds, which stores give in listings but not in headers."""
    return int(time.timestamp()) * 10**9


def one_line(error: Exception) -> str:
    """Return the text of an error without the structure that follows it."""
    return " ".join(str(error).partition("\n\nDebug source")[0].split())
