"""Errors of worker processes, distinguished by their types: lost workers, lack of GPU memory, and bugs.

After the loss of a worker the work is repeated; any other error would only happen again. When one of several
workers is lost, the others fail as well, in the collective that waits for it: torch raises plain
`RuntimeError`s then, which are recognized by the source file of gloo or the code of NCCL in their text.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from pipeline.io.errors import UserError

# Errors of gloo's connections; other errors of gloo, such as a wrong size, are bugs.
_GLOO_CONNECTION_LOST = re.compile(
    r"gloo/transport/\S+\].*(closed by peer|reset by peer|Broken pipe|Connection refused|timed out|No route)"
)
# NCCL's codes of a lost connection or peer, and torch's text after another thread has ended a collective.
_NCCL_CONNECTION_LOST = re.compile(r"ncclRemoteError|ncclSystemError|communicator was aborted")
# Failed allocations of the CUDA libraries, which torch does not raise as `OutOfMemoryError`.
_ALLOCATION_FAILED = re.compile(r"CUDA( driver)? error: out of memory|CU\w+_STATUS_ALLOC_FAILED")
_REQUESTED_MEMORY = re.compile(r"Tried to allocate .*?(?= Process | Including |\. Of the |$)")


class WorkerLostError(Exception):
    """Loss of a worker process that Ray has not reported: melray has noticed it."""


def is_worker_lost(error: BaseException) -> bool:
    """Return whether an error means that a worker process was lost, rather than that the code failed.

    An error of several workers does if each of theirs does.
    """
    causes = _causes(error)
    if causes:
        return all(map(is_worker_lost, causes))
    return _is_lost_process(error) or _is_lost_connection(error)


def _causes(error: BaseException) -> list[BaseException]:
    """Return the errors that an error of Ray or Ray Train wraps; empty if it wraps none."""
    if "ray" not in sys.modules:  # not imported here: only a session may, after it has set the environment
        return []
    import ray.exceptions

    if isinstance(error, ray.exceptions.RayTaskError):
        return [error.cause]
    # Attributes of the errors of Ray Train, which is slow to import.
    failures = getattr(error, "worker_failures", None)
    if isinstance(failures, dict) and failures:
        return list(failures.values())
    names = ("controller_failure", "health_check_failure", "_base_exc")
    return [cause for name in names if isinstance(cause := getattr(error, name, None), BaseException)]


def root_cause(error: BaseException) -> BaseException:
    """Return the error of the code that an error of Ray wraps; if there is none, that of a lost worker."""
    causes = _causes(error)
    if not causes:
        return error
    return root_cause(next((cause for cause in causes if not is_worker_lost(cause)), causes[0]))


def _is_lost_process(error: BaseException) -> bool:
    """Return whether Ray reports a lost process, node or object, or another process was lost."""
    if "ray" not in sys.modules:
        return isinstance(error, WorkerLostError)
    import ray.exceptions as errors

    if isinstance(error, errors.RayActorError):
        return not error.actor_init_failed
    return isinstance(
        error,
        WorkerLostError
        | errors.WorkerCrashedError
        | errors.NodeDiedError
        | errors.LocalRayletDiedError
        | errors.OutOfMemoryError  # Ray has killed the process, as the node lacks memory
        | errors.ObjectLostError,
    ) or type(error).__name__ in ("WorkerHealthCheckTimeoutError", "PreemptionError")


def _is_lost_connection(error: BaseException) -> bool:
    """Return whether a collective has failed because another worker is gone."""
    import torch.distributed as dist

    if isinstance(error, dist.DistNetworkError | dist.DistStoreError):
        return True
    if isinstance(error, dist.DistBackendError):
        return bool(_NCCL_CONNECTION_LOST.search(str(error)))
    return type(error) is RuntimeError and bool(_GLOO_CONNECTION_LOST.search(str(error)))


def worker_lost_error(error: BaseException, max_failures: int) -> BaseException:
    """Return a `UserError` if a worker was lost, otherwise the error of the code itself."""
    cause = root_cause(error)
    if not is_worker_lost(cause):
        return cause
    lines = str(cause).strip().splitlines()
    last_line = lines[-1].strip() if lines else type(cause).__name__
    return UserError(
        f"workers were lost more than --max-failures {max_failures} times (last error: {last_line}); "
        "rerun to resume from the last epoch"
    )


def is_gpu_memory_error(error: BaseException) -> bool:
    """Return whether an error means that a GPU lacks memory."""
    torch = sys.modules.get("torch")  # not imported here, as memory may be short
    if torch is not None and isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_ALLOCATION_FAILED.search(str(error)))


def training_memory_error(error: BaseException, config: Any) -> UserError:
    """Return the error of a training run whose GPU lacks memory, with the settings that use less."""
    size = getattr(config, "batch_size", None)
    channels = "--gan.channels" if hasattr(config, "gan") else "--model.channels"
    batch = "--batch-size" if size is None else f"--batch-size (now {size})"
    return UserError(
        f"out of GPU memory: lower {batch} or {channels}, share the batch among more GPUs with --workers, "
        f"or give each worker a whole one with --gpus-per-worker 1 ({_requested_memory(error)})"
    )


def describe_bug(error: BaseException) -> str:
    """Return an unexpected error of a stage in one line: class, message and what to do."""
    name, lines = type(error).__name__, str(error).strip().splitlines()
    text = f"{name}: {lines[0].strip()}" if lines else name
    if is_gpu_memory_error(error):
        fix = "give each worker a whole GPU with --gpus-per-worker 1, or compute on CPUs with --device cpu"
        return f"out of GPU memory: {fix} ({_requested_memory(error)})"
    if isinstance(error, MemoryError):
        return f"out of memory: run fewer workers per node, or use nodes with more memory ({text})"
    return f"{text}; --log-level debug shows where"


def _requested_memory(error: BaseException) -> str:
    """Return how much memory was requested and free, from torch's long text."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    requested = _REQUESTED_MEMORY.search(lines[0])
    return (requested[0] if requested else lines[0]).rstrip(". ")
