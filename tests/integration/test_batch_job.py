"""Batch jobs on Ray give the results of a single process; GPUs are fake, so they exercise scheduling only."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from pipeline.distributed.batch_job import BatchJob, run_in_process
from pipeline.distributed.ray_runner import RayRunner
from pipeline.distributed.work_unit import WorkUnit
from pipeline.io.errors import UserError
from pipeline.io.files import write_text_atomically

pytestmark = pytest.mark.usefixtures("one_gpu")


class Reader:
    """First stage: reads the clip ids."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def __call__(self, unit: WorkUnit) -> list[str]:
        if self._prefix == "invalid":
            raise UserError("invalid prefix")
        return [self._prefix + clip["clip_id"] for clip in unit.read_clips()]


class Writer:
    """Second stage: writes the ids."""

    def __call__(self, unit: WorkUnit, ids: list[str]) -> list[str]:
        write_text_atomically(unit.path, "\n".join(ids))
        return ids


class CrashingWriter(Writer):
    """Writer that kills its process at the second unit, a number of times."""

    def __init__(self, folder: Path, crashes: int) -> None:
        self._folder, self._crashes = folder, crashes

    def __call__(self, unit: WorkUnit, ids: list[str]) -> list[str]:
        count = len(list(self._folder.glob("crash-*")))
        if unit.index == 1 and count < self._crashes:
            (self._folder / f"crash-{count}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(unit, ids)


class BuggyWriter(Writer):
    """Writer that raises an error at the second unit."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, unit: WorkUnit, ids: list[str]) -> list[str]:
        if unit.index == 1:
            raise self._error
        return super().__call__(unit, ids)


def make_job(folder: Path) -> BatchJob:
    clips = pd.DataFrame({"clip_id": [f"clip {i}" for i in range(20)]})
    return BatchJob("testing", clips, 3, settings=None, folder=folder)


@pytest.mark.parametrize(
    "runner",
    [
        pytest.param(RayRunner(), id="all CPUs"),
        pytest.param(RayRunner(workers=1), id="one worker", marks=pytest.mark.slow),
        pytest.param(RayRunner(gpus=1), id="one GPU", marks=pytest.mark.slow),
        pytest.param(RayRunner(gpus=0.5), id="two halves of a GPU"),
    ],
)
def test_ray_gives_results_of_single_process(runner: RayRunner, tmp_path: Path) -> None:
    stages = [partial(Reader, "a "), Writer]
    expected = make_job(tmp_path / "process").run(stages, run_in_process)
    job = make_job(tmp_path / "ray")
    assert job.run(stages, runner) == expected
    assert [unit.path.read_text().splitlines() for unit in job.units] == expected


@pytest.mark.parametrize("runner", [RayRunner(), RayRunner(gpus=1)], ids=["cpu", "gpu"])
def test_user_error_of_first_stage_ends_job(runner: RayRunner, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    with pytest.raises(UserError, match=r"^invalid prefix$"):
        job.run([partial(Reader, "invalid"), Writer], runner)
    assert not any(unit.path.exists() for unit in job.units)


CPU_TASKS = pytest.param(RayRunner(workers=2), id="CPU tasks")
GPU_ACTORS = pytest.param(RayRunner(gpus=1), id="GPU actors")
ON_CPU_AND_GPU = pytest.mark.parametrize("runner", [CPU_TASKS, GPU_ACTORS])


@pytest.mark.slow
def test_unit_of_killed_actor_is_run_again(tmp_path: Path) -> None:
    crashes = tmp_path / "crashes"
    crashes.mkdir()
    stages = [partial(Reader, "a "), partial(CrashingWriter, crashes, 2)]
    results = make_job(tmp_path / "out").run(stages, RayRunner(gpus=1))
    assert results == make_job(tmp_path / "process").run([partial(Reader, "a "), Writer], run_in_process)
    assert len(list(crashes.iterdir())) == 2


@pytest.mark.parametrize(
    "runner", [CPU_TASKS, pytest.param(RayRunner(gpus=1), id="GPU actors", marks=pytest.mark.slow)]
)
def test_worker_killed_at_every_attempt_ends_job(runner: RayRunner, tmp_path: Path) -> None:
    """Memory that runs out looks the same."""
    crashes = tmp_path / "crashes"
    crashes.mkdir()
    job = make_job(tmp_path / "out")
    message = r"^the worker process was lost 4 times at 3 clips from 'clip 3' on, .* memory: lower --workers"
    with pytest.raises(UserError, match=message):
        job.run([partial(Reader, "a "), partial(CrashingWriter, crashes, 1000)], runner)
    assert len(list(crashes.iterdir())) == 4
    assert job.units[0].path.exists() and not job.units[1].path.exists()


@ON_CPU_AND_GPU
def test_bug_in_a_stage_ends_job(runner: RayRunner, tmp_path: Path) -> None:
    error = ValueError("wrong shape\nat layer 3")
    with pytest.raises(UserError, match=r"^ValueError: wrong shape; --log-level debug shows where$"):
        make_job(tmp_path).run([partial(Reader, "a "), partial(BuggyWriter, error)], runner)
