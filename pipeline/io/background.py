"""Writes in a background thread, for values of which only the newest matters."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pipeline.io.console import logger

# Seconds that `close` waits for a write that hangs, such as on a file system that is gone.
CLOSE_TIMEOUT_S = 10.0


class NewestValueWriter:
    """Calls a function in a background thread, always with the newest of the values it was given.

    Values that arrive during a write, or too soon after one, replace each other. Errors of the function are
    logged for debugging only: what is written this way is best effort.
    """

    def __init__(self, write: Callable[[Any], None], name: str, interval_s: float = 0.0):
        """Start the thread.

        Args:
            write: called with each value that is not replaced before.
            name: name of the thread.
            interval_s: minimum seconds between two writes.
        """
        self._write, self._interval_s = write, interval_s
        self._condition = threading.Condition()
        self._values: list[Any] = []
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, value: Any) -> None:
        """Have `value` written; returns immediately."""
        with self._condition:
            self._values = [value]
            self._condition.notify()

    def close(self) -> None:
        """Wait for the last write, at most `CLOSE_TIMEOUT_S`; later values are not written."""
        with self._condition:
            self._is_closed = True
            self._condition.notify()
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._values or self._is_closed)
                if not self._values:
                    return
                value = self._values.pop()
            try:
                self._write(value)
            except Exception as error:
                logger.debug("%s: %s: %s", self._thread.name, type(error).__name__, error)
            with self._condition:
                self._condition.wait_for(lambda: self._is_closed, self._interval_s)
