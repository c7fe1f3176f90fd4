"""GPUs and errors of workers on Ray; the GPUs are fake, so they exercise scheduling and messages only."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray
import torch
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pipeline.classifier.config import TrainClassifierConfig
from pipeline.distributed import devices
from pipeline.distributed.batch_job import BatchJob, Stage, run_in_process
from pipeline.distributed.ray_runner import RayRunner
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.distributed.resources import cluster_nodes
from pipeline.distributed.work_unit import WorkUnit
from pipeline.io.errors import UserError
from pipeline.io.files import write_text_atomically
from pipeline.training.launch import fit
from pipeline.training.world import World
from tests.helpers.local_ray import SharedRay, fake_gpus
from tests.helpers.sounds import train_config, write_shards
from tests.pipeline.distributed.test_failures import GPU_MEMORY_TEXT
from tests.tune.trial.test_scores import trial_spec
from tune.trial.workers import TrialWorkers

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def record_attempt(config: TrainClassifierConfig, world: World) -> None:
    (config.run / f"attempt-{time.time_ns()}-{world.rank}").touch()


def exceed_gpu_memory(config: TrainClassifierConfig, world: World) -> dict[str, Any]:
    """Training loop whose last worker lacks GPU memory, while the others wait for it."""
    record_attempt(config, world)
    if world.rank == world.size - 1:
        raise torch.cuda.OutOfMemoryError(GPU_MEMORY_TEXT)
    world.sum(torch.zeros(1))
    return {}


def divide_by_zero(config: TrainClassifierConfig, world: World) -> dict[str, Any]:
    """Training loop whose last worker has a bug, while the others wait for it."""
    record_attempt(config, world)
    return {"value": 1 / (world.size - 1 - world.rank) and float(world.sum(torch.zeros(1)))}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("tones"), clips=4)


def start(loop: Any, shards: Path, run: Path, **resources: Any) -> None:
    config = train_config(shards, run, **resources)
    fit(loop, config, config.subset(ResourceConfig), run)


@pytest.mark.usefixtures("one_gpu")
class TestTraining:
    @pytest.mark.timeout(240)  # starts two processes that import torch, on a host that may be busy
    def test_trial_reports_error_of_other_worker(self, tmp_path: Path) -> None:
        group = ray.util.placement_group([{"CPU": 1}] * 2)
        strategy = PlacementGroupSchedulingStrategy(
            group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
        )
        task = ray.remote(num_cpus=1, scheduling_strategy=strategy)(run_failing_trial)
        try:
            error_type, seconds = ray.get(task.remote(tmp_path), timeout=200)
        finally:
            ray.util.remove_placement_group(group)
        # Without the error of the other worker, rank 0 would wait for it for a day.
        assert error_type == "OutOfMemoryError" and seconds < 120

    @pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
    def test_gpu_memory_error_is_not_retried(self, workers: int, shards: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"^out of GPU memory: lower --batch-size \(now 16\)"):
            start(exceed_gpu_memory, shards, tmp_path, workers=workers)
        assert len(list(tmp_path.glob("attempt-*"))) == workers

    @pytest.mark.slow
    def test_bug_of_one_worker_is_not_retried(self, shards: Path, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError):
            start(divide_by_zero, shards, tmp_path, workers=2)
        assert len(list(tmp_path.glob("attempt-*"))) == 2

    @without_gpu
    @pytest.mark.parametrize(
        ("workers", "gpus"),
        [(1, 1), pytest.param(2, 0.5, marks=pytest.mark.slow), pytest.param(2, 1, marks=pytest.mark.slow)],
    )
    def test_torch_without_gpu_is_reported(
        self, workers: int, gpus: float, shards: Path, tmp_path: Path, shared_ray: SharedRay
    ) -> None:
        shared_ray.use(gpus=math.ceil(workers * gpus))
        with pytest.raises(UserError, match=r"torch .*(is built without CUDA|finds no GPU).*--device cpu"):
            start(exceed_gpu_memory, shards, tmp_path, workers=workers, gpus_per_worker=gpus)
        assert not list(tmp_path.glob("attempt-*"))


class FailingSettings(list[Any]):
    """Settings of a trial that raise an error in every process but the one that created them."""

    def __init__(self) -> None:
        super().__init__()
        self.creator = os.getpid()

    def __reduce__(self) -> Any:
        return _restore_settings, (self.creator,)

    def __iter__(self) -> Iterator[Any]:
        if os.getpid() != self.creator:
            raise torch.cuda.OutOfMemoryError(GPU_MEMORY_TEXT)
        return super().__iter__()


def _restore_settings(creator: int) -> FailingSettings:
    settings = FailingSettings()
    settings.creator = creator
    return settings


def run_failing_trial(folder: Path) -> tuple[str, float]:
    """Run rank 0 of a trial whose other worker fails; return the type of the error, and after how long."""
    workers = TrialWorkers(trial_spec(folder, folder, workers=2))
    world = workers.begin(FailingSettings())
    start_time = time.monotonic()
    try:
        world.sum(torch.zeros(1))
    except Exception as error:
        cause = workers.cause_of(error)
        return type(cause).__name__, time.monotonic() - start_time
    finally:
        workers.end()
        workers.close()
    return "", 0.0


class Reader:
    """Stage that returns the ids of a unit, or raises an error, or returns what cannot be pickled."""

    def __init__(self, attempts: Path, outcome: str = "") -> None:
        self._attempts, self._outcome = attempts, outcome

    def __call__(self, unit: WorkUnit) -> Any:
        (self._attempts / f"{unit.index}-{time.time_ns()}").touch()
        if self._outcome == "bug":
            raise ZeroDivisionError("division by zero")
        return (lambda: None) if self._outcome else [clip["clip_id"] for clip in unit.read_clips()]


def make_writer() -> Stage:
    """Return a stage that writes the ids of a unit."""

    def write(unit: WorkUnit, ids: list[str]) -> list[str]:
        write_text_atomically(unit.path, "\n".join(ids))
        return ids

    return write


def make_job(folder: Path, units: int = 6) -> BatchJob:
    clips = pd.DataFrame({"clip_id": [f"clip {i}" for i in range(3 * units)]})
    return BatchJob("testing", clips, 3, settings=None, folder=folder)


@pytest.mark.slow
@pytest.mark.usefixtures("no_ray_session")
@pytest.mark.parametrize("gpu_stage", [0, 1])
def test_one_cpu_is_enough_for_one_gpu(gpu_stage: int, tmp_path: Path) -> None:
    stages = [partial(Reader, tmp_path), make_writer]
    expected = make_job(tmp_path / "process").run(stages, run_in_process)
    with fake_gpus(cpus=1, gpus=1):
        runner = RayRunner(gpus=1, gpu_stage=gpu_stage)
        assert make_job(tmp_path / "ray").run(stages, runner) == expected


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        ("bug", r"^ZeroDivisionError: division by zero; --log-level debug"),
        pytest.param("unpicklable", r"pickle", marks=pytest.mark.slow),
    ],
)
def test_error_of_cpu_stage_is_not_retried(outcome: str, message: str, tmp_path: Path) -> None:
    attempts = tmp_path / "attempts"
    attempts.mkdir()
    job = make_job(tmp_path / "out", units=1)
    with pytest.raises(UserError, match=message) as error:
        job.run([partial(Reader, attempts, outcome), make_writer], RayRunner(gpus=1))
    assert len(list(attempts.iterdir())) == 1 and "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif(torch.backends.cuda.is_built(), reason="torch is built with CUDA")
@pytest.mark.usefixtures("no_ray_session")
def test_gpu_of_node_without_cpus_is_unused(tmp_path: Path) -> None:
    with fake_gpus(cpus=0, gpus=1):
        assert devices.resolve_gpus(devices.DeviceConfig(), 1, cluster_nodes()) == 0
        with pytest.raises(UserError, match=r"^needs 1 worker with 1 CPU, but only 0 fit"):
            make_job(tmp_path / "out").run([partial(Reader, tmp_path), make_writer], RayRunner(gpus=1))
