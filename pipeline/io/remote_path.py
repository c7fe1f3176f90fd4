"""A path on a store, with as much of `pathlib.Path` as melray uses.

A store has no folders to make and no file that is half there: an object appears when its last byte has arrived.
"""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow.fs as fs

from pipeline.io.filesystems import open_filesystem


class RemotePath:
    """A file or folder of a store; equal, ordered and hashed by its text."""

    def __init__(self, scheme: str, key: PurePosixPath, options: str = ""):
        """`key` starts with the bucket; `options` are those of the store's filesystem, as in a URI's query."""
        self._scheme, self._key, self._options = scheme, key, options

    def __str__(self) -> str:
        return f"{self._scheme}://{self._key}" + (f"?{self._options}" if self._options else "")

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __lt__(self, other: RemotePath) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str | PurePosixPath) -> RemotePath:
        return self._with(self._key / name)

    def _with(self, key: PurePosixPath) -> RemotePath:
        return RemotePath(self._scheme, key, self._options)

    @property
    def name(self) -> str:
        return self._key.name

    @property
    def stem(self) -> str:
        return self._key.stem

    @property
    def parent(self) -> RemotePath:
        return self._with(self._key.parent)

    def with_suffix(self, suffix: str) -> RemotePath:
        return self._with(self._key.with_suffix(suffix))

    def with_name(self, name: str) -> RemotePath:
        return self._with(self._key.with_name(name))

    def relative_to(self, other: RemotePath) -> PurePosixPath:
        return self._key.relative_to(other._key)

    @property
    def key(self) -> str:
        """As the store's filesystem names it: `bucket/folder/file`."""
        return str(self._key)

    @property
    def filesystem(self) -> fs.FileSystem:
        """The store's filesystem, one a process."""
        return open_filesystem(self._scheme, self._options)

    def info(self) -> fs.FileInfo:
        """Kind, size and time of what is there."""
        return self.filesystem.get_file_info(self.key)

    def exists(self) -> bool:
        return self.info().type != fs.FileType.NotFound

    def is_file(self) -> bool:
        return self.info().type == fs.FileType.File

    def is_dir(self) -> bool:
        return self.info().type == fs.FileType.Directory

    def open_input(self) -> Any:
        """The file, to be read at any place, as pyarrow's readers take it."""
        with self._missing_told():
            return self.filesystem.open_input_file(self.key)

    def open(self, mode: str = "r", newline: str | None = None, encoding: str = "utf-8") -> IO[Any]:
        """The file, to be read."""
        data = io.BytesIO(self.read_bytes())
        if mode == "rb":
            return data
        if mode == "r":
            return io.TextIOWrapper(data, encoding=encoding, newline=newline)
        raise ValueError(f"{self}: can't be opened with mode {mode!r}; write it whole")

    def read_bytes(self) -> bytes:
        with self.open_input() as file:
            return file.read()

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def write_bytes(self, data: bytes) -> None:
        """Replaces the object in one step."""
        # One write, then close: should a part of it fail, so does the close, and the old object stays.
        stream = self.filesystem.open_output_stream(self.key)
        stream.write(data)
        stream.close()

    def write_text(self, text: str) -> None:
        self.write_bytes(text.encode())

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a folder is there as soon as something lies in it."""

    def unlink(self, missing_ok: bool = False) -> None:
        with suppress(FileNotFoundError) if missing_ok else self._missing_told():
            self.filesystem.delete_file(self.key)

    def remove_tree(self) -> None:
        """Deletes the folder with all in it, if it is there."""
        if self.is_dir():
            # Google's has no folder itself to delete, where nobody made one.
            with suppress(FileNotFoundError):
                self.filesystem.delete_dir(self.key)

    def iterdir(self) -> Iterator[RemotePath]:
        """What lies in the folder itself."""
        return (path for path, _ in self._list(recursive=False))

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """What lies below and fits a pattern of names, `*` and `**`."""
        parts = pattern.split("/")
        for path, _ in self._list(recursive=len(parts) > 1):
            if _fits(path.relative_to(self).parts, parts):
                yield path

    def walk(self) -> Iterator[tuple[RemotePath, fs.FileInfo]]:
        """All files below, however deep, with size and time."""
        return ((path, info) for path, info in self._list(recursive=True) if info.type == fs.FileType.File)

    def _list(self, recursive: bool) -> list[tuple[RemotePath, fs.FileInfo]]:
        if self._scheme == "gs":
            # pyarrow tells there of the files only, and of none that lies deeper.
            found = add_implied_folders(
                self.filesystem.get_file_info(
                    fs.FileSelector(self.key, allow_not_found=True, recursive=True)
                ),
                self._key,
            )
            found = [info for info in found if recursive or PurePosixPath(info.path).parent == self._key]
        else:
            found = self.filesystem.get_file_info(
                fs.FileSelector(self.key, allow_not_found=True, recursive=recursive)
            )
        return sorted(
            ((self._with(PurePosixPath(info.path)), info) for info in found), key=lambda item: item[0]
        )

    @contextmanager
    def _missing_told(self) -> Iterator[None]:
        # Stores have many words for it. To ask beforehand would be one more request for each file.
        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(f"{self}: no such object") from None


def add_implied_folders(found: list[fs.FileInfo], root: PurePosixPath) -> list[fs.FileInfo]:
    """Files below `root`, and the folders that their names imply."""
    files = {info.path: info for info in found if info.type == fs.FileType.File}
    folders = {
        str(folder)
        for path in files
        for folder in PurePosixPath(path).parents
        if folder != root and folder.is_relative_to(root)
    }
    return [*files.values(), *(fs.FileInfo(path, fs.FileType.Directory) for path in folders)]


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**":
        return any(_fits(names[skip:], parts[1:]) for skip in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])
