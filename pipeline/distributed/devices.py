"""Devices of a command: CPUs or GPUs, chosen once by the driver, and the device of each process."""

from __future__ import annotations

import math
import socket
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, get_args

from pydantic import Field, model_validator

from pipeline.distributed.execution import uses_ray
from pipeline.distributed.resources import AutoscalingConfig, NodeResources, ResourceRequest, max_workers
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.io.text import plural

if TYPE_CHECKING:
    import torch  # slow to import: `melray --help` does not need it

Device = Literal["auto", "cpu", "cuda"]


class DeviceConfig(AutoscalingConfig):
    """Whether the workers of a command compute on GPUs."""

    device: Device = "auto"
    """auto: a GPU per worker where the cluster has enough, else CPUs; cpu; or cuda: a GPU per worker."""
    gpus_per_worker: float | None = Field(None, ge=0, le=1)
    """GPUs per worker: 1, or a fraction such as 0.5 for two workers on each GPU (default: see --device)."""

    @model_validator(mode="after")
    def _check_device(self) -> Self:
        check_gpus(self.device, self.gpus_per_worker, "--gpus-per-worker")
        return self


def check_gpus(device: Device, gpus: float | None, flag: str) -> None:
    """Raise a `ValueError` if `flag`, whose value is `gpus`, contradicts `--device`."""
    if device == "cpu" and gpus:
        raise ValueError(f"--device cpu and {flag} {gpus:g}: drop one of them")
    if device == "cuda" and gpus == 0:
        raise ValueError(f"--device cuda and {flag} 0: drop one of them")


class DeviceSettings(Protocol):
    """Settings from which devices are chosen."""

    @property
    def device(self) -> Device: ...

    @property
    def gpus_per_worker(self) -> float | None: ...


def resolve_gpus(
    config: DeviceSettings,
    workers: int,
    nodes: Sequence[NodeResources],
    cpus: float = 0,
    *,
    flag: str = "--gpus-per-worker",
    workers_per_value: int = 1,
) -> float:
    """Choose the GPUs per worker of a command; log the choice, once, if the cluster has GPUs.

    GPUs that an autoscaler would add are not counted: `--device cuda` requests them.

    Args:
        config: settings of the command.
        workers: workers without which the command cannot start.
        nodes: nodes of the cluster that are alive.
        cpus: CPUs per worker.
        flag: flag that sets the number of GPUs.
        workers_per_value: number of workers that share the value of `flag`.
    """
    if config.gpus_per_worker is not None:
        return config.gpus_per_worker
    if config.device != "auto":
        return float(config.device == "cuda")
    available = sum(node.gpus for node in nodes)
    if not available:
        return 0.0
    request = ResourceRequest(workers, cpus, 1)
    if max_workers(request, nodes) >= workers:
        version = _version_without_cuda()
        if version is None:
            _log("using 1 GPU per worker (--device cpu for CPUs)")
            return 1.0
        counts = f"{plural(available, 'GPU')} in the cluster"
        _log(f"{counts}, but torch {version} is built without CUDA: using CPUs")
    elif available >= workers:
        _log(f"{plural(workers, 'worker')} with {request.each} do not fit on the nodes: using CPUs")
    else:
        share = math.floor(1000 / math.ceil(workers / available)) / 1000 * workers_per_value
        counts = f"{plural(workers, 'worker')}, but {plural(available, 'GPU')}"
        _log(f"{counts}: using CPUs; {flag} {share:g} shares {'it' if available == 1 else 'them'}")
    return 0.0


@cache
def _log(text: str) -> None:
    """Log a choice once: a command may start several runs with the same one."""
    logger.info("%s", text)


def process_device(device: Device) -> torch.device:
    """Return the device of a command that computes in its own process; log it if it is a GPU.

    Raises:
        UserError: `cuda` without a GPU that torch can use, or an unknown name given from Python.
    """
    import torch

    if device not in get_args(Device):
        raise UserError(f"device {device!r}: unknown; choose {', '.join(get_args(Device))}")
    if device != "cpu" and torch.cuda.is_available():
        hint = " (--device cpu for the CPU)" if device == "auto" else ""
        logger.info("using GPU %s%s", torch.cuda.get_device_name(0), hint)
        return torch.device("cuda", 0)
    if device == "cuda":
        raise UserError(f"--device cuda: {_reason_without_cuda()}: drop it to use the CPU")
    return torch.device("cpu")


def driver_device(device: Device) -> torch.device:
    """Return the device of what the driver computes for a command whose `--device` is that of its workers.

    A driver without a GPU may have workers with GPUs, so it uses one only if there is one.
    """
    return process_device("cpu" if device == "cpu" else "auto")


def worker_device(gpus: float) -> torch.device:
    """Return the device of a worker process, to which Ray makes only its own GPU visible.

    Raises:
        UserError: torch sees no GPU although Ray has assigned one.
    """
    import torch

    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(
            f"a worker on {socket.gethostname()} has {plural(gpus, 'GPU')} of Ray, but "
            f"{_reason_without_cuda()}: use --device cpu"
        )
    return torch.device("cuda", 0)


def collective_backend(gpus: float) -> str:
    """Return the backend of a process group whose workers have `gpus` GPUs each.

    NCCL refuses two ranks on one GPU, so workers that share one use gloo. With NCCL, gloo is for objects and
    CPU tensors, which then neither pass through the GPU nor wait for its stream.
    """
    return "cpu:gloo,cuda:nccl" if gpus >= 1 else "gloo"


@cache
def _version_without_cuda() -> str | None:
    """Return the version of torch on a node with GPUs if it is built without CUDA, else None.

    The driver may be on a node without GPUs, whose torch is another one. No GPU has to be free for this.
    """
    if _own_version_without_cuda() is None or not uses_ray():
        return _own_version_without_cuda()
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node_id = next(node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU"))
    task: Any = ray.remote(num_cpus=0)(_own_version_without_cuda)
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.get(task.options(scheduling_strategy=strategy).remote())


def _own_version_without_cuda() -> str | None:
    """Return the version of this process's torch if it is built without CUDA, else None."""
    import torch

    return None if torch.backends.cuda.is_built() else torch.__version__


def _reason_without_cuda() -> str:
    """Return why torch cannot use a GPU."""
    import torch

    if _own_version_without_cuda() is not None:
        return f"torch {torch.__version__} is built without CUDA"
    return f"torch {torch.__version__} finds no GPU (nvidia-smi shows whether the driver does)"
