"""Uploads to an object store by a thread, while the caller computes what comes next."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

from pipeline.io.remote_path import RemotePath


class Uploads:
    """Files that are being uploaded, in the order in which they were written."""

    def __init__(self, thread: ThreadPoolExecutor):
        """Use an executor with one thread."""
        self._thread = thread
        self._futures: list[Future[None]] = []

    def submit(self, path: RemotePath, content: bytes) -> None:
        """Have a file written after those before it, unless one of them fails."""
        previous = self._futures[-1] if self._futures else None
        self._futures.append(self._thread.submit(self._upload, path, content, previous))

    def wait(self) -> None:
        """Wait until all files are written.

        Raises:
            OSError: one cannot be written; the files after it are not.
        """
        for future in self._futures:
            future.result()

    @staticmethod
    def _upload(path: RemotePath, content: bytes, previous: Future[None] | None) -> None:
        if previous is not None:
            previous.result()
        path.write_bytes(content)


_uploads: ContextVar[Uploads | None] = ContextVar("_uploads", default=None)


@contextmanager
def uploads_in_background(uploads: Uploads) -> Iterator[None]:
    """Add files that this thread writes atomically to object stores to `uploads`, within the `with` block.

    They may not exist before `uploads.wait` has returned.
    """
    token = _uploads.set(uploads)
    try:
        yield
    finally:
        _uploads.reset(token)


def upload(path: RemotePath, content: bytes) -> None:
    """Write or replace a file, within `uploads_in_background` later.

    Raises:
        OSError: it cannot be written.
    """
    uploads = _uploads.get()
    if uploads is None:
        path.write_bytes(content)
    else:
        uploads.submit(path, content)
