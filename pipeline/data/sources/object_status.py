"""Size and time of the objects that a table names: a request for each takes tens of milliseconds.

Folders of which a table names many objects are listed, a thousand objects per request; folders with few of
them are listed together with their neighbors. Where the listing of a folder turns out to be long, since most
of its objects are not in the table, and for single objects, each object is requested, many concurrently.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.io.concurrent import map_concurrently
from pipeline.io.folder_tree import MISSING, FileStatus
from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import to_path

# Rows from which a folder is listed: a list costs the time of one request, and the money of twelve.
MIN_ROWS = 8
# Listed objects per row from which single requests, of which many are concurrent, are as fast.
OBJECTS_PER_ROW = 32
# Objects that the first request lists.
PAGE_OBJECTS = 1000
NOT_FOUND = FileStatus(MISSING, 0)


@dataclass(frozen=True)
class _Listing:
    """Objects below a folder, as arrays: names would take ten times the memory."""

    hashes: np.ndarray
    """Hashes of the paths below the folder, sorted."""
    sizes: np.ndarray
    mtimes_ns: np.ndarray

    def status(self, name: str) -> FileStatus:
        value = hash(name)
        index = int(np.searchsorted(self.hashes, value))
        if index == len(self.hashes) or self.hashes[index] != value:
            return NOT_FOUND
        return FileStatus(int(self.sizes[index]), int(self.mtimes_ns[index]))


class ObjectStatuses:
    """Sizes and times of objects, requested together before they are needed."""

    def __init__(self) -> None:
        self._listings: dict[RemotePath, _Listing] = {}
        self._known: dict[str, FileStatus] = {}

    def list_folders(self, rows: Mapping[RemotePath, int]) -> None:
        """List the folders for which that pays.

        Args:
            rows: number of rows of the table by the folder of their objects.

        Raises:
            OSError: the object store cannot be reached.
        """
        limits = {
            folder: max(PAGE_OBJECTS, OBJECTS_PER_ROW * count)
            for folder, count in folders_to_list(rows).items()
        }
        for folder, listing in zip(limits, map_concurrently(_list, limits.items()), strict=True):
            if listing is not None:
                self._listings[folder] = listing

    def request(self, paths: Iterable[RemotePath]) -> None:
        """Find out the statuses of some objects, in addition to those that are known.

        Raises:
            OSError: the object store cannot be reached.
        """
        unlisted: dict[str, None] = {}
        for path in paths:
            status = self._listed(path)
            if status is not None:
                self._known[str(path)] = status
            elif str(path) not in self._known:
                unlisted[str(path)] = None
        self._known |= zip(unlisted, map_concurrently(request_status, unlisted), strict=True)

    def forget(self) -> None:
        """Forget statuses that were requested; listings remain."""
        self._known = {}

    def status(self, uri: str) -> FileStatus:
        """Return the status of an object; requests it if it is not known.

        Raises:
            OSError: the object store cannot be reached.
        """
        return self._known.get(uri) or self._listed(to_path(uri)) or request_status(uri)

    def _listed(self, path: RemotePath) -> FileStatus | None:
        """Return the status of an object below a listed folder; None if it is below none."""
        if not self._listings or not _is_listable(path.key):
            return None
        folder, name = path.parent, path.name
        while folder.key:
            if listing := self._listings.get(folder):
                return listing.status(name)
            folder, name = folder.parent, f"{folder.name}/{name}"
        return None


def request_status(uri: str) -> FileStatus:
    """Return size and time of an object, by one request.

    Raises:
        OSError: the object store cannot be reached.
    """
    info = to_path(uri).info()
    return NOT_FOUND if info is None else FileStatus(info.size, info.mtime_ns)


def folders_to_list(rows: Mapping[RemotePath, int]) -> dict[RemotePath, int]:
    """Return folders that are worth to be listed with all below them, and the number of rows in them.

    Folders with less than `MIN_ROWS` rows are combined in the folder that contains them.
    """
    listed: dict[RemotePath, int] = {}
    # For each folder that is not decided, the deepest one that contains the same rows, and their number.
    pending = {folder: (folder, count) for folder, count in rows.items() if _is_listable(folder.key)}
    while pending:
        depth = max(folder.key.count("/") for folder in pending)
        parents: dict[RemotePath, list[tuple[RemotePath, int]]] = defaultdict(list)
        for folder in [folder for folder in pending if folder.key.count("/") == depth]:
            deepest, count = pending.pop(folder)
            if count >= MIN_ROWS:
                listed[deepest] = count
            elif folder.parent.is_in_bucket:
                parents[folder.parent].append((deepest, count))
        for parent, children in parents.items():
            if parent in pending:
                children.append(pending[parent])
            count = sum(count for _, count in children)
            pending[parent] = (children[0][0] if len(children) == 1 else parent, count)
    return listed


def _is_listable(key: str) -> bool:
    """Return whether listings name objects as the table does: not if a part of the key is empty."""
    return bool(key) and "//" not in key


def _list(folder: tuple[RemotePath, int]) -> _Listing | None:
    """List a folder; return None if it has more objects than the limit given with it."""
    path, limit = folder
    hashes, sizes, times = [], [], []
    for name, info in itertools.islice(path.scan(), limit + 1):
        hashes.append(hash(name))
        sizes.append(info.size)
        times.append(info.mtime_ns)
    if len(hashes) > limit:
        return None
    order = np.argsort(np.array(hashes, np.int64))
    return _Listing(*(np.array(values, np.int64)[order] for values in (hashes, sizes, times)))
