"""Launches training loops on the Ray cluster: as plain tasks, or by Ray Train for several workers.

fit          one run: a plain task for a single worker, which starts ten seconds sooner, else Ray Train
run_tasks    several runs of one worker each, concurrently as far as the cluster's resources allow

Ray Train schedules the workers, forms the process group, and restarts all workers when one is lost. melray
writes its own checkpoints: the same code with or without Ray, and no barrier as in `ray.train.report`.
"""

from __future__ import annotations

import logging
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.distributed.resources import (
    ResourceConfig,
    ResourceRequest,
    max_cpus_per_worker,
    wait_for_resources,
)
from pipeline.distributed.worker import STEP_TIMEOUT_S, worker_lost_error
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.io.storage import remove_tree, storage_arguments
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
    return max_cpus_per_worker(ResourceRequest(resources.workers, 1, resources.gpus_per_worker), nodes)


def run_tasks(
    tasks: dict[str, TrainingTask], resources: ResourceConfig, cpus: int
) -> dict[str, dict[str, Any]]:
    """Run each task to its end, concurrently as far as resources allow; return their results by name.

    Args:
        tasks: tasks by name, which is the prefix of progress lines; may be "" for a single task.
        resources: resource settings of each task.
        cpus: CPUs of each task.

    Raises:
        UserError: the first error of a loop, or too many lost workers.
    """
    import ray

    remote_task = ray.remote(num_cpus=cpus, num_gpus=resources.gpus_per_worker, max_retries=0)(
        _run_task
    ).options(name="training")
    failures = dict.fromkeys(tasks, 0)
    results: dict[str, dict[str, Any]] = {}

    def submit(name: str) -> Any:
        task = tasks[name]
        return remote_task.remote(task.loop, task.config, cpus, resources.gpus_per_worker > 0)

    with TrainingProgress({name: task.run for name, task in tasks.items()}):
        running = {submit(name): name for name in tasks}
        while running:
            (finished,), _ = ray.wait(list(running))
            name = running.pop(finished)
            try:
                result = ray.get(finished)
            except ray.exceptions.RayError as error:
                failures[name] += 1
                if isinstance(error, ray.exceptions.RayTaskError) or failures[name] > resources.max_failures:
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


def _run_task(loop: TrainLoop, config: Any, cpus: int, gpu: bool) -> dict[str, Any]:
    """Run a single-worker loop, in the worker process."""
    # Ray makes a single GPU visible to this process.
    device = torch.device("cuda", 0) if gpu else torch.device("cpu")
    _set_up_process(cpus, device)
    return _run_loop(loop, config, World(0, 1, device, STEP_TIMEOUT_S))


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
    gpus = resources.gpus_per_worker
    scratch = run / ".ray"
    trainer = TorchTrainer(
        _run_ray_train_worker,  # type: ignore[arg-type]
        train_loop_config={"loop": loop, "config": config, "cpus": cpus, "gpu": gpus > 0},
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
        ),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=300),
    )
    with TrainingProgress({"": RunFolder(run)}):
        try:
            result = trainer.fit().return_value  # type: ignore[attr-defined]
        except SystemExit:
            # Ray Train's own handler of Ctrl-C: it has ended the workers, and would end the process silently.
            raise KeyboardInterrupt from None
        except ray.train.TrainingFailedError as error:
            failures = getattr(error, "worker_failures", None) or {}
            cause = next(iter(failures.values()), error)
            raise worker_lost_error(cause, resources.max_failures) from error
        finally:
            remove_tree(scratch)
    if not isinstance(result, dict):
        raise RuntimeError(f"the training loop returned {result!r}")
    if ERROR_KEY in result:
        raise UserError(result[ERROR_KEY])
    return result


def _run_ray_train_worker(setup: dict[str, Any]) -> dict[str, Any]:
    """Run a loop as one of several workers, in the worker process."""
    import ray.train.torch

    device = ray.train.torch.get_device() if setup["gpu"] else torch.device("cpu")
    _set_up_process(setup["cpus"], device)
    return _run_loop(setup["loop"], setup["config"], World.current(device, STEP_TIMEOUT_S))


def _set_up_process(cpus: int, device: torch.device) -> None:
    torch.set_num_threads(cpus)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # objects gathered by NCCL are transferred via the current device


def _run_loop(loop: TrainLoop, config: Any, world: World) -> dict[str, Any]:
    """Run a loop; return its result, or its user error under `ERROR_KEY`."""
    try:
        return loop(config, world)
    except UserError as error:
        return {ERROR_KEY: str(error)}
