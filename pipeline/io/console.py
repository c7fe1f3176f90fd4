"""Console output: log messages, progress bars and live displays, all on stderr: stdout is for results.

On a terminal they are rendered by rich; elsewhere (a file, a pipe, a job's log) each becomes plain lines.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, Self, get_args

from rich.console import Console
from rich.text import Text

from pipeline.io.arguments import shown_value

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as RichProgress

LogLevel = Literal["debug", "info", "warning", "error"]
# Seconds between two plain progress lines, and without output until a heartbeat is logged.
PROGRESS_S, HEARTBEAT_S = 5, 30
# Seconds to wait at the end of the work for a display that hangs, such as on a file system that is gone.
DISPLAY_TIMEOUT_S = 10
# Work that took less than this many seconds is reported without its speed, which would mean nothing.
MIN_TIMED_S = 1.0

console = Console(stderr=True, highlight=False, soft_wrap=True)
logger = logging.getLogger("melray")


class _ConsoleHandler(logging.Handler):
    """Prints records through `console`, so that they appear above a live display instead of inside it."""

    def emit(self, record: logging.LogRecord) -> None:
        # stderr may be closed, full or gone, like a terminal whose connection was lost.
        with suppress(OSError, ValueError):
            self._print(record)

    def _print(self, record: logging.LogRecord) -> None:
        styles = {logging.WARNING: "yellow", logging.ERROR: "red"}
        text = Text()
        if record.levelno >= logging.WARNING:
            text.append(f"{record.levelname.lower()}: ", styles.get(record.levelno, ""))
        console.print(text.append(record.getMessage()))
        if record.exc_info:
            console.print(Text(logging.Formatter().formatException(record.exc_info)))


def setup_logging(level: LogLevel = "info") -> None:
    """Send log messages of at least `level` to stderr; repeated calls change the level only.

    Raises:
        ValueError: an unknown level.
    """
    if not isinstance(level, str) or level.lower() not in get_args(LogLevel):
        raise ValueError(f"level {shown_value(level)}: unknown; choose {', '.join(get_args(LogLevel))}")
    logger.setLevel(level.upper())
    logger.propagate = False
    if not any(isinstance(handler, _ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(_ConsoleHandler())


def shows_progress() -> bool:
    """Return whether progress is wanted (not under `--quiet`) and stderr is a terminal that can show it."""
    return console.is_terminal and logger.isEnabledFor(logging.INFO)


class Progress:
    """Progress of work with a known total: a bar on a terminal, a log line every few seconds elsewhere.

    A context manager: the bar is removed on exit, also after an error. `finish` logs the total.
    """

    def __init__(self, description: str, total: int, unit: str, done: int = 0):
        """Start timing.

        Args:
            description: label of the work, such as `extracting`.
            total: units of work.
            unit: their name in the plural, such as `clips`.
            done: units finished by an earlier run; they count as progress but not for the rate.
        """
        self.description, self.total, self.unit = description, total, unit
        self.done = self._resumed = done
        self._start = self._last = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._bar = _progress_bar(description, total, done) if shows_progress() else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def rate(self) -> float | None:
        """Units per second since the first result; None while that period is too short.

        Before the first result workers start, which takes long and happens once. Concurrent workers then
        finish their first tasks almost simultaneously: only after as much time again are results spread
        evenly over time.
        """
        if self._first is None:
            return None
        first_time, first_done = self._first
        elapsed = time.monotonic() - first_time
        if self.done == first_done or elapsed < first_time - self._start:
            return None
        return (self.done - first_done) / max(elapsed, 1e-9)

    def add(self, count: int, note: str = "") -> None:
        """Count `count` finished units; `note` is appended to the line, such as `3 rejected`."""
        self.done += count
        if self._first is None:
            self._first = time.monotonic(), self.done
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done, status=self._status(note))
        elif time.monotonic() - self._last >= PROGRESS_S:
            self._last = time.monotonic()
            logger.info("%s", self.line(note))

    def line(self, note: str = "") -> str:
        """Current progress as one line of text."""
        counts = f"{self.done:,} of {self._count(self.total)}"
        return f"{self.description}: {', '.join(filter(None, [counts, self._status(note)]))}"

    def finish(self, note: str = "") -> None:
        """Log the total with the time taken."""
        added, elapsed = self.done - self._resumed, time.monotonic() - self._start
        if not added:
            texts = [f"{self._count(self.done)} already finished"]
        else:
            resumed = f" ({self._resumed:,} of them earlier)" if self._resumed else ""
            speed = f" ({self._speed(added / elapsed)})" if elapsed >= MIN_TIMED_S else ""
            texts = [f"{self._count(self.done)}{resumed} in {duration(elapsed)}{speed}"]
        logger.info("%s", f"{self.description}: {', '.join(filter(None, [*texts, note]))}")

    def _count(self, count: int) -> str:
        """Return a number of units, such as `1 clip` or `2,000 clips`."""
        return f"{count:,} {self.unit.removesuffix('s') if count == 1 else self.unit}"

    def _status(self, note: str) -> str:
        """Return speed and time left, as soon as they can be estimated, and the note."""
        texts = [note]
        if rate := self.rate:
            texts = [self._speed(rate), f"{duration((self.total - self.done) / rate)} left", note]
        return ", ".join(filter(None, texts))

    def _speed(self, rate: float) -> str:
        return f"{rate:,.{0 if rate >= 10 else 1}f} {self.unit}/s"


def _progress_bar(description: str, total: int, done: int) -> RichProgress:
    import rich.progress as bars

    bar = bars.Progress(
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[status]}"),
        console=console,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )
    bar.add_task(description, total=total, completed=done, status="")
    return bar


class LiveDisplay:
    """Base class of displays that follow running work while a `with` block runs.

    On a terminal `_render` is updated in place. `_log_events` logs the events since its last call, on a
    terminal above the display. Elsewhere `_log_heartbeat` is called after `HEARTBEAT_S` without events.
    An error of the display never ends the work that it follows: it is logged once.
    """

    def __init__(self, interval_s: float):
        """`interval_s` is the time between two updates."""
        self._interval_s = interval_s
        self._last = time.monotonic()
        self._has_failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(DISPLAY_TIMEOUT_S)
        if not self._thread.is_alive():
            with self._logged_errors():
                self._log_events()

    def _run(self) -> None:
        with self._logged_errors():
            if shows_progress():
                self._run_on_terminal()
            else:
                self._run_as_lines()

    def _run_as_lines(self) -> None:
        while not self._stop.wait(self._interval_s):
            with self._logged_errors():
                if self._log_events():
                    self._last = time.monotonic()
                elif time.monotonic() - self._last > HEARTBEAT_S:
                    self._last = time.monotonic()
                    self._log_heartbeat()

    def _run_on_terminal(self) -> None:
        from rich.live import Live

        redirect = sys.stdout.isatty()
        with Live(console=console, auto_refresh=False, transient=True, redirect_stdout=redirect) as live:
            while not self._stop.wait(self._interval_s):
                with self._logged_errors():
                    self._log_events()
                    live.update(self._render(), refresh=True)

    @contextmanager
    def _logged_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                reason = " ".join(str(error).split())
                logger.warning(
                    "progress cannot be shown (%s: %s); the work continues", type(error).__name__, reason
                )

    def _render(self) -> RenderableType:
        """Current state, for a terminal."""
        raise NotImplementedError

    def _log_events(self) -> bool:
        """Log new events; return whether there were any."""
        raise NotImplementedError

    def _log_heartbeat(self) -> None:
        """Log that the work is still running."""
        raise NotImplementedError


def duration(seconds: float) -> str:
    """Format a duration as `4 s`, `3 min 20 s` or `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
