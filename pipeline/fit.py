"""Brings a training loop onto the cluster by Ray Train, and shows its progress.

Ray Train places the workers, forms the process group, and starts all of them again when one is lost. Checkpoints are
melray's own, in the run folder: one exact mechanism, with or without Ray, and without the barrier of a report.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import UserError
from pipeline.run_folder import RunFolder
from pipeline.storage import remove_tree, storage_arguments
from pipeline.training import World
from pipeline.training_config import ResourceConfig
from pipeline.watch import Watch

# What a loop may return to say that it ended by the user's doing: Ray would retry an exception.
FAULT = "fault"
# How the death of a process shows in the errors of Ray, gloo and NCCL.
LOST_WORKER = ("HealthCheck", "ActorDied", "WorkerCrashed", "Connection closed", "Connection reset", "died", "NCCL")
Loop = Callable[[Any, World], dict[str, Any]]


def fit(loop: Loop, config: Any, resources: ResourceConfig, run: Path) -> dict[str, Any]:
    """Runs `loop(config, world)` on all workers until it ends, through lost workers; returns what the first returned.

    Raises:
        UserError: not enough CPUs or GPUs, the loop's own, or too many lost workers.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    cpus = worker_cpus(resources)
    check_resources(resources, cpus)
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    scratch = run / ".ray"
    trainer = TorchTrainer(
        _worker,  # type: ignore[arg-type]
        train_loop_config={"loop": loop, "config": config, "cpus": cpus, "gpu": resources.gpus_per_worker > 0},
        scaling_config=ray.train.ScalingConfig(
            num_workers=(resources.min_workers, resources.workers) if resources.min_workers else resources.workers,  # type: ignore[arg-type]
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker={"CPU": cpus} | ({"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}),
        ),
        run_config=ray.train.RunConfig(
            name=uuid.uuid4().hex[:8],  # ours is the resuming, not Ray's
            **storage_arguments(scratch),
            failure_config=ray.train.FailureConfig(max_failures=resources.max_failures, controller_failure_limit=1),  # type: ignore[call-arg]
        ),
        torch_config=TorchConfig(backend="nccl" if resources.gpus_per_worker else "gloo", timeout_s=300),
    )
    with Watch({"": RunFolder(run)}):
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
    if FAULT in result:
        raise UserError(result[FAULT])
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
        return setup["loop"](setup["config"], World.current(device))
    except UserError as error:
        return {FAULT: str(error)}


def worker_cpus(resources: ResourceConfig) -> int:
    """CPUs of each worker: as asked for, or an even part of the largest machine's."""
    import ray

    if resources.cpus_per_worker is not None:
        return resources.cpus_per_worker
    largest = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=1)
    nodes = sum(1 for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1)
    per_node = -(-resources.workers // max(1, nodes))
    return max(1, int(largest) // per_node)


def check_resources(resources: ResourceConfig, cpus: int) -> None:
    """Says at once what is missing; Ray would wait for it.

    Raises:
        UserError: with the number of CPUs or GPUs that are missing.
    """
    import ray

    have = ray.cluster_resources()
    workers = resources.min_workers or resources.workers
    flags = f"--min-workers {workers}" if resources.min_workers else f"--workers {workers}"
    for name, each, flag in (("CPU", float(cpus), "cpus"), ("GPU", resources.gpus_per_worker, "gpus")):
        need, got = each * workers, have.get(name, 0.0)
        if need > got + 1e-9:
            raise UserError(
                f"{flags} with {each:g} {name}s each need {need:g} {name}s, the cluster has {got:g}: {need - got:g} are missing; "
                f"ask for fewer workers, lower --{flag}-per-worker, or add machines"
            )


def _explained(error: Exception, resources: ResourceConfig) -> Exception:
    failures = getattr(error, "worker_failures", None) or {}
    return explain_lost(next(iter(failures.values()), error), resources.max_failures)


def lost_worker(error: Exception) -> bool:
    """Whether an error says that a worker died, rather than that the code is at fault."""
    return any(word in type(error).__name__ + str(error) for word in LOST_WORKER)


def explain_lost(error: Exception, max_failures: int) -> Exception:
    """A `UserError` where workers died; the error itself where the code is at fault."""
    text = str(error).strip().splitlines()
    last = text[-1] if text else type(error).__name__
    if not lost_worker(error):
        return error
    return UserError(
        f"workers were lost more than --max-failures {max_failures} times, the last with: {last}; "
        "the same command goes on from the last epoch"
    )
