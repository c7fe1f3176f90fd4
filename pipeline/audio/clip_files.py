"""Files of clips that are no files on disk, read by threads ahead of decoding.

A request to an object store takes milliseconds; a row of a Parquet file is read after the row before it.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pipeline.audio.parquet_rows import read_row
from pipeline.io.concurrent import THREADS, map_concurrently
from pipeline.io.row_location import parse_row
from pipeline.io.storage import is_store_uri, to_path

# Maximum size of the files that are being read or wait to be decoded; a larger one is read alone.
MAX_BYTES_AHEAD = 64 << 20
# Assumed for a file whose size is not in the manifest.
UNKNOWN_BYTES = 4 << 20

Source = TypeVar("Source")


@dataclass(frozen=True)
class FetchedFile:
    """A file of an object store, or one inside a Parquet file, that has been read, or could not be."""

    path: str
    """URI, or location of the row."""
    outcome: bytes | Exception

    @classmethod
    def fetch(cls, path: str) -> FetchedFile:
        """Read the file; an error is raised later, by `read`."""
        try:
            row = parse_row(path)
            return cls(path, to_path(path).read_bytes() if row is None else read_row(row))
        except Exception as error:
            return cls(path, error)

    def read(self) -> bytes:
        """Return the content.

        Raises:
            FileNotFoundError: no such object.
            ValueError: the store cannot have an object of that name, or the row is damaged.
            OSError: the object store cannot be reached.
        """
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class ClipList(Protocol):
    """A list of clips that can be read, such as that of a work unit."""

    @property
    def name(self) -> str:
        """Name that no other list of the job has."""

    def read_clips(self) -> list[dict[str, Any]]:
        """Read the clips, with the columns of the manifest."""


class ClipsAhead:
    """Clips of lists that are not due yet, of which the first files have been read."""

    def __init__(self) -> None:
        self._lists: dict[str, tuple[list[dict[str, Any]], list[str | FetchedFile]]] = {}

    def add(self, unit: ClipList) -> None:
        """Read a list and its first files, up to the number of bytes that may be read ahead.

        Rows of Parquet files are left to when they are due: a damaged one may crash the process.

        Raises:
            OSError: the list cannot be read.
        """
        clips = unit.read_clips()
        files: list[str | FetchedFile] = []
        if clips and is_store_uri(clips[0]["path"]) and not any(is_row(clip["path"]) for clip in clips):
            ends = itertools.accumulate(map(_size, clips))
            count = sum(end <= MAX_BYTES_AHEAD for end in ends)
            files = list(map_concurrently(_source, clips[:count]))
        self._lists[unit.name] = clips, files

    def take(self, unit: ClipList) -> tuple[list[dict[str, Any]], list[str | FetchedFile]]:
        """Return the clips of a list, which is read unless it was added, and the files that have been read.

        Raises:
            OSError: the list cannot be read.
        """
        return self._lists.pop(unit.name) if unit.name in self._lists else (unit.read_clips(), [])


def clip_sources(
    clips: Sequence[dict[str, Any]], ahead: bool = True, first: Sequence[str | FetchedFile] = ()
) -> Generator[str | FetchedFile]:
    """Yield what `load_clip` reads of each clip: its path, or a file that has been read.

    Of a window, which has a `start`, the path or URI is yielded: `read_windows` reads ranges of long objects.

    Args:
        clips: `path` and `size` of each clip, as in the manifest.
        ahead: read files of object stores and rows before they are due; otherwise yield their paths.
        first: files of the first clips, if they have been read already.
    """
    if not ahead or not any(map(_is_fetched, clips)):
        yield from (clip["path"] for clip in clips)
    elif first:
        yield from first
        yield from clip_sources(clips[len(first) :])
    else:
        # Rows are read in their order, each after the row before.
        threads = 1 if any(is_row(clip["path"]) for clip in clips) else THREADS
        yield from map_concurrently(_source, clips, threads, item_bytes=_size, max_bytes=MAX_BYTES_AHEAD)


def with_rows_read(sources: Iterable[Source]) -> Iterator[Source | FetchedFile]:
    """Yield sources, those that are rows of Parquet files after they are read: for threads that decode them.

    Rows are read in their order, each after the row before.
    """
    for source in sources:
        yield FetchedFile.fetch(source) if isinstance(source, str) and is_row(source) else source


def is_row(path: str) -> bool:
    """Return whether a path is the location of a row of a Parquet file."""
    return parse_row(path) is not None


def is_fetched(path: str) -> bool:
    """Return whether a path is no file on disk, so that its content is read first."""
    return is_store_uri(path) or is_row(path)


def _source(clip: dict[str, Any]) -> str | FetchedFile:
    return FetchedFile.fetch(clip["path"]) if _is_fetched(clip) else clip["path"]


def _is_fetched(clip: dict[str, Any]) -> bool:
    return "start" not in clip and is_fetched(clip["path"])


def _size(clip: dict[str, Any]) -> int:
    if not _is_fetched(clip):
        return 0
    return clip["size"] if clip["size"] >= 0 else UNKNOWN_BYTES
