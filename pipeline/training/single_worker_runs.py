"""Runs of one worker each, several at a time: as tasks on Ray, or in processes of this host.

Both have the same two functions: `submit` starts a run as soon as there is room, `results` yields how runs
ended, until none is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pipeline.distributed.execution import local_cpus
from pipeline.distributed.processes import ProcessPool
from pipeline.distributed.worker_options import WorkerOptions
from pipeline.training.run_folder import RunFolder
from pipeline.training.worker_process import run_single_worker

if TYPE_CHECKING:
    from pipeline.training.world import TrainLoop


@dataclass(frozen=True)
class TrainingTask:
    """A training loop with its settings and its run folder."""

    loop: TrainLoop
    config: Any
    run: RunFolder


class RunEnd(NamedTuple):
    """How a run has ended."""

    name: str
    result: dict[str, Any] | None = None
    error: Exception | None = None
    """Error of the loop, or of the loss of its worker; a `UserError` is in `result`."""


class SingleWorkerRuns(Protocol):
    """Where runs are run."""

    def submit(self, name: str, task: TrainingTask) -> None: ...

    def results(self) -> Iterator[RunEnd]: ...


class RayRuns:
    """Runs as Ray tasks, on whichever node has room."""

    def __init__(self, cpus: int, gpus: float, options: WorkerOptions):
        """Set the resources of each run."""
        import ray

        self._resources = cpus, gpus
        # Without retries: Ray would not say that it has lost a worker.
        task: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(run_single_worker)
        self._task = task.options(name="training", **options.remote_options)
        self._running: dict[Any, str] = {}

    def submit(self, name: str, task: TrainingTask) -> None:
        self._running[self._task.remote(task.loop, task.config, *self._resources)] = name

    def results(self) -> Iterator[RunEnd]:
        import ray

        while self._running:
            (finished,), _ = ray.wait(list(self._running))
            name = self._running.pop(finished)
            try:
                yield RunEnd(name, ray.get(finished))
            except ray.exceptions.RayError as error:
                yield RunEnd(name, error=error)


class LocalRuns:
    """Runs in processes of this host, limited by its CPUs; on its first GPU if at all."""

    def __init__(self, pool: ProcessPool, cpus: int, gpus: float):
        """Set the resources of each run, which `pool` was created for."""
        self._pool, self._resources = pool, (cpus, gpus)

    def submit(self, name: str, task: TrainingTask) -> None:
        self._pool.submit(name, run_single_worker, task.loop, task.config, *self._resources)

    def results(self) -> Iterator[RunEnd]:
        for name, result, error in self._pool.results():
            yield RunEnd(name, result, error)


def local_pool(runs: int, cpus: int) -> ProcessPool:
    """Return the processes for a number of runs with `cpus` threads each."""
    return ProcessPool(max(1, min(runs, local_cpus() // cpus)), threads=cpus)
