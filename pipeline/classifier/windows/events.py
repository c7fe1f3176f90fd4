"""Events: spans of time in which a class sounds, from the probabilities of windows.

Overlapping windows locate an event more precisely than a window is long. Time is divided into cells of the
length of the hop, and a cell has the geometric mean of the probabilities of all windows that cover its center
(the logarithmic opinion pool, Genest and Zidek 1986). A window in which a class sounds anywhere is positive,
so that an arithmetic mean of probabilities would extend events by up to half a window on both sides; in the
geometric mean a window without the class counts more: none of its cells should have it.

Where windows overlap, short dips do not split an event: cells above the threshold belong together if all
between them are above three quarters of it (hysteresis, as in Canny 1986, without moving the borders).

A window above the threshold that has no cell above it, as its neighbors do not confirm it, counts by its best
cell: every window above the threshold is part of an event.

In shapes: N number of windows, C number of classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Fraction of the threshold above which a dip does not split an event. On soundscapes of ESC-10 it raised the
# event-based F1 of windows of 1 s from 0.32 to 0.34 (`benchmarks/bench_soundscapes.py`). Borders that extend
# to such cells were better there, and worse on clean sounds, whose borders are sharp.
DIP = 0.75
# Lower bound of probabilities in logarithms.
TINY = 1e-12
# Tolerance of comparisons with thresholds.
ROUNDING = 1e-9
# Probabilities of a recording that are in memory at a time.
BLOCK_VALUES = 2**22


class Event(NamedTuple):
    """A class sounds from `start` to `end`, in seconds."""

    start: float
    end: float
    label: int
    """Class index."""
    probability: float
    """Maximum over its cells."""


class _Run(NamedTuple):
    """Neighboring cells above the lower threshold, until before `reach`.

    Those above the threshold are from `first` to before `stop`; -1 and -1 if there is none.
    """

    first: int
    stop: int
    reach: int
    probability: float


def merge_events(
    starts: Sequence[float],
    window: float,
    probabilities: np.ndarray,
    thresholds: np.ndarray,
    hop: float | None = None,
    seconds: float = math.inf,
) -> list[Event]:
    """Return the events of a recording, sorted by start.

    Args:
        starts: first second of each window, ascending multiples of the hop; windows may be missing.
        window: length of a window in seconds.
        probabilities: of each window and class `[shape=(N, C)]`.
        thresholds: probability from which on a class is present `[shape=(C,)]`.
        hop: distance between starts in seconds (default: the smallest one in `starts`).
        seconds: length of the recording, at which events end.
    """
    if hop is None:
        hop = min([window, *np.diff(starts).tolist()])
    finder = EventFinder(window, hop, thresholds, seconds)
    finder.add(np.asarray(starts), probabilities)
    return finder.finish()


class EventFinder:
    """Finds the events of a recording, whose windows are added in parts: not all are in memory together."""

    def __init__(self, window: float, hop: float, thresholds: np.ndarray, seconds: float = math.inf):
        """Start without windows; the arguments are those of `merge_events`."""
        self._window, self._hop, self._seconds = window, hop, seconds
        self._thresholds = np.asarray(thresholds) - ROUNDING
        # Windows that cover the center of a cell.
        self._cover = max(1, math.ceil(window / hop - 0.5 - ROUNDING))
        dip = DIP if self._cover > 1 else 1.0  # without overlap each cell has a window of its own
        self._low_thresholds = dip * np.asarray(thresholds) - ROUNDING
        self._block = max(8 * self._cover, BLOCK_VALUES // len(self._thresholds))
        # Windows in memory, of which the first has the index `_low`; nan where one is missing.
        self._values = np.empty((0, len(self._thresholds)), np.float32)
        self._low = self._finished_cells = 0
        self._last_runs: dict[int, _Run] = {}
        self._runs: list[tuple[int, _Run]] = []

    def add(self, starts: np.ndarray, probabilities: np.ndarray) -> None:
        """Add windows that begin after those before.

        Args:
            starts: first second of each window `[shape=(N,)]`.
            probabilities: `[shape=(N, C)]`.
        """
        for first in range(0, len(starts), self._block):
            part = slice(first, first + self._block)
            index = np.rint(starts[part] / self._hop).astype(int) - self._low
            values = np.full((index[-1] + 1, self._values.shape[1]), np.nan, np.float32)
            values[: len(self._values)] = self._values
            values[index] = probabilities[part]
            self._values = values
            self._find(last=False)

    def finish(self) -> list[Event]:
        """Return the events of all windows, sorted by start."""
        if len(self._values):
            self._find(last=True)
        for label, run in self._last_runs.items():
            self._keep(label, run)
        return sorted(self._event(label, run) for label, run in self._runs)

    def _find(self, last: bool) -> None:
        """Find the runs of those cells that no later window changes; keep the windows that others need."""
        margin = self._cover - 1
        stop = self._low + len(self._values) + (margin if last else -margin)
        if stop <= self._finished_cells:
            return
        cells = self._cells(last)
        first = self._finished_cells
        self._add_runs(cells[first - self._low : stop - self._low], first)
        kept = max(self._low, stop - 2 * margin)
        if not last:
            self._values, self._low = self._values[kept - self._low :], kept
        self._finished_cells = stop

    def _cells(self, last: bool) -> np.ndarray:
        """Return the probability of each cell above the lower threshold, nan elsewhere.

        Cells begin at that of the first window in memory. Those at both ends lack windows, unless these are
        the ends of the recording.
        """
        means = self._means()
        cells = np.where(means >= self._low_thresholds, means, np.nan)
        windows, labels = np.nonzero(self._is_unconfirmed(means, last))
        best = windows + self._by_window(means)[windows, labels].argmax(axis=1)
        np.fmax.at(cells, (best, labels), self._values[windows, labels])
        return cells

    def _is_unconfirmed(self, means: np.ndarray, last: bool) -> np.ndarray:
        """Return which windows are above the threshold, but none of their cells `[shape=(N, C)]`.

        Not those at both ends of the windows in memory, whose cells are not complete, unless these are the
        ends of the recording.
        """
        is_confirmed = self._by_window(means >= self._thresholds).any(axis=2)
        with np.errstate(invalid="ignore"):  # missing windows
            unconfirmed = (self._values >= self._thresholds) & ~is_confirmed
        margin = self._cover - 1
        if self._low > 0:
            unconfirmed[:margin] = False
        if not last:
            unconfirmed[max(0, len(unconfirmed) - margin) :] = False
        return unconfirmed

    def _by_window(self, cells: np.ndarray) -> np.ndarray:
        """Return the values of the cells whose center each window covers `[shape=(N, C, cover)]`."""
        return np.lib.stride_tricks.sliding_window_view(cells, self._cover, axis=0)

    def _means(self) -> np.ndarray:
        """Return the geometric mean of the windows that cover each cell; -1 without any."""
        count, classes = self._values.shape
        readable = ~np.isnan(self._values[:, 0])
        logs = np.log(np.maximum(self._values, TINY), dtype=np.float64)
        logs[~readable] = 0.0
        sums, covering = np.zeros((count + self._cover - 1, classes)), np.zeros(count + self._cover - 1)
        for offset in range(self._cover):
            sums[offset : offset + count] += logs
            covering[offset : offset + count] += readable
        means = np.exp(sums / np.maximum(covering, 1)[:, None])
        beyond = (np.arange(len(means)) + self._low) * self._hop >= self._seconds
        means[(covering == 0) | beyond] = -1.0
        return means

    def _add_runs(self, cells: np.ndarray, first: int) -> None:
        """Add the runs of some cells, of which the first has the index `first`."""
        present = ~np.isnan(cells)
        for label in np.flatnonzero(present.any(axis=0)).tolist():
            edges = np.flatnonzero(np.diff(present[:, label].astype(np.int8), prepend=0, append=0))
            for start, stop in edges.reshape(-1, 2).tolist():
                values = cells[start:stop, label]
                above = np.flatnonzero(values >= self._thresholds[label]).tolist()
                ends = (first + start + above[0], first + start + above[-1] + 1) if above else (-1, -1)
                self._add_run(label, first + start, _Run(*ends, first + stop, float(values.max())))

    def _add_run(self, label: int, first: int, run: _Run) -> None:
        """Add a run that begins at the cell `first`, perhaps as the continuation of the one before."""
        before = self._last_runs.get(label)
        if before is not None and before.reach == first:
            run = _Run(
                run.first if before.first < 0 else before.first,
                before.stop if run.first < 0 else run.stop,
                run.reach,
                max(before.probability, run.probability),
            )
        elif before is not None:
            self._keep(label, before)
        self._last_runs[label] = run

    def _keep(self, label: int, run: _Run) -> None:
        """Add a complete run to the events, if it has a cell above the threshold."""
        if run.first >= 0:
            self._runs.append((label, run))

    def _event(self, label: int, run: _Run) -> Event:
        windows = self._low + len(self._values)
        end = run.stop * self._hop
        if run.stop >= windows + self._cover - 1:  # the last window may end between two cells
            end = (windows - 1) * self._hop + self._window
        if end > self._seconds:
            end = math.floor(self._seconds * 1000) / 1000
        return Event(round(run.first * self._hop, 3), round(end, 3), label, run.probability)
