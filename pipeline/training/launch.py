"""Brings a training loop onto the cluster, by Ray Train where there are several workers, and shows its progress.

Ray Train places the workers, forms the process group, and starts all of them again when one is lost. Checkpoints are
melray's own, in the run folder: one exact mechanism, with or without Ray, and without the barrier of a report.
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
from pipeline.io.errors import UserError
from pipeline.io.storage import remove_tree, storage_arguments
from pipeline.training.progress import TrainingProgress
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import TrainLoop, World

# What a loop may return to say that it ended by the user's doing: Ray would retry an exception.
ERROR_KEY = "fault"
# Seconds to wait for room where a machine was lost and another may be rented; and where fewer workers may go on: Ray Train asks for
# all of them until it knows of the loss.
NODE_WAIT_S, ELASTIC_NODE_WAIT_S = 1200, 30


def fit(loop: TrainLoop, config: Any, resources: ResourceConfig, run: Path) -> dict[str, Any]:
    """Runs `loop(config, world)` on all workers until it ends, through lost workers; returns what the first returned.

    An only worker is a plain task, which begins ten seconds sooner; several are Ray Train's.

    Raises:
        UserError: not enough CPUs or GPUs, the loop's own, or too many lost workers.
    """
    cpus = resolve_cpus(resources)
    if resources.workers == 1:
        return run_tasks({"": Task(loop, config, RunFolder(run))}, resources, cpus)[""]
    return _fit_with_ray_train(loop, config, resources, run, cpus)


def _fit_with_ray_train(
    loop: TrainLoop, config: Any, resources: ResourceConfig, run: Path, cpus: int
) -> dict[str, Any]:
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(
        NODE_WAIT_S if resources.min_workers is None else ELASTIC_NODE_WAIT_S
    )
    scratch = run / ".ray"
    trainer = TorchTrainer(
        _worker,  # type: ignore[arg-type]
        train_loop_config={
            "loop": loop,
            "config": config,
            "cpus": cpus,
            "gpu": resources.gpus_per_worker > 0,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=(resources.min_workers, resources.workers)
            if resources.min_workers
            else resources.workers,  # type: ignore[arg-type]
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker={"CPU": cpus}
            | ({"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}),
        ),
        run_config=ray.train.RunConfig(
            name=uuid.uuid4().hex[:8],  # ours is the resuming, not Ray's
            **storage_arguments(scratch),
            failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]
                max_failures=resources.max_failures,
                controller_failure_limit=1
                if resources.min_workers is None
                else NODE_WAIT_S // ELASTIC_NODE_WAIT_S,
            ),
        ),
        torch_config=TorchConfig(backend="nccl" if resources.gpus_per_worker else "gloo", timeout_s=300),
    )
    with TrainingProgress({"": RunFolder(run)}):
        try:
            result = trainer.fit().return_value  # type: ignore[attr-defined]
        except SystemExit:
            # Ray Train's own handler of Ctrl-C: it has ended the workers, and would end the process without a word.
            raise KeyboardInterrupt from None
        except ray.train.TrainingFailedError as error:
            raise _explained(error, resources) from error
        finally:
            remove_tree(scratch)
    if not isinstance(result, dict):
        raise RuntimeError(f"the training loop returned {result!r}")
    if ERROR_KEY in result:
        raise UserError(result[ERROR_KEY])
    return result


def _worker(setup: dict[str, Any]) -> dict[str, Any]:
    """Runs on every worker."""
    import ray.train.torch

    torch.set_num_threads(setup["cpus"])
    device = torch.device("cpu")
    if setup["gpu"]:
        device = ray.train.torch.get_device()
        torch.cuda.set_device(device)  # objects that NCCL gathers travel through the current device
    try:
        return setup["loop"](setup["config"], World.current(device, STEP_TIMEOUT_S))
    except UserError as error:
        return {ERROR_KEY: str(error)}


def resolve_cpus(resources: ResourceConfig) -> int:
    """Sees to it that the cluster has room for a training; returns the CPUs of each worker: as asked for, or an even part.

    Raises:
        UserError: with what is missing; Ray would wait for it.
    """
    need = resources.need(resources.cpus_per_worker or 1)
    fewer = "lower --min-workers" if resources.min_workers else "lower --workers"
    nodes = wait_for_resources(
        need, resources.wait_for_nodes, f"{fewer} or --{'gpus' if need.gpus else 'cpus'}-per-worker"
    )
    if resources.cpus_per_worker is not None:
        return resources.cpus_per_worker
    return max_cpus_per_worker(ResourceRequest(resources.workers, 1, resources.gpus_per_worker), nodes)


def _explained(error: Exception, resources: ResourceConfig) -> Exception:
    failures = getattr(error, "worker_failures", None) or {}
    return worker_lost_error(next(iter(failures.values()), error), resources.max_failures)


@dataclass(frozen=True)
class Task:
    """A training loop with its settings and the folder of its run."""

    loop: TrainLoop
    config: Any
    run: RunFolder


def run_tasks(tasks: dict[str, Task], resources: ResourceConfig, cpus: int) -> dict[str, dict[str, Any]]:
    """Runs each to its end, as many together as the cluster has room for; returns what the loops returned.

    Args:
        tasks: by the name that stands before the lines of its progress; an only one may be named "".
        resources: of each.
        cpus: of each.

    Raises:
        UserError: the first of theirs, or too many lost workers.
    """
    import ray

    remote = ray.remote(num_cpus=cpus, num_gpus=resources.gpus_per_worker, max_retries=0)(_run).options(
        name="training"
    )
    failures = dict.fromkeys(tasks, 0)
    results: dict[str, dict[str, Any]] = {}

    def send(name: str) -> Any:
        return remote.remote(tasks[name].loop, tasks[name].config, cpus, resources.gpus_per_worker > 0)

    with TrainingProgress({name: task.run for name, task in tasks.items()}):
        waiting = {send(name): name for name in tasks}
        while waiting:
            (done,), _ = ray.wait(list(waiting))
            name = waiting.pop(done)
            try:
                result, fault = ray.get(done)
            except ray.exceptions.RayError as error:
                failures[name] += 1
                if isinstance(error, ray.exceptions.RayTaskError) or failures[name] > resources.max_failures:
                    raise worker_lost_error(error, resources.max_failures) from error
                print(
                    f"{name}{': ' if name else ''}a worker was lost ({type(error).__name__}); going on from the last epoch",
                    flush=True,
                )
                waiting[send(name)] = name
                continue
            if fault is not None:
                raise UserError(fault)
            results[name] = result
    return results


def _run(loop: TrainLoop, config: Any, cpus: int, gpu: bool) -> tuple[dict[str, Any] | None, str | None]:
    """Runs on a worker; returns the loop's result, or the user's fault: Ray would try an exception again."""
    torch.set_num_threads(cpus)
    # The only one that Ray lets this process see.
    device = torch.device("cuda", 0) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    try:
        return loop(config, World(0, 1, device, STEP_TIMEOUT_S)), None
    except UserError as error:
        return None, str(error)
