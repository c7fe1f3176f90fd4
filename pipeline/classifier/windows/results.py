"""Results of recordings, from tables of their windows that come one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.classifier.prediction.recording_list import RecordingList
from pipeline.classifier.windows.events import Event, EventFinder
from pipeline.classifier.windows.pooling import PooledWindows
from pipeline.classifier.windows.settings import WindowSettings


class UnreadablePart(NamedTuple):
    """Neighboring windows that cannot be read for the same reason; times in seconds."""

    start: float
    end: float
    reason: str


class RecordingResult(NamedTuple):
    """What the windows of a recording say about it."""

    number: int
    """Position in the list of recordings."""
    probabilities: np.ndarray | None
    """Of each class, float32 `[shape=(C,)]`; None if no window could be read."""
    events: list[Event]
    unreadable: list[UnreadablePart]
    warning: str
    """Why samples may not be what they should be; empty for most."""


@dataclass
class _Recording:
    """A recording of which `missing` windows have not been added yet."""

    number: int
    missing: int
    pool: PooledWindows
    finder: EventFinder
    unreadable: list[UnreadablePart] = field(default_factory=list)
    warnings: dict[str, None] = field(default_factory=dict)

    def result(self) -> RecordingResult:
        probabilities = self.pool.result() if self.pool.windows else None
        events, warning = self.finder.finish(), "; ".join(self.warnings)
        return RecordingResult(self.number, probabilities, events, self.unreadable, warning)


class ResultCollector:
    """Collects the windows of recordings, in the order of their list."""

    def __init__(self, recordings: RecordingList, settings: WindowSettings):
        """Start with the first recording."""
        self._recordings, self._settings = recordings, settings
        self._current = self._begin(0)

    def add(self, table: pa.Table, probabilities: np.ndarray) -> Iterator[RecordingResult]:
        """Add windows; yield the result of each recording that they complete.

        Args:
            table: the columns `start`, `end`, `reason` and `warning` of N windows.
            probabilities: `[shape=(N, C)]`, which do not count where there is a reason.
        """
        columns = {name: table[name].to_numpy() for name in ("start", "end", "reason", "warning")}
        position = 0
        while position < len(table):
            stop = min(position + self._current.missing, len(table))
            part = slice(position, stop)
            windows = {name: values[part] for name, values in columns.items()}
            _add_windows(self._current, windows, probabilities[part])
            position = stop
            if not self._current.missing:
                yield self._current.result()
                if self._current.number + 1 < len(self._recordings):
                    self._current = self._begin(self._current.number + 1)

    def _begin(self, number: int) -> _Recording:
        settings, seconds = self._settings, float(self._recordings.seconds[number])
        seconds = np.inf if np.isnan(seconds) else seconds
        finder = EventFinder(settings.window, settings.hop, settings.thresholds, seconds)
        pool = PooledWindows(settings.pool, len(settings.thresholds))
        return _Recording(number, int(self._recordings.counts[number]), pool, finder)


def _add_windows(recording: _Recording, windows: dict[str, np.ndarray], probabilities: np.ndarray) -> None:
    """Add the next windows of a recording, by the columns of `ResultCollector.add`."""
    readable = windows["reason"] == ""
    recording.missing -= len(readable)
    recording.pool.add(probabilities[readable])
    recording.finder.add(windows["start"][readable], probabilities[readable])
    recording.warnings |= dict.fromkeys(text for text in windows["warning"] if text)
    columns = [windows[name].tolist() for name in UnreadablePart._fields]
    for i in np.flatnonzero(~readable).tolist():
        part = UnreadablePart(*(values[i] for values in columns))
        before = recording.unreadable[-1] if recording.unreadable else None
        if before is not None and before.reason == part.reason and part.start <= before.end:
            part = part._replace(start=recording.unreadable.pop().start)
        recording.unreadable.append(part)
