"""Units in sequence: reads and uploads while others are computed, with the results of one at a time."""

from __future__ import annotations

import heapq
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.distributed.attempt_record import records_folder
from pipeline.distributed.batch_job import BatchJob, Stage, UnitResult
from pipeline.distributed.quarantine import CrashQuarantine
from pipeline.distributed.unit_sequence import run_sequence, unit_groups
from pipeline.distributed.work_unit import WorkUnit
from pipeline.extract import extract
from pipeline.io.files import write_atomically
from pipeline.io.storage import to_path
from tests.helpers.s3_server import S3Server, s3_server
from tests.helpers.sounds import extract_config, write_tones

# Fails a test rather than hang.
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


def plan(folder: Path, clips: str = "abcdef") -> BatchJob:
    """Plan a job with two clips per unit."""
    return BatchJob("testing", pd.DataFrame({"clip_id": list(clips)}), 2, None, folder)


def write_clip_ids(unit: WorkUnit, skipped: str = "") -> int:
    """Write the ids of a unit's clips, as the last stage of a job."""
    clip_ids = "".join(clip["clip_id"] for clip in unit.read_clips() if clip["clip_id"] not in skipped)
    write_atomically(unit.path, lambda file: file.write(clip_ids.encode()))
    return len(clip_ids)


def run(job: BatchJob, *stages: Stage) -> Iterator[UnitResult]:
    return run_sequence(job.units, lambda: stages, "use less memory")


def records(job: BatchJob) -> list[str]:
    """Return the names of the records of attempts."""
    return sorted(path.name for path in records_folder(job.folder).glob("*.json"))


def test_outputs_exist_when_their_results_are_yielded(server: S3Server) -> None:
    job = plan(server.bucket("exist"))
    server.configure(latency_s=0.05)
    contents = [
        (result.summary, unit.path.read_bytes())
        for result, unit in zip(run(job, write_clip_ids), job.units, strict=True)
    ]
    server.configure(latency_s=0.0)
    assert contents == [(2, b"ab"), (2, b"cd"), (2, b"ef")]
    assert not records(job)


class WaitingStage:
    """First stage that ends when the files of the unit that follows have been read, and the output before
    exists."""

    def __init__(self, units: list[WorkUnit]):
        self._units = units
        self._read = {unit.name: threading.Event() for unit in units}

    def prefetch(self, unit: WorkUnit) -> None:
        self._read[unit.name].set()

    def __call__(self, unit: WorkUnit) -> None:
        following = self._units[unit.index + 1 : unit.index + 2]
        assert all(self._read[other.name].wait(TIMEOUT_S) for other in following)
        if unit.index:
            wait_for(self._units[unit.index - 1].path.exists)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(int(TIMEOUT_S / 0.01)):
        if condition():
            return
        threading.Event().wait(0.01)
    raise TimeoutError


def test_store_is_read_and_written_while_a_unit_is_computed(server: S3Server) -> None:
    job = plan(server.bucket("overlap"))

    def write(unit: WorkUnit, _: None) -> int:
        return write_clip_ids(unit)

    assert [result.error for result in run(job, WaitingStage(job.units), write)] == ["", "", ""]


def test_upload_that_fails_is_the_error_of_its_unit(server: S3Server) -> None:
    job = plan(server.bucket("denied"))
    computed = []

    def write(unit: WorkUnit, _: None) -> int:
        computed.append(unit.index)
        server.configure(deny=True)
        return write_clip_ids(unit)

    class Stage(WaitingStage):
        def __call__(self, unit: WorkUnit) -> None:
            if unit.index == 0:
                super().__call__(unit)

    results = list(run(job, Stage(job.units), write))
    server.configure(deny=False)
    (result,) = results
    assert result.name == job.units[0].name and job.units[0].name in result.error
    assert "denied" in result.error and computed == [0, 1]
    assert not any(unit.path.exists() for unit in job.units)


def test_error_ends_the_sequence(server: S3Server) -> None:
    job = plan(server.bucket("error"))

    def fail(unit: WorkUnit) -> int:
        if unit.index == 1:
            raise OSError("no space")
        return write_clip_ids(unit)

    results = list(run(job, fail))
    assert [bool(result.error) for result in results] == [False, True] and "no space" in results[1].error
    assert job.units[0].path.read_bytes() == b"ab" and not job.units[2].path.exists()
    assert not records(job)  # also of the third unit, whose attempt had begun


class CrashingStage:
    """Ends its process at clip d, and rejects what is quarantined."""

    def __call__(self, unit: WorkUnit) -> str:
        skipped = ""
        with CrashQuarantine(unit.folder, unit.name) as quarantine:
            for clip in unit.read_clips():
                if not quarantine.begin(clip["clip_id"]):
                    skipped += clip["clip_id"]
                elif clip["clip_id"] == "d":
                    os._exit(1)
        write_clip_ids(unit, skipped)
        quarantine.end()
        return skipped


def run_in_child(folder: str, clips: str) -> None:
    job = plan(to_path(folder), clips)
    assert not any(result.error for result in run(job, CrashingStage()))


def test_clip_that_crashes_its_process_is_rejected_and_its_neighbors_are_not(server: S3Server) -> None:
    folder = server.bucket("crash")
    job = plan(folder, "abcdefgh")
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    attempts, code = 0, 1
    while code:
        attempts += 1
        assert attempts < 10
        process = context.Process(target=run_in_child, args=(str(folder), "abcdefgh"))
        process.start()
        process.join(TIMEOUT_S)
        assert process.exitcode is not None
        code = process.exitcode
    assert [unit.path.read_bytes() for unit in job.units] == [b"ab", b"c", b"ef", b"gh"]
    # The first loss has no clip; then three crashes at clip d.
    assert attempts == 5 and not records(job)


@pytest.mark.parametrize("remote", [False, True])
def test_shards_are_those_of_one_unit_at_a_time(remote: bool, server: S3Server, tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", clips=40)
    source = server.bucket("tones", data) if remote else data
    out = server.bucket("shards") / "new" if remote else tmp_path / "new"
    reference: dict[str, bytes] = {}

    def keep(units: Any, stages: Any) -> Iterator[UnitResult]:
        def build() -> list[Stage]:
            return built

        built = [stage() for stage in stages]
        yield from run_sequence(units, build, "use less memory")
        reference.update({unit.name: unit.path.read_bytes() for unit in units})

    extract(extract_config(source, out), keep)
    alone = extract_config(source, server.bucket("shards") / "alone" if remote else tmp_path / "alone")
    extract(alone)
    assert len(reference) > 2
    assert {name: (alone.out / name).read_bytes() for name in reference} == reference


def test_files_are_requested_once(server: S3Server, tmp_path: Path) -> None:
    data = server.bucket("once", write_tones(tmp_path, clips=40))
    config = extract_config(data, server.bucket("results") / "once")
    counts = {}

    def count(units: Any, stages: Any) -> Iterator[UnitResult]:
        built = [stage() for stage in stages]
        server.reset()
        yield from run_sequence(units, lambda: built, "use less memory")
        counts.update(server.requests(), units=len(units))

    extract(config, count)
    clips, units = 3 * 40, counts["units"]
    # List of clips and record of the attempt before; record of this one and the shard.
    assert counts["GET"] == clips + 2 * units and counts["PUT"] == 2 * units


def test_groups(tmp_path: Path, server: S3Server) -> None:
    """Units in an object store are grouped; groups become smaller, so that all workers end together."""

    def sizes(folder: Path, units: int, workers: int, **columns: Any) -> list[int]:
        clips = pd.DataFrame({"clip_id": [str(i) for i in range(units)]} | columns)
        job = BatchJob("testing", clips, 1, None, folder)
        groups = unit_groups(job.units, workers)
        assert [unit for group in groups for unit in group] == job.units
        return [len(group) for group in groups]

    bucket = server.bucket("groups")
    for units, workers in ((64, 2), (100, 3), (500, 16)):
        groups = sizes(bucket, units, workers)
        assert groups[0] == 8 and len(groups) < units / 3
        ends = [0] * workers
        for size in groups:
            heapq.heapreplace(ends, ends[0] + size)
        assert max(ends) - min(ends) <= 1
    assert set(sizes(bucket, 64, 64)) == {1}
    assert set(sizes(tmp_path, 64, 2)) == {1}
    assert set(sizes(bucket, 64, 2, start=0.0, end=1.0)) == {1}
