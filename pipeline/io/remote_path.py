"""Paths in an object store, with the subset of `pathlib.Path` that melray uses.

An object store has no folders to create and no partially written files: an object appears when its upload is
complete.
"""

from __future__ import annotations

import fnmatch
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from mmap import mmap
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO

from pipeline.io.folder_markers import add_implied_folders, without_folder_markers
from pipeline.io.hub_bucket import split_hub_key
from pipeline.io.object_store import ObjectInfo, ObjectStore
from pipeline.io.range_reader import open_range_reader
from pipeline.io.store_connections import open_bucket

# Objects that one request deletes.
_DELETE_COUNT = 1000

# Options of a connection at the end of a URI. Keys may contain question marks too, so that options need the
# form `name=value`; without options, a final question mark shows that the text before it is the key.
_OPTIONS = re.compile(r"\?((?:[A-Za-z_]+=[^?&]*(?:&[A-Za-z_]+=[^?&]*)*)?)\Z")


class RemotePath:
    """File or folder in an object store; equal and hashed by its URI, ordered by its key."""

    def __init__(self, scheme: str, key: str, options: str = ""):
        """Create a path from `bucket/key` and the options of its filesystem in URI query syntax."""
        self._scheme, self._key, self._options = scheme, key, options

    def __str__(self) -> str:
        needs_mark = self._options or _OPTIONS.search(self._key)
        return f"{self._scheme}://{self._key}" + (f"?{self._options}" if needs_mark else "")

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __lt__(self, other: RemotePath) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str | PurePosixPath) -> RemotePath:
        return self.with_key(f"{self._key}/{name}")

    def with_key(self, key: str) -> RemotePath:
        """Return another path in the same object store, given as `bucket/key`."""
        return RemotePath(self._scheme, key, self._options)

    @property
    def name(self) -> str:
        return self._key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        return self.with_key(self._key.rpartition("/")[0])

    def with_suffix(self, suffix: str) -> RemotePath:
        return self.with_name(PurePosixPath(self.name).with_suffix(suffix).name)

    def with_name(self, name: str) -> RemotePath:
        return self.parent / name

    def relative_to(self, other: RemotePath) -> PurePosixPath:
        return PurePosixPath(self._key).relative_to(other._key)

    def is_relative_to(self, other: RemotePath) -> bool:
        """Return whether the path is `other` or in it."""
        return self._scheme == other._scheme and PurePosixPath(self._key).is_relative_to(other._key)

    @property
    def key(self) -> str:
        """`bucket/folder/file`."""
        return self._key

    @property
    def scheme(self) -> str:
        """Scheme of the URI, such as `s3`."""
        return self._scheme

    @property
    def options(self) -> str:
        """Options of the connection in URI query syntax; empty for most."""
        return self._options

    @property
    def is_in_bucket(self) -> bool:
        """Whether the path is a bucket or below one, which parents of a path may not be."""
        return bool(self._parts[0])

    @property
    def _parts(self) -> tuple[str, str]:
        """Name of the bucket, and the key in it."""
        if self._scheme == "hf":
            return split_hub_key(self._key)
        bucket, _, key = self._key.partition("/")
        return bucket, key

    def without_options(self) -> str:
        """Return the URI without options: equal for all endpoints at which the object can be reached."""
        return f"{self._scheme}://{self._key}"

    @property
    def _bucket(self) -> tuple[ObjectStore, str]:
        """The bucket, and the key in it."""
        bucket, key = self._parts
        return open_bucket(self._scheme, bucket, self._options), key

    def info(self) -> ObjectInfo | None:
        """Return size and modification time; None if there is no such object."""
        store, key = self._bucket
        return store.head(key) if key else None

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        return self.info() is not None

    def is_dir(self) -> bool:
        store, key = self._bucket
        return any(True for _ in store.list(key))

    def open_input(self) -> BinaryIO:
        """Open for random access; the end, where file formats have their index, is read first.

        Raises:
            FileNotFoundError: no such object.
            ValueError: objects of that name cannot be read.
            OSError: the object store cannot be reached.
        """
        store, key = self._bucket
        return open_range_reader(store, key)

    def open(self, mode: str = "r", newline: str | None = None, encoding: str = "utf-8") -> IO[Any]:
        """Open for reading, in mode `r` or `rb`."""
        data = io.BytesIO(self.read_bytes())
        if mode == "rb":
            return data
        if mode == "r":
            return io.TextIOWrapper(data, encoding=encoding, newline=newline)
        raise ValueError(f"{self}: cannot be opened with mode {mode!r}; use write_bytes")

    def read_bytes(self) -> bytes:
        return self.read_range()

    def read_start(self, size: int) -> bytes:
        """Return the first bytes of the object, at most `size`."""
        return self.read_range(0, size)

    def read_range(self, start: int = 0, length: int | None = None) -> bytes:
        """Return the bytes of the object from `start` on, at most `length`, by one request.

        Raises:
            FileNotFoundError: no such object.
            ValueError: objects of that name cannot be read.
            OSError: the object store cannot be reached.
        """
        store, key = self._bucket
        return store.get(key, start, length)

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes | mmap) -> None:
        """Write or replace the object atomically."""
        store, key = self._bucket
        store.put(key, data)

    def create(self, data: bytes) -> bool:
        """Write the object unless it exists; of several processes, one gets True."""
        store, key = self._bucket
        return store.create(key, data)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        self.write_bytes(text.encode(encoding))

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: object stores have no folders."""

    def unlink(self, missing_ok: bool = False) -> None:
        store, key = self._bucket
        with suppress(FileNotFoundError) if missing_ok else nullcontext():
            store.delete([key])

    def remove_tree(self) -> None:
        """Delete the folder recursively, if it exists."""
        store, key = self._bucket
        _delete(store, [info.key for info in store.walk(key)])

    def remove_objects(self, paths: Iterable[RemotePath]) -> None:
        """Delete objects of the same bucket, as far as they exist."""
        _delete(self._bucket[0], [path._parts[1] for path in paths])

    def copy_to(self, target: RemotePath) -> None:
        """Copy the object to a path in the same bucket, without reading it."""
        store, key = self._bucket
        store.copy(key, target._bucket[1])

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield the direct children of the folder, sorted."""
        return (path for path, _ in self.children())

    def children(self, with_markers: bool = False) -> Iterator[tuple[RemotePath, ObjectInfo]]:
        """Yield the direct children of the folder, sorted, with size and modification time of files.

        `with_markers`: also objects that stand for folders.
        """
        store, key = self._bucket
        infos = store.list(key)
        return self._sorted(infos if with_markers else without_folder_markers(infos))

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield the descendants that match a pattern of names, `*` and `**`, sorted."""
        patterns = pattern.split("/")
        store, key = self._bucket
        if len(patterns) == 1:
            infos = without_folder_markers(store.list(key))
        else:
            infos = add_implied_folders(list(store.walk(key)), key)
        for path, _ in self._sorted(infos):
            if _matches(path.relative_to(self).parts, patterns):
                yield path

    def walk(self) -> Iterator[tuple[RemotePath, ObjectInfo]]:
        """Yield all files recursively, sorted, with size and modification time."""
        store, key = self._bucket
        return self._sorted(without_folder_markers(store.walk(key)))

    def scan(self) -> Iterator[tuple[str, ObjectInfo]]:
        """Yield all objects below the folder while they are being listed, each with its path below it."""
        store, key = self._bucket
        start = len(key) + 1 if key else 0
        return ((info.key[start:], info) for info in store.walk(key))

    def _sorted(self, infos: Iterable[ObjectInfo]) -> Iterator[tuple[RemotePath, ObjectInfo]]:
        bucket = self._parts[0]
        for info in sorted(infos):
            yield self.with_key(f"{bucket}/{info.key}"), info


def _delete(store: ObjectStore, keys: Sequence[str]) -> None:
    for start in range(0, len(keys), _DELETE_COUNT):
        try:
            store.delete(keys[start : start + _DELETE_COUNT])
        except FileNotFoundError:
            # Stores without requests for several objects stop at the first that is missing.
            for key in keys[start : start + _DELETE_COUNT]:
                with suppress(FileNotFoundError):
                    store.delete([key])


def parse_uri(text: str) -> tuple[str, str, str] | None:
    """Split a URI into scheme in lowercase, `bucket/key` and options; None if the text is not a URI.

    One slash after the scheme is enough: pathlib replaces the double slash by a single one.
    """
    match = re.fullmatch(r"([A-Za-z0-9]+):(?:/+(.*))?", text, re.DOTALL)
    if match is None:
        return None
    scheme, rest = match[1].lower(), match[2] or ""
    options = _OPTIONS.search(rest)
    return (scheme, rest, "") if options is None else (scheme, rest[: options.start()], options[1])


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return whether the names of a path match one pattern each; `**` matches any number of names."""
    if not patterns:
        return not names
    if patterns[0] == "**":
        return any(_matches(names[skip:], patterns[1:]) for skip in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], patterns[0]) and _matches(names[1:], patterns[1:])
