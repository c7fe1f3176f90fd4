"""Listing of large folders in object stores.

A listing gives a thousand objects per request, each of which has to wait for the one before. So the folders
in a large folder are listed concurrently.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pipeline.io.concurrent import THREADS, map_concurrently
from pipeline.io.object_store import ObjectInfo
from pipeline.io.remote_path import RemotePath

# Objects that are listed before it is clear that a folder is large.
FIRST_OBJECTS = 20_000
# Levels of folders that are listed to find enough of them, and folders of which each is a request at least.
MAX_LEVELS, MAX_FOLDERS = 3, 5000


def list_objects(root: RemotePath) -> Iterator[tuple[str, ObjectInfo]]:
    """Yield all objects below a folder, each with its path below it, in any order.

    Raises:
        OSError: the object store cannot be reached.
    """
    scan = root.scan()
    first = dict(itertools.islice(scan, FIRST_OBJECTS))
    yield from first.items()
    if len(first) < FIRST_OBJECTS:
        return
    files, folders = _split(root)
    if len(folders) > MAX_FOLDERS:
        yield from scan
        return
    listings = map_concurrently(lambda folder: [(folder, *item) for item in folder.scan()], folders)
    below = ((folder / name, info) for listing in listings for folder, name, info in listing)
    start = len(root.key) + 1
    for path, info in itertools.chain(files, below):
        if path.key[start:] not in first:
            yield path.key[start:], info


def _split(root: RemotePath) -> tuple[list[tuple[RemotePath, ObjectInfo]], list[RemotePath]]:
    """Return folders that have all objects below `root`, except some files, and these.

    At least the number of folders that can be listed concurrently, if the first levels have them.
    """
    files: list[tuple[RemotePath, ObjectInfo]] = []
    folders = [root]
    for _ in range(MAX_LEVELS):
        if len(folders) >= THREADS:
            break
        children = [
            child
            for listing in map_concurrently(lambda folder: list(folder.children(with_markers=True)), folders)
            for child in listing
        ]
        files += [(path, info) for path, info in children if not info.is_folder]
        folders = [path for path, info in children if info.is_folder]
    return files, folders
