"""Progress lines and live console output."""

from __future__ import annotations

import sys
import threading
import time
from typing import Self, TextIO


class Progress:
    """Counts work and writes a line now and then: over itself on a terminal, every few seconds elsewhere."""

    def __init__(self, what: str, total: int, unit: str, done: int = 0, stream: TextIO | None = None):
        """`done` were finished by an earlier run; they count as progress, not for the rate."""
        self.what, self.total, self.unit = what, total, unit
        self.done = self._before = done
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._start = time.monotonic()
        self._last = self._start

    @property
    def rate(self) -> float:
        """Units a second since the start of this run."""
        return (self.done - self._before) / max(time.monotonic() - self._start, 1e-9)

    def add(self, count: int, note: str = "") -> None:
        """Counts `count` more, with a word on anything unusual."""
        self.done += count
        now = time.monotonic()
        if now - self._last >= (0.1 if self._live else 5.0):
            self._last = now
            self._write(self.line(note))

    def line(self, note: str = "") -> str:
        """The present state in words."""
        left = (self.total - self.done) / self.rate if self.rate > 0 else 0.0
        text = f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, {self.rate:,.0f} {self.unit}/s, {duration(left)} left"
        return f"{text}, {note}" if note else text

    def finish(self, note: str = "") -> None:
        """Writes the last line, with the time taken."""
        text = f"{self.what}: {self.done:,} {self.unit} in {duration(time.monotonic() - self._start)} ({self.rate:,.0f} {self.unit}/s)"
        self._write(f"{text}, {note}" if note else text, last=True)

    def _write(self, text: str, last: bool = False) -> None:
        if self._live:
            self._stream.write(f"\r\x1b[K{text}" + ("\n" if last else ""))
        else:
            self._stream.write(text + "\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """`4 s`, `3 min 20 s` or `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


# Where there is no terminal, long work is heard of this often.
HEARTBEAT_S = 30


class LiveDisplay:
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
        return time.monotonic() - self._last > HEARTBEAT_S
