"""Quarantine of clips that crash their worker process, which Ray would retry without end.

A clip that hangs counts as a crash: the process exits (`watchdog` in `pipeline/distributed/worker.py`).

Each attempt at a work unit writes a record, which is deleted once the unit's output is written. If a record
exists, an earlier attempt crashed; the new attempt then also records the current clip. A clip that was
current in three crashes is rejected.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pipeline.distributed.attempt_record import AttemptRecord, records_folder
from pipeline.distributed.worker import watchdog
from pipeline.io.storage import remove_tree

# Crashes after which a clip is considered the cause.
MAX_CRASHES = 3
CRASH_REASON = "skipped: crashed the worker process repeatedly"


class CrashQuarantine:
    """The latest attempt at a work unit: a context manager, within which `begin` is called for each clip."""

    def __init__(self, folder: Path, unit: str, timeout_s: float = 0.0):
        """Read the record of earlier attempts.

        Args:
            folder: folder of the unit's output; the record is stored below it.
            unit: name of the work unit.
            timeout_s: time limit of a clip, after which the process exits; 0 disables it.
        """
        self._watchdog = watchdog(timeout_s)
        self._record = _record(folder, unit)
        self._crashes: dict[str, int] = {}
        previous = self._record.read()
        self._records_clips = previous is not None
        if previous is not None:
            self._crashes = previous["crashes"]
            if clip_id := previous["clip"]:
                self._crashes[clip_id] = self._crashes.get(clip_id, 0) + 1
        self._write("")

    def __enter__(self) -> Self:
        self._heartbeat = self._watchdog.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._watchdog.__exit__(*error)
        # A later crash of this attempt, such as in the model, is not that of the last clip.
        if self._records_clips:
            self._write("")

    def begin(self, clip_id: str) -> bool:
        """Record a clip as current; return False if it is quarantined and must not be read."""
        if self._crashes.get(clip_id, 0) >= MAX_CRASHES:
            return False
        if self._records_clips:
            self._write(clip_id)
        self._heartbeat()
        return True

    def end(self) -> None:
        """Delete the record: the unit's output has been written."""
        self._record.delete()

    def _write(self, clip_id: str) -> None:
        self._record.write({"crashes": self._crashes, "clip": clip_id})


def read_attempt(folder: Path, unit: str) -> dict[str, Any] | None:
    """Return the record of the last attempt at a work unit: crashes of each clip, and the current clip.

    None if there is no record: there was no attempt, or it finished reading the clips.
    """
    return _record(folder, unit).read()


def _record(folder: Path, unit: str) -> AttemptRecord:
    return AttemptRecord(folder, f"{unit}.json", damaged={"crashes": {}, "clip": ""})


def clear_quarantine(folder: Path) -> None:
    """Delete the records of all attempts, once all units are finished."""
    remove_tree(records_folder(folder))
