"""Contents of files that a tracker's process looks at each second, read again only once they have changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pipeline.io.storage import is_remote

T = TypeVar("T")
# A file that is younger may change again without another time, which has a resolution of up to two seconds.
SETTLED_S = 3.0


class FileCache:
    """What was read from local files, with the time, size and inode that they had before."""

    def __init__(self) -> None:
        self._contents: dict[Path, tuple[tuple[int, ...], Any]] = {}

    def read(self, path: Path, read: Callable[[], T]) -> T:
        """Return the result of `read`, or the previous one if the file has not changed; it is shared.

        In an object store, asking whether a file has changed costs as much as reading it, so it is read.

        Args:
            path: file that `read` reads; if it does not exist, `read` is called.
            read: function of no arguments.
        """
        status = _status(path)
        if status is not None and path in self._contents and self._contents[path][0] == status:
            content: T = self._contents[path][1]
            return content
        result = read()
        if status is not None and time.time() - status[0] / 1e9 > SETTLED_S:
            self._contents[path] = status, result
        return result


def _status(path: Path) -> tuple[int, ...] | None:
    """Return time in ns, size and inode of a file; None if it is missing, or in an object store."""
    if is_remote(path):
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


# That of this process, which follows the runs of one command.
FILES = FileCache()
