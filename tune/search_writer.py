"""Writes the records and scores of a search in a background thread, so that Ray Tune never waits for storage.

On a local disk they are written as they arrive. An object store cannot append: there the score file is
written again from memory, at most every `STORE_INTERVAL_S`. A search that is killed loses the scores since
then, which its resumed trials report again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pipeline.io.storage import is_remote
from tune.trials import Point, SearchFolder, Trial, score_line

STORE_INTERVAL_S = 20.0


@dataclass
class _Changes:
    """What is to be written, in the order of the fields."""

    trials: dict[int, Trial] = field(default_factory=dict)
    """The newest record of each trial that has changed."""
    lines: list[str] = field(default_factory=list)
    """New lines of the score file."""
    ended: list[int] = field(default_factory=list)
    """Trials whose checkpoints are not needed any more."""

    def __bool__(self) -> bool:
        return bool(self.trials or self.lines or self.ended)


class SearchWriter:
    """Writes what changes in a search. An error of a write is raised by the next call."""

    def __init__(self, folder: SearchFolder, interval_s: float | None = None):
        """Start the thread.

        Args:
            folder: folder of the search.
            interval_s: minimum seconds between two writes (default: `STORE_INTERVAL_S` on an object store).
        """
        self._folder = folder
        self._interval_s = STORE_INTERVAL_S * is_remote(folder.path) if interval_s is None else interval_s
        self._changes = _Changes()
        self._error: Exception | None = None
        self._is_closed = False
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="search writer", daemon=True)
        self._thread.start()

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        # Ray Tune pickles its callbacks, for a way to restore searches that melray does not use.
        return type(self), (self._folder, self._interval_s)

    def save(self, trial: Trial) -> None:
        """Have the record of a trial written as it is now."""
        record = replace(trial, params=dict(trial.params), points=[])
        self._change(lambda changes: changes.trials.update({trial.number: record}))

    def append_score(self, number: int, point: Point) -> None:
        """Have a line of the score file written."""
        line = score_line(number, point)
        self._change(lambda changes: changes.lines.append(line))

    def delete_checkpoints(self, number: int) -> None:
        """Have the checkpoints of a trial deleted, once its record is written."""
        self._change(lambda changes: changes.ended.append(number))

    def close(self) -> None:
        """Write what is left, and end the thread.

        Raises:
            UserError, OSError: something could not be written.
        """
        with self._condition:
            self._is_closed = True
            self._condition.notify()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _change(self, change: Callable[[_Changes], None]) -> None:
        with self._condition:
            if self._error is not None:
                raise self._error
            change(self._changes)
            self._condition.notify()

    def _run(self) -> None:
        try:
            while (changes := self._next_changes()) is not None:
                self._write(changes)
                with self._condition:
                    self._condition.wait_for(lambda: self._is_closed, self._interval_s)
        except Exception as error:
            self._error = error

    def _next_changes(self) -> _Changes | None:
        """Wait for changes and return them; None after the last ones."""
        with self._condition:
            self._condition.wait_for(lambda: self._changes or self._is_closed)
            changes, self._changes = self._changes, _Changes()
        return changes or None

    def _write(self, changes: _Changes) -> None:
        for trial in changes.trials.values():
            self._folder.save(trial)
        if changes.lines:
            self._folder.append_scores(changes.lines)
        for number in changes.ended:
            self._folder.delete_checkpoints(number)
