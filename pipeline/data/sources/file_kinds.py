"""Kinds of many files, of which some can only be recognized by their first bytes.

A request for these takes an object store tens of milliseconds, so they are read concurrently.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

from pipeline.audio.file_types import FileKind, kind_by_content, kind_by_name, read_header
from pipeline.io.concurrent import map_concurrently
from pipeline.io.folder_tree import FolderTree
from pipeline.io.storage import is_store_uri

T = TypeVar("T")
# Files whose first bytes may be read before the first of them is due.
MAX_AHEAD = 1024


def file_kinds(tree: FolderTree, files: Iterable[tuple[str, T]]) -> Iterator[tuple[str, T, FileKind]]:
    """Yield files of a tree, each given with some value, and their kinds."""
    source, count = iter(files), 1
    while chunk := list(itertools.islice(source, count)):
        kinds = _unnamed_kinds(tree, [name for name, _ in chunk if kind_by_name(name) is None])
        for name, value in chunk:
            yield name, value, kind_by_name(name) or kinds[name]
        # More and more: who only wants to know whether there is any recording takes the first one.
        count = min(2 * count, MAX_AHEAD)


def _unnamed_kinds(tree: FolderTree, names: list[str]) -> dict[str, FileKind]:
    """Return the kinds of files whose names do not show them."""

    def read(name: str) -> bytes:
        return read_header(tree.path(name))

    is_remote = bool(names) and is_store_uri(tree.path(names[0]))
    headers = map_concurrently(read, names) if is_remote else map(read, names)
    return {name: kind_by_content(name, header) for name, header in zip(names, headers, strict=True)}
