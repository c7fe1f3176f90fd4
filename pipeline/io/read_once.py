"""Small files of an object store that a command looks at several times, but requests once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from pipeline.io.remote_path import RemotePath

_contents: ContextVar[dict[RemotePath, bytes] | None] = ContextVar("_contents", default=None)


@contextmanager
def remote_files_read_once() -> Iterator[None]:
    """Keep the remote files that `open_binary` opens in memory until the end of the `with` block."""
    token = _contents.set({})
    try:
        yield
    finally:
        _contents.reset(token)


def open_binary(path: Path) -> BinaryIO:
    """Open a local or remote file for reading; a remote one is read as a whole.

    Raises:
        OSError: it cannot be read.
    """
    if not isinstance(path, RemotePath):
        return path.open("rb")
    contents = _contents.get()
    if contents is None:
        return io.BytesIO(path.read_bytes())
    if path not in contents:
        contents[path] = path.read_bytes()
    return io.BytesIO(contents[path])
