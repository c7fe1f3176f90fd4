"""Where things lie: on this machine, or on a store such as `s3://bucket/folder`, through pyarrow's filesystems.

A `Place` in settings is a `pathlib.Path`, or a `RemotePath`, which has as much of it as melray uses. A store has no folders to
make and no file that is half there: an object appears when its last byte has arrived.

What a store needs to be reached comes from the usual places (environment, ~/.aws, ~/.config/gcloud, the machine's role), or
stands behind the place: `s3://bucket/folder?endpoint_override=127.0.0.1%3A9000&scheme=http&region=us-east-1`.
"""

from __future__ import annotations

import fnmatch
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any
from urllib.parse import parse_qsl

import pyarrow.fs as fs
from pydantic import AfterValidator, BeforeValidator, PlainSerializer

from pipeline.errors import UserError

SCHEMES = ("s3", "gs")
# Attempts at a request that a store refuses for the time being; they take some seconds in all.
ATTEMPTS = 5
# Seconds in which Google's may be asked again and again.
PATIENCE = 20


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
        return store(self._scheme, self._options)

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
            found = with_folders(self.filesystem.get_file_info(fs.FileSelector(self.key, allow_not_found=True, recursive=True)), self._key)
            found = [info for info in found if recursive or PurePosixPath(info.path).parent == self._key]
        else:
            found = self.filesystem.get_file_info(fs.FileSelector(self.key, allow_not_found=True, recursive=recursive))
        return sorted(((self._with(PurePosixPath(info.path)), info) for info in found), key=lambda item: item[0])

    @contextmanager
    def _missing_told(self) -> Iterator[None]:
        # Stores have many words for it. To ask beforehand would be one more request for each file.
        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(f"{self}: no such object") from None


def with_folders(found: list[fs.FileInfo], root: PurePosixPath) -> list[fs.FileInfo]:
    """Files below `root`, and the folders that their names imply."""
    files = {info.path: info for info in found if info.type == fs.FileType.File}
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents if folder != root and folder.is_relative_to(root)}
    return [*files.values(), *(fs.FileInfo(path, fs.FileType.Directory) for path in folders)]


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**":
        return any(_fits(names[skip:], parts[1:]) for skip in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])


@cache
def store(scheme: str, options: str) -> fs.FileSystem:
    """The filesystem of a store.

    Raises:
        UserError: an option that it doesn't know, or no number where one is needed.
    """
    try:
        return _store(scheme, {name: _option(name, value) for name, value in parse_qsl(options)})
    except (TypeError, ValueError) as error:
        raise UserError(f"{scheme}://…?{options}: {error}; pyarrow's filesystems say what may stand there") from None


def _option(name: str, value: str) -> Any:
    if name.endswith("_timeout"):
        return float(value)
    return {"true": True, "false": False}.get(value, value)


def _store(scheme: str, given: dict[str, Any]) -> fs.FileSystem:
    if scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        if endpoint and "endpoint_override" not in given:
            given["scheme"], _, given["endpoint_override"] = endpoint.partition("://")
        return fs.S3FileSystem(**given, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS))
    # Its own limit is a quarter of an hour.
    return fs.GcsFileSystem(**{"retry_time_limit": timedelta(seconds=PATIENCE), **given})


def as_place(path: Path) -> Any:
    """A path as the user means it: on a store, or, also where a worker stands in another folder, on this machine."""
    # pathlib makes one slash of two.
    found = re.fullmatch(r"([a-z0-9]+):(?:/+([^?]*))?(?:\?(.*))?", str(path))
    if found is None:
        return path.absolute()
    scheme, key, options = found.groups(default="")
    if scheme not in SCHEMES or not key.strip("/"):
        raise ValueError(f"no such kind of storage; known are a path of this machine, {', '.join(f'{s}://bucket/…' for s in SCHEMES)}")
    return RemotePath(scheme, PurePosixPath(key.strip("/")), options)


def _text_of_remote(value: Any) -> Any:
    return str(value) if isinstance(value, RemotePath) else value


# The type says Path, as most are; a RemotePath stands in for one.
Place = Annotated[Path, BeforeValidator(_text_of_remote), AfterValidator(as_place), PlainSerializer(str, return_type=str)]


def is_remote(path: Any) -> bool:
    """Whether a place lies on a store."""
    return isinstance(path, RemotePath)


def readable(path: Path) -> Any:
    """A file as pyarrow reads it from any place."""
    return path.open_input() if isinstance(path, RemotePath) else path


def remove_tree(path: Path) -> None:
    """Deletes a folder with all in it, if it is there."""
    if isinstance(path, RemotePath):
        if path.is_dir():
            # Google's has no folder itself to delete, where nobody made one.
            with suppress(FileNotFoundError):
                path.filesystem.delete_dir(path.key)
    else:
        shutil.rmtree(path, ignore_errors=True)


def copy_tree(source: Path, target: Path, leave_out: Sequence[str] = ()) -> None:
    """Makes `target` the same as the folder `source`, apart from entries with the names `leave_out`.

    On this machine by links, without copying: files are replaced here, never changed.
    """
    if not isinstance(source, RemotePath):
        new = target.with_name(f".{target.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        if source.is_dir():
            shutil.copytree(source, new, copy_function=os.link, ignore=shutil.ignore_patterns(*leave_out))
        else:
            new.mkdir(parents=True)
        shutil.rmtree(target, ignore_errors=True)
        new.rename(target)
        return
    assert isinstance(target, RemotePath)
    remove_tree(target)
    for path, _ in source.walk():
        below = path.relative_to(source)
        if not set(below.parts) & set(leave_out):
            path.filesystem.copy_file(path.key, (target / below).key)


@contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """A file on this machine with the content of `path`, for libraries that read no other."""
    if not isinstance(path, RemotePath):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(path.read_bytes())
        yield copy


def storage_arguments(path: Path) -> dict[str, Any]:
    """Of Ray's `RunConfig`: where it may write."""
    if isinstance(path, RemotePath):
        return {"storage_path": path.key, "storage_filesystem": path.filesystem}
    return {"storage_path": str(path)}


def fetch(source: Any) -> Any:
    """What a file's name in a manifest stands for: the bytes of an object, or the name itself on this machine.

    Raises:
        FileNotFoundError: no such object.
        OSError: when the store can't be asked.
    """
    return as_place(Path(source)).read_bytes() if isinstance(source, str) and on_store(source) else source


def on_store(text: str) -> bool:
    """Whether a place, as written, lies on a store."""
    return text.startswith(tuple(f"{scheme}://" for scheme in SCHEMES))
