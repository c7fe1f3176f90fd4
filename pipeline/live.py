"""Something that a person watches while it runs."""

from __future__ import annotations

import sys
import threading
import time
from typing import Self, TextIO

# Where there is no terminal, long work is heard of this often.
QUIET_SECONDS = 30


class Live:
    """Shows something every so often, in a thread of its own, while the block runs, and once more at its end."""

    def __init__(self, stream: TextIO | None, seconds: float):
        """`stream` is stderr if none; `seconds` lie between two looks."""
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._last = time.monotonic()
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._finish()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._show()

    def _show(self) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        self._show()

    @property
    def _silent(self) -> bool:
        """Whether nothing was written for long."""
        return time.monotonic() - self._last > QUIET_SECONDS
