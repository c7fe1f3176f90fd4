"""Runs work units whose outputs are in an object store one after another, without waiting for it in between.

While a unit is computed, threads upload the output of the unit before, and read what the next one begins
with: its list of clips, the record of the attempt before, and the first of its files (which the first stage
does, in its method `prefetch`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress

from pipeline.distributed.attempt_record import AttemptRecord
from pipeline.distributed.attempts import begin_attempt, counted_attempt
from pipeline.distributed.batch_job import Stage, UnitResult, failed_unit, run_stages
from pipeline.distributed.work_unit import WorkUnit
from pipeline.io.background_uploads import Uploads, uploads_in_background
from pipeline.io.storage import is_remote

Build = Callable[[], Sequence[Stage]]
# Limit of the units of a group, and into how many groups for each worker the units that are left are divided.
MAX_UNITS, GROUPS_PER_WORKER = 8, 1.5


def unit_groups(units: Sequence[WorkUnit], workers: int) -> list[Sequence[WorkUnit]]:
    """Divide the units of a job into groups that a worker runs one after another.

    They have several units if the outputs are in an object store, except units of windows: these wait for the
    store at other times as well. Each has a share of the units that are left, so that the last ones are small
    and all workers end at about the same time ("guided self-scheduling", Polychronopoulos and Kuck 1987).
    """
    limit = MAX_UNITS if is_remote(units[0].folder) and not units[0].windows else 1
    groups: list[Sequence[WorkUnit]] = []
    first = 0
    while first < len(units):
        share = round((len(units) - first) / (GROUPS_PER_WORKER * max(1, workers)))
        size = max(1, min(limit, share))
        groups.append(units[first : first + size])
        first += size
    return groups


def run_sequence(units: Sequence[WorkUnit], build: Build, memory_hint: str) -> Iterator[UnitResult]:
    """Yield the results of units in their order, until one has an error.

    A result is yielded once the output of its unit exists. If this process is lost, the attempts at the unit
    that is computed and at the next one count as lost; then the next one is not read ahead.

    Args:
        units: units of the same job.
        build: returns the stages of the job, every time the same.
        memory_hint: suggestion in the error message of lost workers.
    """
    with ThreadPoolExecutor(1, "next_unit") as reader, ThreadPoolExecutor(1, "upload") as uploader:
        before: tuple[WorkUnit, UnitResult, Uploads] | None = None
        record = _begin(units[0])
        with suppress(Exception):  # which `run_stages` raises again
            build()  # once, before two threads need the stages
        for unit, following in zip(units, [*units[1:], None], strict=True):
            ahead = None
            if following is not None and record is not None and not record.after_loss:
                ahead = reader.submit(_begin_ahead, following, build)
            uploads = Uploads(uploader)
            # The last output is uploaded by the attempt itself, so that a crash of that is counted too.
            with nullcontext() if following is None else uploads_in_background(uploads):
                attempt = counted_attempt(unit, memory_hint, record=record)
                result = run_stages(unit, build, attempt=attempt)
            if before is not None:
                yield (uploaded := _uploaded(*before))
                if uploaded.error:
                    return _abandon(ahead)
            if result.error:
                yield result
                return _abandon(ahead)
            before = unit, result, uploads
            if following is not None:
                record = ahead.result() if ahead is not None else _begin(following)
        if before is not None:
            yield _uploaded(*before)


def _begin_ahead(unit: WorkUnit, build: Build) -> AttemptRecord | None:
    """Begin an attempt before it is due, and read its first files; return its record, None if that fails."""
    record = _begin(unit)
    if record is not None and not record.after_loss:
        with suppress(Exception):  # which the attempt itself raises again
            first = build()[0]
            if hasattr(first, "prefetch"):
                first.prefetch(unit)
    return record


def _begin(unit: WorkUnit) -> AttemptRecord | None:
    """Begin an attempt; return its record, None if that fails."""
    with suppress(Exception):  # which the attempt itself raises again
        return begin_attempt(unit)
    return None


def _uploaded(unit: WorkUnit, result: UnitResult, uploads: Uploads) -> UnitResult:
    """Return the result of a unit once its output is uploaded, or with the error of that."""
    try:
        uploads.wait()
    except Exception as error:
        return failed_unit(unit, error)
    return result


def _abandon(ahead: Future[AttemptRecord | None] | None) -> None:
    """Delete the record of an attempt that will not be made."""
    record = None if ahead is None else ahead.result()
    if record is not None:
        record.delete(wait=True)
