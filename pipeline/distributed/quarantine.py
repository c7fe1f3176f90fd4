"""Finds the clip that kills its worker: a crash inside a decoder takes the process along, and Ray would try again without end.

A clip that takes minutes counts as one that killed it: the process ends itself (`pipeline/distributed/worker.py`).

A unit's first attempt leaves one small file, and takes it away when its part is published. An attempt that finds the file knows
that one before it died, and from then on notes which clip it is at. A clip that was at work in three such deaths is set aside.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pipeline.distributed.worker import watchdog
from pipeline.io.storage import remove_tree

# Deaths of a worker at a clip after which it is no chance any more.
MAX_CRASHES = 3
CRASH_REASON = "its worker died each time it was read: set aside"


class CrashQuarantine:
    """The attempts at one unit, of which this process is the newest; `begin` belongs inside its block."""

    def __init__(self, out: Path, unit: str, patience: float = 0.0):
        """`patience` is the time in seconds after which a clip's process ends itself; 0: never."""
        self._watched = watchdog(patience)
        self._path = out / ".attempts" / f"{unit}.json"
        self._deaths: dict[str, int] = {}
        before = self._before()
        self._careful = before is not None
        if before is not None:
            self._deaths = before["deaths"]
            if before["at"]:
                self._deaths[before["at"]] = self._deaths.get(before["at"], 0) + 1
        self._note("")

    def __enter__(self) -> Self:
        self._alive = self._watched.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._watched.__exit__(*error)

    def _before(self) -> dict[str, Any] | None:
        try:
            return json.loads(self._path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            return {"deaths": {}, "at": ""}  # the earlier attempt died while it wrote this

    def begin(self, clip_id: str) -> bool:
        """Notes that a clip is next; whether it may be read at all."""
        if self._deaths.get(clip_id, 0) >= MAX_CRASHES:
            return False
        if self._careful:
            self._note(clip_id)
        self._alive()
        return True

    def end(self) -> None:
        """The unit is done."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _note(self, clip_id: str) -> None:
        # Not synced: it must outlive this process, not this machine, and half of it reads as no clip. On a full disk the work
        # itself will say so.
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps({"deaths": self._deaths, "at": clip_id}))


def clear_quarantine(out: Path) -> None:
    """Takes away what attempts left, when all units are published."""
    remove_tree(out / ".attempts")
