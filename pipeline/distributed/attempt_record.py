"""Record of the attempts at a work unit, which outlives their processes: a JSON file in `.attempts`.

An attempt writes the record when it begins and deletes it when it ends. So a record that a new attempt finds
is that of a lost one: killed for lack of memory, crashed, or on a lost node. From then on the current clip is
recorded too, which a crash is then attributed to.

In an object store a request takes tens of milliseconds, so a thread reads, writes and deletes the record, in
that order, while the attempt reads its clips. Records are not synced: a record must outlive its process, not
its node. On a full disk the output of the unit itself fails with an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.io.concurrent import map_concurrently
from pipeline.io.storage import is_remote

# Values of a record that was not written completely, as the process was lost meanwhile.
_DAMAGED: dict[str, Any] = {"lost": 0, "crashes": {}, "clip": ""}


class AttemptRecord:
    """Record of the latest attempt at a unit, with what is known of the attempts before.

    `lost` is the number of lost attempts that no clip explains, `crashes` that of each clip; `after_loss` is
    whether any attempt was lost. They are known once the attempt has been started.
    """

    def __init__(self, folder: Path, name: str):
        """Start to read the record of the attempt before.

        Args:
            folder: folder of the unit's output; the record is stored below it.
            name: name of the unit, and of the stages if that is not the first attempt at it.
        """
        self.lost, self.crashes, self.after_loss = 0, dict[str, int](), False
        self._path = records_folder(folder) / f"{name}.json"
        self._thread = ThreadPoolExecutor(1, "attempt_record") if is_remote(folder) else None
        self._started = False
        self._previous = self._call(self._read)

    def start(self) -> None:
        """Count the attempt before as lost if its record exists, and write the one of this attempt."""
        if self._started:
            return
        self._started = True
        previous = self._previous.result()
        if previous is not None:
            lost, self.crashes, clip_id = previous.get("lost"), previous["crashes"], previous["clip"]
            if clip_id:
                self.crashes[clip_id] = self.crashes.get(clip_id, 0) + 1
            self.after_loss, self.lost = True, 0 if lost is None else lost + (not clip_id)
        self._last = self._call(self._write, "")

    def flush(self) -> None:
        """Wait until the record has been written."""
        self._last.result()

    def set_clip(self, clip_id: str) -> None:
        """Record the current clip; empty: none."""
        self._last = self._call(self._write, clip_id)
        self.flush()

    def delete(self, wait: bool = False) -> None:
        """Delete the record: the attempt has ended. No other method may be called afterwards."""
        deleted = self._call(self._delete)
        if self._thread is not None:
            self._thread.shutdown(wait=False)
        if wait:
            deleted.result()

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if self._thread is not None:
            return self._thread.submit(function, *arguments)
        done: Future[Any] = Future()
        done.set_result(function(*arguments))
        return done

    def _read(self) -> dict[str, Any] | None:
        return _read_record(self._path)

    def _write(self, clip_id: str) -> None:
        _write_record(self._path, {"lost": self.lost, "crashes": self.crashes, "clip": clip_id})

    def _delete(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


# Attempts that this process counts (`pipeline/distributed/attempts.py`): folder, name of unit, and record.
_counted: list[tuple[Path, str, AttemptRecord]] = []


@contextmanager
def counted_record(folder: Path, unit: str, record: AttemptRecord) -> Iterator[None]:
    """Have `open_record` return `record` for a unit, within the `with` block."""
    _counted.append((folder, unit, record))
    try:
        yield
    finally:
        _counted.pop()


def open_record(folder: Path, unit: str) -> tuple[AttemptRecord, bool]:
    """Return the record of the attempt that this process counts, or a new one; and whether it is new."""
    for counted_folder, counted_unit, record in reversed(_counted):
        if (counted_folder, counted_unit) == (folder, unit):
            return record, False
    return AttemptRecord(folder, unit), True


def _read_record(path: Path) -> dict[str, Any] | None:
    """Return the values of a record; None if there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return _DAMAGED | {"crashes": {}}


def _write_record(path: Path, values: dict[str, Any]) -> None:
    """Write or replace a record, if possible."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")


def forget_lost_attempts(folder: Path) -> None:
    """Forget the attempts that were lost with an earlier command, which may have been stopped.

    The clip that was read then need not have crashed anything. Crashes that the command has counted are
    kept.
    """

    def forget(path: Path) -> None:
        with suppress(OSError):
            values = _read_record(path)
            if values is None or not values["crashes"]:
                path.unlink(missing_ok=True)
            else:
                _write_record(path, {"crashes": values["crashes"], "clip": ""})

    with suppress(OSError):
        for _ in map_concurrently(forget, records_folder(folder).glob("*.json")):
            pass


def records_folder(folder: Path) -> Path:
    """Return the folder of all records of the units whose outputs are in `folder`."""
    return folder / ".attempts"
