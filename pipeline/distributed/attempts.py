"""Limit of the attempts at a work unit whose worker process is lost, which Ray would repeat indefinitely.

Clips that crash their process have a limit of their own (`pipeline/distributed/quarantine.py`): a lost
attempt that recorded a current clip does not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.distributed.attempt_record import AttemptRecord, counted_record
from pipeline.distributed.work_unit import WorkUnit
from pipeline.io.errors import UserError
from pipeline.io.storage import is_remote
from pipeline.io.text import plural

# Lost attempts after which a job ends.
MAX_LOST = 4


def begin_attempt(unit: WorkUnit, later_stages: str = "") -> AttemptRecord:
    """Write the record of an attempt at a unit, and return it; arguments as `counted_attempt`.

    Raises:
        OSError: the record of the attempt before, or the list of clips, cannot be read.
    """
    record = AttemptRecord(unit.folder, unit.name + later_stages)
    if is_remote(unit.folder) and not later_stages:
        unit.read_clips()  # for the first stage, while the record is being read
    record.start()
    return record


@contextmanager
def counted_attempt(
    unit: WorkUnit, hint: str, later_stages: str = "", record: AttemptRecord | None = None
) -> Iterator[None]:
    """Count an attempt at a unit, if it is lost within the `with` block.

    Args:
        unit: work unit.
        hint: suggests how to use less memory.
        later_stages: name of the stages of this attempt, unless it begins with the first stage.
        record: record of the attempt, if it has begun.

    Raises:
        UserError: too many earlier attempts were lost.
        OSError: as `begin_attempt`.
    """
    record = record or begin_attempt(unit, later_stages)
    if record.lost >= MAX_LOST:
        record.delete(wait=True)
        raise UserError(_describe(unit, hint))
    try:
        with counted_record(unit.folder, unit.name, record):
            yield
    except BaseException:
        record.delete(wait=True)
        raise
    record.delete()


def _describe(unit: WorkUnit, hint: str) -> str:
    first = unit.read_clips()[0]["clip_id"]
    return (
        f"the worker process was lost {MAX_LOST} times at {plural(unit.clips, 'clip')} from '{first}' on, "
        f"probably for lack of memory: {hint}; run the command again to resume"
    )
