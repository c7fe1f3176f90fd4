"""Worker processes of training runs: each sets itself up, then runs the loop as one of the workers."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from pipeline.distributed.devices import worker_device
from pipeline.distributed.failures import is_gpu_memory_error, training_memory_error
from pipeline.distributed.worker import STEP_TIMEOUT_S, set_up_training
from pipeline.io.errors import UserError

if TYPE_CHECKING:
    import torch

    from pipeline.training.world import TrainLoop, World

# Key of a user error in the result of a worker: Ray would retry an exception.
ERROR_KEY = "error"


def run_single_worker(loop: TrainLoop, config: Any, cpus: int, gpus: float) -> dict[str, Any]:
    """Run a loop as the only worker; return its result, or its error under `ERROR_KEY`."""
    from pipeline.training.world import World

    try:
        device = worker_device(gpus)
        _set_up_process(cpus, device)
        return _run_loop(loop, config, World(0, 1, device, STEP_TIMEOUT_S))
    except UserError as error:
        return {ERROR_KEY: str(error)}


def run_ray_train_worker(setup: dict[str, Any]) -> dict[str, Any]:
    """Run a loop as one of several workers of Ray Train."""
    import ray.train.torch

    from pipeline.training.epoch_reports import EpochReports
    from pipeline.training.world import World

    device = worker_device(setup["gpus"])
    if device.type == "cuda":
        device = ray.train.torch.get_device()  # Ray Train makes the GPUs of all workers on the node visible
    _set_up_process(setup["cpus"], device)
    try:
        world = World.current(device, STEP_TIMEOUT_S)
        with EpochReports(world) as reports:
            return _run_loop(setup["loop"], setup["config"], world.with_report(reports.add))
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))  # Ray Train transfers no traceback
        raise


def _set_up_process(cpus: int, device: torch.device) -> None:
    import torch

    set_up_training(cpus)
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
