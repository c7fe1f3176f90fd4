"""Limit of the attempts at a work unit whose worker process is lost, which Ray would repeat indefinitely.

An attempt writes a record and deletes it when it ends, so a record that a new attempt finds is that of a lost
one: killed for lack of memory, crashed, or on a lost node. Clips that crash their process have a limit of
their own (`pipeline/distributed/quarantine.py`): attempts that lead to the rejection of a clip do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.distributed.attempt_record import AttemptRecord, records_folder
from pipeline.distributed.batch_job import WorkUnit
from pipeline.distributed.quarantine import read_attempt
from pipeline.io.errors import UserError
from pipeline.io.text import plural

# Lost attempts after which a job ends.
MAX_LOST = 4
_ENDING = ".lost"


@contextmanager
def counted_attempt(unit: WorkUnit, hint: str) -> Iterator[None]:
    """Count an attempt at a unit, if it is lost within the `with` block.

    Raises:
        UserError: too many earlier attempts were lost; `hint` suggests how to use less memory.
    """
    record = AttemptRecord(unit.folder, f"{unit.name}{_ENDING}", damaged={"lost": 0, "quarantine": None})
    previous = record.read()
    quarantine = None if previous is None else read_attempt(unit.folder, unit.name)
    lost = 0
    if previous is not None:
        lost = previous["lost"] + (quarantine is None or quarantine == previous["quarantine"])
    if lost >= MAX_LOST:
        record.delete()
        raise UserError(_describe(unit, hint))
    record.write({"lost": lost, "quarantine": quarantine})
    try:
        yield
    finally:
        record.delete()


def forget_lost_attempts(folder: Path) -> None:
    """Delete the records of attempts that were lost with an earlier command, which may have been stopped."""
    with suppress(OSError):
        for path in records_folder(folder).glob(f"*{_ENDING}"):
            AttemptRecord(folder, path.name, damaged={}).delete()


def _describe(unit: WorkUnit, hint: str) -> str:
    first = unit.read_clips()[0]["clip_id"]
    return (
        f"the worker process was lost {MAX_LOST} times at {plural(unit.clips, 'clip')} from '{first}' on, "
        f"probably for lack of memory: {hint}; run the command again to resume"
    )
