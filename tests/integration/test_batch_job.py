"""Batch jobs on Ray give the results of a single process; GPUs are fake, so they exercise scheduling only."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from pipeline.distributed.batch_job import BatchJob, WorkUnit, run_in_process
from pipeline.distributed.ray_runner import RayRunner
from pipeline.io.errors import UserError
from pipeline.io.files import write_text_atomically

pytestmark = pytest.mark.usefixtures("fake_gpu_session")


@pytest.fixture(scope="module")
def fake_gpu_session() -> Iterator[None]:
    import ray

    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


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


def make_job(folder: Path) -> BatchJob:
    clips = pd.DataFrame({"clip_id": [f"clip {i}" for i in range(20)]})
    return BatchJob("testing", clips, 3, settings=None, folder=folder)


@pytest.mark.parametrize(
    "runner",
    [RayRunner(), RayRunner(workers=1), RayRunner(gpus=1), RayRunner(gpus=0.5)],
    ids=["all CPUs", "one worker", "one GPU", "two halves of a GPU"],
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
