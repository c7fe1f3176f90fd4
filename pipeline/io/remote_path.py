"""Paths in an object store, with the subset of `pathlib.Path` that melray uses.

An object store has no folders to create and no partially written files: an object appears when its upload is
complete.
"""

from __future__ import annotations

import fnmatch
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow.fs as fs

from pipeline.io.filesystems import open_filesystem
from pipeline.io.transient_errors import repeat_transient

# Options of a filesystem at the end of a URI. Keys may contain question marks too, so that options need the
# form `name=value`; without options, a final question mark shows that the text before it is the key.
_OPTIONS = re.compile(r"\?((?:[A-Za-z_]+=[^?&]*(?:&[A-Za-z_]+=[^?&]*)*)?)\Z")


def repeat_small_read(read: Callable[[], Any]) -> Any:
    """Return the result of a read that may request a few bytes only, repeated up to four times.

    The body of an error response does not fit into the buffer of so few bytes: the AWS client then reports
    that instead of repeating the request.
    """
    return repeat_transient(read, (0.0,) * 4, lambda error: "Failed to flush response stream" in str(error))


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
    def parent(self) -> RemotePath:
        return self.with_key(self._key.rpartition("/")[0])

    def with_suffix(self, suffix: str) -> RemotePath:
        return self.with_name(PurePosixPath(self.name).with_suffix(suffix).name)

    def with_name(self, name: str) -> RemotePath:
        return self.parent / name

    def relative_to(self, other: RemotePath) -> PurePosixPath:
        return PurePosixPath(self._key).relative_to(other._key)

    @property
    def key(self) -> str:
        """Path for the pyarrow filesystem: `bucket/folder/file`."""
        return self._key

    @property
    def _has_empty_part(self) -> bool:
        return "//" in self._key

    @property
    def filesystem(self) -> fs.FileSystem:
        """Filesystem of the object store, one per process."""
        return open_filesystem(self._scheme, self._options)

    def info(self) -> fs.FileInfo:
        """Return type, size and modification time."""
        if self._has_empty_part:
            return fs.FileInfo(self.key, fs.FileType.NotFound)
        return self.filesystem.get_file_info(self.key)

    def exists(self) -> bool:
        return self.info().type != fs.FileType.NotFound

    def is_file(self) -> bool:
        return self.info().type == fs.FileType.File

    def is_dir(self) -> bool:
        return self.info().type == fs.FileType.Directory

    def open_input(self) -> Any:
        """Open for random access, as pyarrow readers need it.

        Raises:
            FileNotFoundError: no such object.
            ValueError: pyarrow cannot read an object of that name.
            OSError: the object store cannot be reached.
        """
        if self._has_empty_part:
            raise ValueError("pyarrow cannot read objects with '//' in their key; rename it")
        with self._plain_not_found_errors():
            return self.filesystem.open_input_file(self.key)

    def open(self, mode: str = "r", newline: str | None = None, encoding: str = "utf-8") -> IO[Any]:
        """Open for reading, in mode `r` or `rb`."""
        data = io.BytesIO(self.read_bytes())
        if mode == "rb":
            return data
        if mode == "r":
            return io.TextIOWrapper(data, encoding=encoding, newline=newline)
        raise ValueError(f"{self}: cannot be opened with mode {mode!r}; use write_bytes")

    def read_bytes(self) -> bytes:
        return self.read_start()

    def read_start(self, size: int | None = None) -> bytes:
        """Return the first bytes of the object, or all of them."""

        def read() -> bytes:
            with self.open_input() as file:
                return file.read(size)

        return repeat_small_read(read)

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> None:
        """Write or replace the object atomically."""
        # One write, then close: if any request fails, close fails too and the old object remains.
        stream = self.filesystem.open_output_stream(self.key)
        stream.write(data)
        stream.close()

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        self.write_bytes(text.encode(encoding))

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: object stores have no folders."""

    def unlink(self, missing_ok: bool = False) -> None:
        with suppress(FileNotFoundError) if missing_ok else self._plain_not_found_errors():
            self.filesystem.delete_file(self.key)

    def remove_tree(self) -> None:
        """Delete the folder recursively, if it exists."""
        if self.is_dir():
            # Google Cloud Storage has no folder object to delete unless one was created.
            with suppress(FileNotFoundError):
                self.filesystem.delete_dir(self.key)

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield the direct children of the folder."""
        return (path for path, _ in self._list(recursive=False))

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield the descendants that match a pattern of names, `*` and `**`."""
        patterns = pattern.split("/")
        for path, _ in self._list(recursive=len(patterns) > 1):
            if _matches(path.relative_to(self).parts, patterns):
                yield path

    def walk(self) -> Iterator[tuple[RemotePath, fs.FileInfo]]:
        """Yield all files recursively, with size and modification time."""
        return ((path, info) for path, info in self._list(recursive=True) if info.type == fs.FileType.File)

    def _list(self, recursive: bool) -> list[tuple[RemotePath, fs.FileInfo]]:
        if self._scheme == "gs":
            # For this scheme pyarrow lists files only, and no folders that contain only folders.
            root = PurePosixPath(self._key)
            infos = add_implied_folders(self._file_infos(recursive=True), root)
            infos = [info for info in infos if recursive or PurePosixPath(info.path).parent == root]
        else:
            infos = self._file_infos(recursive)
        return sorted(((self.with_key(info.path), info) for info in infos), key=lambda item: item[0])

    def _file_infos(self, recursive: bool) -> list[fs.FileInfo]:
        selector = fs.FileSelector(self.key, allow_not_found=True, recursive=recursive)
        return self.filesystem.get_file_info(selector)

    @contextmanager
    def _plain_not_found_errors(self) -> Iterator[None]:
        # Error texts differ between object stores; checking first would cost a request per file.
        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(f"{self}: no such object") from None


def parse_uri(text: str) -> tuple[str, str, str] | None:
    """Split a URI into scheme, `bucket/key` and options; None if the text is not a URI.

    One slash after the scheme is enough: pathlib replaces the double slash by a single one.
    """
    match = re.fullmatch(r"([a-z0-9]+):(?:/+(.*))?", text, re.DOTALL)
    if match is None:
        return None
    scheme, rest = match.groups(default="")
    options = _OPTIONS.search(rest)
    return (scheme, rest, "") if options is None else (scheme, rest[: options.start()], options[1])


def add_implied_folders(infos: list[fs.FileInfo], root: PurePosixPath) -> list[fs.FileInfo]:
    """Return the files below `root` and the folders that their paths imply."""
    files = {info.path: info for info in infos if info.type == fs.FileType.File}
    folders = {
        str(folder)
        for path in files
        for folder in PurePosixPath(path).parents
        if folder != root and folder.is_relative_to(root)
    }
    return [*files.values(), *(fs.FileInfo(path, fs.FileType.Directory) for path in folders)]


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return whether the names of a path match one pattern each; `**` matches any number of names."""
    if not patterns:
        return not names
    if patterns[0] == "**":
        return any(_matches(names[skip:], patterns[1:]) for skip in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], patterns[0]) and _matches(names[1:], patterns[1:])
