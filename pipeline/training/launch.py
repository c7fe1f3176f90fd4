"""Launches training loops on the Ray cluster: as plain tasks, or by Ray Train for several workers.

fit          one run: a plain task for a single worker, which starts ten seconds sooner, else Ray Train
run_tasks    several runs of one worker each, concurrently as far as the cluster's resources allow

Ray Train schedules the workers, forms the process group, and restarts all workers when one is lost. melray
writes its own checkpoints: the same code with or without Ray, and no barrier as in `ray.train.report`.
"""

from __future__ import annotations

import logging
import os
import traceback
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pipeline.distributed.devices import collective_backend, worker_device
from pipeline.distributed.failures import (
    is_gpu_memory_error,
    is_worker_lost,
    root_cause,
    training_memory_error,
    worker_lost_error,
)
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.distributed.resources import (
    ResourceRequest,
    cluster_nodes,
    max_cpus_per_worker,
    wait_for_resources,
)
from pipeline.distributed.worker import COLLECTIVE_TIMEOUT_S, STEP_TIMEOUT_S
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.io.storage import remove_tree, storage_arguments
from pipeline.training.node_caches import fill_node_caches
from pipeline.training.progress import TrainingProgress
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import TrainLoop, World

# Key of a user error in the result of a worker: Ray would retry an exception.
ERROR_KEY = "error"
# Seconds to wait for resources after a node was lost: until an autoscaler replaces it; in elastic training,
# until Ray Train detects the loss and requests fewer workers.
NODE_WAIT_S, ELASTIC_NODE_WAIT_S = 1200, 30


@dataclass(frozen=True)
class TrainingTask:
    """A training loop with its settings and its run folder."""

    loop: TrainLoop
    config: Any
    run: RunFolder


def fit(loop: TrainLoop, config: Any, resources: ResourceConfig, run: Path) -> dict[str, Any]:
    """Run `loop(config, world)` on all workers to its end, restarting lost ones; return the result of rank 0.

    Raises:
        UserError: too few CPUs or GPUs, an error of the loop, or too many lost workers.
    """
    resources = resources.on_nodes(cluster_nodes())
    cpus = resolve_cpus(resources)
    if resources.workers == 1:
        return run_tasks({"": TrainingTask(loop, config, RunFolder(run))}, resources, cpus)[""]
    return _fit_with_ray_train(loop, config, resources, run, cpus)


def resolve_cpus(resources: ResourceConfig) -> int:
    """Check that the cluster has enough resources; return the CPUs of each worker, by default an equal share.

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
    import ray

    gpus = resources.gpus_per_worker or 0.0
    folders = dict.fromkeys(folder for task in tasks.values() for folder in task.config.shard_folders)
    fill_node_caches(folders, ResourceRequest(len(tasks), cpus, gpus))
    remote_task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_run_task).options(name="training")
    failures = dict.fromkeys(tasks, 0)
    results: dict[str, dict[str, Any]] = {}

    def submit(name: str) -> Any:
        task = tasks[name]
        return remote_task.remote(task.loop, task.config, cpus, gpus)

    with TrainingProgress({name: task.run for name, task in tasks.items()}):
        running = {submit(name): name for name in tasks}
        while running:
            (finished,), _ = ray.wait(list(running))
            name = running.pop(finished)
            try:
                result = ray.get(finished)
            except ray.exceptions.RayError as error:
                failures[name] += 1
                if not is_worker_lost(error) or failures[name] > resources.max_failures:
                    raise worker_lost_error(error, resources.max_failures) from error
                prefix = f"{name}: " if name else ""
                logger.warning(
                    "%sworker lost (%s); resuming from the last epoch", prefix, type(error).__name__
                )
                running[submit(name)] = name
                continue
            if ERROR_KEY in result:
                raise UserError(result[ERROR_KEY])
            results[name] = result
    return results


def _run_task(loop: TrainLoop, config: Any, cpus: int, gpus: float) -> dict[str, Any]:
    """Run a single-worker loop, in the worker process; return its result, or its error under `ERROR_KEY`."""
    try:
        device = worker_device(gpus)
        _set_up_process(cpus, device)
        return _run_loop(loop, config, World(0, 1, device, STEP_TIMEOUT_S))
    except UserError as error:
        return {ERROR_KEY: str(error)}


def _fit_with_ray_train(
    loop: TrainLoop, config: Any, resources: ResourceConfig, run: Path, cpus: int
) -> dict[str, Any]:
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    elastic = resources.min_workers is not None
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(
        ELASTIC_NODE_WAIT_S if elastic else NODE_WAIT_S
    )
    gpus = resources.gpus_per_worker or 0.0
    fill_node_caches(config.shard_folders, ResourceRequest(resources.workers, cpus, gpus))
    scratch = run / ".ray"
    trainer = TorchTrainer(
        _run_ray_train_worker,  # type: ignore[arg-type]
        train_loop_config={"loop": loop, "config": config, "cpus": cpus, "gpus": gpus},
        scaling_config=ray.train.ScalingConfig(
            num_workers=(resources.min_workers, resources.workers) if elastic else resources.workers,  # type: ignore[arg-type]
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": cpus} | ({"GPU": gpus} if gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            name=uuid.uuid4().hex[:8],  # melray resumes from its own checkpoints
            **storage_arguments(scratch),
            failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]
                max_failures=resources.max_failures,
                controller_failure_limit=NODE_WAIT_S // ELASTIC_NODE_WAIT_S if elastic else 1,
            ),
            callbacks=[_end_after_error()],
        ),
        torch_config=TorchConfig(backend=collective_backend(gpus), timeout_s=COLLECTIVE_TIMEOUT_S),
    )
    with TrainingProgress({"": RunFolder(run)}):
        try:
            result = trainer.fit().return_value  # type: ignore[attr-defined]
        except SystemExit:
            # Ray Train's own handler of Ctrl-C: it has ended the workers, and would end the process silently.
            raise KeyboardInterrupt from None
        except ray.train.TrainingFailedError as error:
            raise _final_error(error, resources.max_failures) from error
        finally:
            remove_tree(scratch)
    if not isinstance(result, dict):
        raise RuntimeError(f"the training loop returned {result!r}")
    return result


def _final_error(error: Exception, max_failures: int) -> BaseException:
    """Return the error of a run that Ray Train has given up."""
    cause = root_cause(error)
    # Ray Train forms the process group before the workers can check their device.
    if type(cause) is RuntimeError and "have NCCL built in" in str(cause):
        return UserError("the workers have GPUs, but their torch is built without CUDA: use --device cpu")
    return worker_lost_error(error, max_failures)


def _end_after_error() -> Any:
    """Create a callback of Ray Train's controller that ends a run at the first error of a loop.

    Ray Train itself would retry it, as it does after the loss of a worker, and does not wait for the other
    workers, which may be in a collective with the one that failed.
    """
    import ray.train

    class EndAfterError(ray.train.UserCallback):
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            for error in worker_exceptions.values():
                if not is_worker_lost(error):
                    raise error

    return EndAfterError()


def _run_ray_train_worker(setup: dict[str, Any]) -> dict[str, Any]:
    """Run a loop as one of several workers, in the worker process."""
    import ray.train.torch

    device = worker_device(setup["gpus"])
    if device.type == "cuda":
        device = ray.train.torch.get_device()  # Ray Train makes the GPUs of all workers on the node visible
    _set_up_process(setup["cpus"], device)
    try:
        return _run_loop(setup["loop"], setup["config"], World.current(device, STEP_TIMEOUT_S))
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))  # Ray Train transfers no traceback
        raise


def _set_up_process(cpus: int, device: torch.device) -> None:
    torch.set_num_threads(cpus)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL and the caching allocator use the current device


def _run_loop(loop: TrainLoop, config: Any, world: World) -> dict[str, Any]:
    """Run a loop to its end; return its result.

    Raises:
        UserError: that of the loop, or too little GPU memory.
    """
    try:
        return loop(config, world)
    except Exception as error:
        if is_gpu_memory_error(error):
            raise training_memory_error(error, config) from None
        raise
