"""Batch jobs resume, report errors as values and return summaries in order; all of it without Ray."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.distributed import ray_runner
from pipeline.distributed.batch_job import BatchJob, StageBuilder, UnitResult, run_in_process
from pipeline.distributed.work_unit import WorkUnit
from pipeline.io.errors import UserError
from pipeline.io.files import write_text_atomically


def manifest(count: int) -> pd.DataFrame:
    return pd.DataFrame({"clip_id": [f"clip {i}" for i in range(count)], "label": "a"})


def make_job(folder: Path, count: int = 7, settings: Any = 1) -> BatchJob:
    """Return a job of three units, of 3, 3 and 1 clips, whose summaries are the numbers of clips."""
    return BatchJob(
        "testing",
        manifest(count),
        3,
        settings,
        folder,
        read_summary=lambda path: len(path.read_text().splitlines()),
        count_rejected=lambda summary: summary,
    )


class Writer:
    """Stage that writes the ids of the clips, and returns their number."""

    def __call__(self, unit: WorkUnit) -> int:
        clips = unit.read_clips()
        write_text_atomically(unit.path, "".join(f"{clip['clip_id']}\n" for clip in clips))
        return len(clips)


class FailingWriter(Writer):
    """Writer that raises an error at the second unit."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, unit: WorkUnit) -> int:
        if unit.index == 1:
            raise self._error
        return super().__call__(unit)


def run_never(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
    raise AssertionError(f"{len(units)} units were run")


def run_backwards(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
    return run_in_process(units[::-1], stages)


def test_job_writes_one_output_per_unit(tmp_path: Path):
    job = make_job(tmp_path / "out")
    assert job.run([Writer], run_in_process) == [3, 3, 1]
    assert [unit.path.read_text() for unit in job.units] == [
        "clip 0\nclip 1\nclip 2\n",
        "clip 3\nclip 4\nclip 5\n",
        "clip 6\n",
    ]


def test_job_without_clips_runs_nothing(tmp_path: Path):
    assert make_job(tmp_path, count=0).run([Writer], run_never) == []


def test_summaries_are_in_unit_order(tmp_path: Path):
    assert make_job(tmp_path).run([Writer], run_backwards) == [3, 3, 1]


def test_finished_job_runs_nothing(tmp_path: Path):
    make_job(tmp_path).run([Writer], run_in_process)
    assert make_job(tmp_path).run([Writer], run_never) == [3, 3, 1]


def test_rerun_makes_only_missing_outputs(tmp_path: Path):
    job = make_job(tmp_path)
    job.run([Writer], run_in_process)
    times = {unit.name: unit.path.stat().st_mtime_ns for unit in job.units}
    job.units[1].path.unlink()
    indices = []

    def runner(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
        indices.extend(unit.index for unit in units)
        return run_in_process(units, stages)

    assert make_job(tmp_path).run([Writer], runner) == [3, 3, 1]
    assert indices == [1]
    for index in (0, 2):
        assert job.units[index].path.stat().st_mtime_ns == times[job.units[index].name]


def test_changed_settings_make_all_outputs_again(tmp_path: Path):
    job, other = make_job(tmp_path), make_job(tmp_path, settings=2)
    assert not {unit.name for unit in job.units} & {unit.name for unit in other.units}


def test_interrupted_job_keeps_finished_outputs(tmp_path: Path):
    def runner(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
        yield next(iter(run_in_process(units, stages)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_job(tmp_path).run([Writer], runner)
    job = make_job(tmp_path)
    assert [unit.path.is_file() for unit in job.units] == [True, False, False]
    assert job.run([Writer], run_in_process) == [3, 3, 1]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("no such model"), "^no such model$"),
        (OSError(28, "No space left on device"), r"^disk full while writing .*part-00001-\w+\.parquet: "),
    ],
)
def test_user_error_ends_the_job(error: Exception, message: str, tmp_path: Path):
    job = make_job(tmp_path)
    results = list(run_in_process(job.units, [partial(FailingWriter, error)]))
    assert [bool(result.error) for result in results] == [False, True, False]  # a value for the runner
    job.units[0].path.unlink()
    job.units[2].path.unlink()
    with pytest.raises(UserError, match=message):
        job.run([partial(FailingWriter, error)], run_in_process)
    assert [unit.path.is_file() for unit in job.units] == [True, False, False]


def test_bug_in_a_stage_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, logger="melray")
    error = ValueError("wrong shape\nat layer 3")
    with pytest.raises(UserError, match=r"^ValueError: wrong shape; --log-level debug shows where$"):
        make_job(tmp_path).run([partial(FailingWriter, error)], run_in_process)
    assert "Traceback" in caplog.text and "at layer 3" in caplog.text


def test_stage_receives_result_of_previous_stage(tmp_path: Path):
    def read(unit: WorkUnit) -> list[str]:
        return [clip["clip_id"] for clip in unit.read_clips()]

    def write(unit: WorkUnit, ids: list[str]) -> int:
        write_text_atomically(unit.path, "\n".join(ids))
        return len(ids)

    assert make_job(tmp_path).run([lambda: read, lambda: write], run_in_process) == [3, 3, 1]


def test_stage_is_built_once_per_process(tmp_path: Path):
    built = []

    def build() -> Writer:
        built.append(1)
        return Writer()

    make_job(tmp_path).run([build], run_in_process)
    assert built == [1]


def test_progress_counts_clips_of_resumed_job(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    job = make_job(tmp_path)
    job.run([Writer], run_in_process)
    job.units[1].path.unlink()
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="melray"):
        job.run([Writer], run_in_process)
    (line,) = caplog.messages
    assert line.startswith("testing: 7 clips (4 of them earlier) in ") and line.endswith(", 7 rejected")


def test_finished_job_is_reported_as_finished(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    make_job(tmp_path).run([Writer], run_in_process)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="melray"):
        make_job(tmp_path).run([Writer], run_never)
    assert caplog.messages == ["testing: 7 clips already finished"]


def test_clean_up_keeps_outputs_of_current_plan(tmp_path: Path):
    make_job(tmp_path, settings=0).run([Writer], run_in_process)
    job = make_job(tmp_path)
    job.run([Writer], run_in_process)
    (tmp_path / ".part-00000-0.parquet.1a2b3c4d.tmp").touch()
    (tmp_path / ".attempts").mkdir()
    foreign = {"rejected.csv", "part-00000.parquet", "part-00000-4c3d-c000.snappy.parquet", ".part-x.tmp"}
    for name in foreign:
        (tmp_path / name).touch()
    assert (tmp_path / job.units[0].list_name).is_file()
    job.clean_up(keep_outputs=True)
    assert {path.name for path in tmp_path.iterdir()} == {unit.name for unit in job.units} | foreign


def test_units_read_only_the_list_of_their_plan(tmp_path: Path):
    """A job with other clips, planned meanwhile, must not change what the workers of the first read."""
    job = make_job(tmp_path)
    other = BatchJob("testing", manifest(9).iloc[::-1], 3, 1, tmp_path)
    assert job.run([Writer], run_in_process) == [3, 3, 1]
    assert job.units[0].path.read_text(encoding="utf-8") == "clip 0\nclip 1\nclip 2\n"
    assert other.units[0].read_clips()[0]["clip_id"] == "clip 8"


def test_clean_up_deletes_folder_of_temporary_outputs(tmp_path: Path):
    job = make_job(tmp_path / ".parts")
    job.run([Writer], run_in_process)
    job.clean_up()
    assert not list(tmp_path.iterdir())


def test_worker_process_builds_stages_once_per_job(tmp_path: Path):
    """Ray Data calls the mapped function once per unit, in worker processes that it reuses for other jobs."""
    built = []

    def build() -> Writer:
        built.append(1)
        return Writer()

    rows = [ray_runner._to_row(unit) for unit in make_job(tmp_path).units]
    first_job, second_job = ray_runner._row_function([build]), ray_runner._row_function([build])
    assert [ray_runner._to_result(first_job(row)).summary for row in rows] == [3, 3, 1]
    assert len(built) == 1
    second_job(rows[0])
    assert len(built) == 2
