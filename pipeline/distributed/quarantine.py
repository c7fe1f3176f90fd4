"""Quarantine of clips that crash their worker process, which Ray would retry without end.

A clip that hangs counts as a crash: the process exits (`watchdog` in `pipeline/distributed/worker.py`).

Each attempt at a work unit has a record (`pipeline/distributed/attempt_record.py`). If an earlier attempt was
lost, the new one also records the current clip. A clip that was current in three crashes is rejected.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pipeline.distributed.attempt_record import open_record, records_folder
from pipeline.distributed.worker import watchdog
from pipeline.io.storage import remove_tree

# Crashes after which a clip is considered the cause.
MAX_CRASHES = 3
CRASH_REASON = "skipped: crashed the worker process repeatedly"


class CrashQuarantine:
    """The latest attempt at a work unit: a context manager, within which `begin` is called for each clip."""

    def __init__(self, folder: Path, unit: str, timeout_s: float = 0.0):
        """Use the record of the attempt that this process counts, or start to read that of the one before.

        Args:
            folder: folder of the unit's output; the record is stored below it.
            unit: name of the work unit.
            timeout_s: time limit of a clip, after which the process exits; 0 disables it.
        """
        self._watchdog = watchdog(timeout_s)
        self._record, self._is_owner = open_record(folder, unit)

    def __enter__(self) -> Self:
        self._heartbeat = self._watchdog.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._watchdog.__exit__(*error)
        # A later crash of this attempt, such as in the model, is not that of the last clip.
        if self._record.after_loss:
            self._record.set_clip("")

    @property
    def after_crash(self) -> bool:
        """Whether an earlier attempt was lost: then clips must be read one at a time, after `begin`."""
        self._record.start()
        return self._record.after_loss

    def begin(self, clip_id: str) -> bool:
        """Record a clip as current; return False if it is quarantined and must not be read."""
        self._record.start()
        if self._record.crashes.get(clip_id, 0) >= MAX_CRASHES:
            return False
        if self._record.after_loss:
            self._record.set_clip(clip_id)
        self._record.flush()
        self._heartbeat()
        return True

    def end(self) -> None:
        """Delete the record: the unit's output has been written, or its clips need no record any more."""
        if self._is_owner:
            self._record.delete()


def clear_quarantine(folder: Path) -> None:
    """Delete the records of all attempts, once all units are finished."""
    remove_tree(records_folder(folder))
