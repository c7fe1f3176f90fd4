"""Units whose worker is lost again and again end the job, unless a clip explains it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.distributed.attempt_record import forget_lost_attempts
from pipeline.distributed.attempts import MAX_LOST, counted_attempt
from pipeline.distributed.batch_job import BatchJob
from pipeline.distributed.quarantine import MAX_CRASHES, CrashQuarantine
from pipeline.distributed.work_unit import WorkUnit
from pipeline.io.errors import UserError

MESSAGE = (
    r"^the worker process was lost 4 times at 5 clips from 'a' on, probably for lack of memory: use less;"
)


@pytest.fixture
def unit(tmp_path: Path) -> WorkUnit:
    job = BatchJob("testing", pd.DataFrame({"clip_id": list("abcde")}), 5, None, tmp_path)
    return job.units[0]


# Never ended, as if their processes were killed; without a reference Python would end them.
LOST: list[object] = []


def lose_attempt(unit: WorkUnit) -> None:
    """Begin an attempt that never ends."""
    LOST.append(attempt := counted_attempt(unit, "use less"))
    attempt.__enter__()


def test_finished_attempts_are_not_counted(unit: WorkUnit) -> None:
    for _ in range(3 * MAX_LOST):
        with counted_attempt(unit, "use less"):
            pass
    assert not list((unit.folder / ".attempts").iterdir())


def test_attempt_that_ends_with_an_error_is_not_counted(unit: WorkUnit) -> None:
    for _ in range(3 * MAX_LOST):
        with pytest.raises(OSError, match="disk"), counted_attempt(unit, "use less"):
            raise OSError("disk")


def test_too_many_lost_attempts_raise(unit: WorkUnit) -> None:
    for _ in range(MAX_LOST):
        lose_attempt(unit)
    with pytest.raises(UserError, match=MESSAGE), counted_attempt(unit, "use less"):
        raise AssertionError("another attempt")
    lose_attempt(unit)  # the next command starts from scratch


def test_crash_after_the_clips_counts(unit: WorkUnit) -> None:
    def read_clips() -> None:
        lose_attempt(unit)
        with CrashQuarantine(unit.folder, unit.name) as quarantine:
            quarantine.begin("a")

    for _ in range(MAX_LOST):
        read_clips()
    with pytest.raises(UserError, match=MESSAGE):
        read_clips()


def test_crashes_at_clips_do_not_count(unit: WorkUnit) -> None:
    """Each of five clips crashes the process, until all are rejected."""
    for _ in range(5 * MAX_CRASHES + 1):
        lose_attempt(unit)
        quarantine = CrashQuarantine(unit.folder, unit.name).__enter__()
        any(quarantine.begin(clip) for clip in "abcde")  # crashes at the first one that may be read
    with counted_attempt(unit, "use less"), CrashQuarantine(unit.folder, unit.name) as quarantine:
        assert not any(quarantine.begin(clip) for clip in "abcde")


def test_stopped_commands_do_not_count(unit: WorkUnit) -> None:
    for _ in range(3 * MAX_LOST):
        forget_lost_attempts(unit.folder)
        lose_attempt(unit)


def test_clip_of_a_stopped_command_is_not_blamed(unit: WorkUnit) -> None:
    """It is read whenever its command is stopped, after an attempt was lost for another reason."""
    for _ in range(3 * MAX_CRASHES):
        forget_lost_attempts(unit.folder)
        lose_attempt(unit)
        lose_attempt(unit)
        quarantine = CrashQuarantine(unit.folder, unit.name).__enter__()
        assert quarantine.begin("long")


def test_partially_written_record_is_ignored(unit: WorkUnit) -> None:
    lose_attempt(unit)
    (unit.folder / ".attempts" / f"{unit.name}.json").write_text('{"lo')
    lose_attempt(unit)
