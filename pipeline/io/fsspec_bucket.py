"""File systems of fsspec as object stores, such as datasets on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from mmap import mmap
from typing import Any

from pipeline.io.object_store import ObjectInfo, get_end_by_size, one_line, whole_seconds_ns


class FsspecBucket:
    """A file system of fsspec, such as `hf`; keys are whole paths."""

    def __init__(self, filesystem: Any, scheme: str):
        """Create it from a file system whose listings are not cached."""
        self._filesystem, self._scheme = filesystem, scheme

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        end = None if length is None else start + length
        with self._os_errors(key):
            return bytes(self._filesystem.cat_file(key, start=start or None, end=end))

    def get_end(self, key: str, length: int) -> tuple[bytes, int]:
        return get_end_by_size(self, f"{self._scheme}://{key}", key, length)

    def put(self, key: str, data: bytes | mmap) -> None:
        with self._os_errors(key):
            self._filesystem.pipe_file(key, data)

    def create(self, key: str, data: bytes) -> bool:
        # Without a conditional request, two processes that write at the same moment both succeed.
        if self.head(key) is not None:
            return False
        self.put(key, data)
        return True

    def head(self, key: str) -> ObjectInfo | None:
        try:
            with self._os_errors(key):
                info = _from_fsspec(self._filesystem.info(key))
        except FileNotFoundError:
            return None
        return None if info.is_folder else info

    def walk(self, folder: str) -> Iterator[ObjectInfo]:
        with self._os_errors(folder):
            yield from map(_from_fsspec, self._filesystem.find(folder, detail=True).values())

    def list(self, folder: str) -> Iterator[ObjectInfo]:
        try:
            with self._os_errors(folder):
                yield from map(_from_fsspec, self._filesystem.ls(folder, detail=True))
        except FileNotFoundError:
            return

    def delete(self, keys: Sequence[str]) -> None:
        with self._os_errors(keys[0] if keys else ""):
            self._filesystem.rm(list(keys))

    def copy(self, source: str, target: str) -> None:
        with self._os_errors(source):
            self._filesystem.cp_file(source, target)

    @contextmanager
    def _os_errors(self, key: str) -> Iterator[None]:
        """Convert errors of a file system's client, each with classes of its own, into `OSError`."""
        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(f"{self._scheme}://{key}: no such object") from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise OSError(one_line(error)) from None
        except (GeneratorExit, KeyboardInterrupt):
            raise
        except Exception as error:
            raise OSError(f"{type(error).__name__}: {one_line(error)}") from None


def _from_fsspec(info: dict[str, Any]) -> ObjectInfo:
    """Return an entry of fsspec; the id of its content stands for a modification time that is missing."""
    mtime = info.get("mtime") or info.get("LastModified") or info.get("last_modified") or info.get("created")
    nanoseconds = whole_seconds_ns(mtime) if isinstance(mtime, datetime) else round((mtime or 0) * 1e9)
    if not nanoseconds and (content_id := info.get("blob_id")):
        nanoseconds = int(str(content_id)[:15], 16)
    name = str(info["name"]).strip("/")
    return ObjectInfo(name, info.get("size") or 0, nanoseconds, info["type"] == "directory")


def fsspec_bucket(scheme: str) -> FsspecBucket:
    """Return the file system of a scheme of fsspec.

    Raises:
        ImportError: its package is not installed.
    """
    import fsspec

    return FsspecBucket(fsspec.filesystem(scheme, use_listings_cache=False), scheme)
