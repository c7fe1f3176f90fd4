"""Launches training loops.

fit          one run: of a single worker as `run_tasks`, of several by Ray Train
run_tasks    several runs of one worker each, concurrently as far as resources allow: as tasks on Ray, if the
             command uses it (`pipeline/distributed/execution.py`), else in processes of this host

A run whose worker is lost resumes from its last epoch, wherever it runs.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.dataset import open_dataset
from pipeline.distributed.execution import start_ray, uses_ray
from pipeline.distributed.failures import WorkerLostError, is_worker_lost, worker_lost_error
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.distributed.resources import (
    cluster_nodes,
    max_cpus_per_worker,
    wait_for_resources,
)
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.io.text import plural
from pipeline.training.node_caches import fill_node_caches
from pipeline.training.progress import TrainingProgress
from pipeline.training.ray_train import fit_with_ray_train
from pipeline.training.run_folder import RunFolder
from pipeline.training.single_worker_runs import (
    LocalRuns,
    RayRuns,
    SingleWorkerRuns,
    TrainingTask,
    local_pool,
)
from pipeline.training.worker_process import ERROR_KEY

if TYPE_CHECKING:
    from pipeline.training.world import TrainLoop


def fit(loop: TrainLoop, config: Any, resources: ResourceConfig, run: Path) -> dict[str, Any]:
    """Run `loop(config, world)` on all workers to its end, restarting lost ones; return the result of rank 0.

    Raises:
        UserError: too few CPUs or GPUs, an error of the loop, or too many lost workers.
    """
    if resources.workers > 1:
        start_ray(f"--workers {resources.workers}")
    resources = resources.on_nodes(cluster_nodes())
    cpus = resolve_cpus(resources)
    if resources.workers == 1:
        return run_tasks({"": TrainingTask(loop, config, RunFolder(run))}, resources, cpus)[""]
    return fit_with_ray_train(loop, config, resources, run, cpus)


def resolve_cpus(resources: ResourceConfig) -> int:
    """Check that there are enough resources; return the CPUs of each worker, by default an equal share.

    Raises:
        UserError: too few resources; Ray would wait for them without a message.
    """
    request = resources.need(resources.cpus_per_worker or 1)
    workers_hint = "lower --min-workers" if resources.min_workers else "lower --workers"
    nodes = wait_for_resources(
        request,
        resources.wait_for_nodes,
        f"{workers_hint} or --{'gpus' if request.gpus else 'cpus'}-per-worker",
    )
    if resources.cpus_per_worker is not None:
        return resources.cpus_per_worker
    return max_cpus_per_worker(replace(request, workers=resources.workers, cpus=1), nodes)


def run_tasks(
    tasks: dict[str, TrainingTask], resources: ResourceConfig, cpus: int
) -> dict[str, dict[str, Any]]:
    """Run each task to its end, concurrently as far as resources allow; return their results by name.

    Args:
        tasks: tasks by name, which is the prefix of progress lines; may be "" for a single task.
        resources: resource settings of each task, with a chosen number of GPUs.
        cpus: CPUs of each task.

    Raises:
        UserError: the first error of a loop, or too many lost workers.
    """
    gpus = resources.gpus_per_worker or 0.0
    if gpus and len(tasks) > 1:
        start_ray("sharing the GPUs among several runs")
    folders = dict.fromkeys(folder for task in tasks.values() for folder in task.config.shard_folders)
    with ExitStack() as stack:
        if uses_ray():
            fill_node_caches(folders, resources.request(len(tasks), cpus))
            runs: SingleWorkerRuns = RayRuns(cpus, gpus, resources.worker_options)
        else:
            for folder in folders:
                open_dataset(folder)  # fills the cache; a worker would, but without progress on the console
            logger.info("training on this host, %s per run (--ray: on Ray)", plural(cpus, "CPU"))
            runs = LocalRuns(stack.enter_context(local_pool(len(tasks), cpus)), cpus, gpus)
        stack.enter_context(TrainingProgress({name: task.run for name, task in tasks.items()}))
        return _run_all(tasks, runs, resources.max_failures)


def _run_all(
    tasks: dict[str, TrainingTask], runs: SingleWorkerRuns, max_failures: int
) -> dict[str, dict[str, Any]]:
    """Run all tasks, again if their worker is lost; return their results by name.

    Raises:
        UserError: the first error of a loop, or too many lost workers.
    """
    failures = dict.fromkeys(tasks, 0)
    results: dict[str, dict[str, Any]] = {}
    for name, task in tasks.items():
        runs.submit(name, task)
    for name, result, error in runs.results():
        if error is not None:
            failures[name] += 1
            if not is_worker_lost(error) or failures[name] > max_failures:
                cause = worker_lost_error(error, max_failures)
                raise cause from (None if cause is error else error)
            reason = str(error) if isinstance(error, WorkerLostError) else type(error).__name__
            prefix = f"{name}: " if name else ""
            logger.warning("%sworker lost (%s); resuming from the last epoch", prefix, reason)
            runs.submit(name, tasks[name])
        else:
            assert result is not None
            if ERROR_KEY in result:
                raise UserError(result[ERROR_KEY])
            results[name] = result
    return results
