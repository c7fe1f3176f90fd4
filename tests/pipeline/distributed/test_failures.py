"""A lost process is a lost worker, whatever the texts; lack of GPU memory is explained in a line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import ray.exceptions as ray_errors
import torch
import torch.distributed as dist
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from pipeline.distributed.failures import (
    WorkerLostError,
    describe_bug,
    is_gpu_memory_error,
    is_worker_lost,
    root_cause,
    training_memory_error,
    worker_lost_error,
)
from pipeline.io.errors import UserError
from tests.helpers.sounds import gan_config, train_config

GPU_MEMORY_TEXT = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which "
    "1.20 GiB is free. Process 1 has 70.00 GiB memory in use. Of the allocated memory 60.00 GiB is allocated."
)
GPU_MEMORY = torch.cuda.OutOfMemoryError(GPU_MEMORY_TEXT)
GLOO = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.1]:30109."
)
NCCL = "NCCL error in: ProcessGroupNCCL.cpp:94, "
BUG = ZeroDivisionError("division by zero")


def task_error(cause: Exception) -> ray_errors.RayTaskError:
    """Return the error that `ray.get` raises when a task raises `cause`."""
    error = ray_errors.RayTaskError("train", "Traceback: the worker died", cause, ip="127.0.0.1")
    return error.as_instanceof_cause()


def died_poll() -> Exception:
    """Return the error of a worker of Ray Train whose process is gone."""
    return WorkerHealthCheckFailedError("A worker health check failed.", ray_errors.ActorDiedError())


LOST = [
    ray_errors.ActorDiedError(),
    ray_errors.WorkerCrashedError(),
    ray_errors.NodeDiedError("node 1"),
    ray_errors.OutOfMemoryError("killed"),
    ray_errors.ObjectLostError("0" * 56, None, ""),
    WorkerLostError("does not start"),
    WorkerHealthCheckTimeoutError("hangs"),
    died_poll(),
    RuntimeError(GLOO),
    dist.DistNetworkError("The client socket has failed to connect"),
    dist.DistStoreError("wait timeout"),
    dist.DistBackendError(NCCL + "remote process exited or there was a network error. ncclRemoteError"),
    task_error(RuntimeError(GLOO)),
    WorkerGroupError("", {0: RuntimeError(GLOO), 1: died_poll()}),
    ControllerError(ray_errors.ActorDiedError()),
]
FAILED = [
    BUG,
    UserError("--fold 9: fold not found"),
    GPU_MEMORY,
    RuntimeError("NCCL died: Connection reset by peer"),
    RuntimeError("[enforce fail at gloo/transport/tcp/pair.cc:456] op.preamble.length <= op.nbytes. 8 vs 4"),
    dist.DistBackendError(NCCL + "invalid usage. ncclInvalidUsage: Duplicate GPU detected"),
    OSError("Connection closed"),
    task_error(BUG),
    task_error(GPU_MEMORY),
    ray_errors.ActorDiedError(ray_errors.RayTaskError("__init__", "", BUG, ip="127.0.0.1")),
    UserExceptionWithTraceback(BUG, "the worker died"),
    WorkerGroupError("", {0: RuntimeError(GLOO), 1: GPU_MEMORY}),
    ControllerError(task_error(BUG)),
]


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_lost_process_is_a_lost_worker(error: Exception) -> None:
    assert is_worker_lost(error) and isinstance(worker_lost_error(error, 3), UserError)


@pytest.mark.parametrize("error", FAILED, ids=lambda error: type(error).__name__)
def test_error_of_code_is_no_lost_worker(error: Exception) -> None:
    assert not is_worker_lost(error)
    assert worker_lost_error(error, 3) is root_cause(error)


def test_root_cause_prefers_error_of_code() -> None:
    assert root_cause(WorkerGroupError("", {0: RuntimeError(GLOO), 1: GPU_MEMORY})) is GPU_MEMORY
    assert root_cause(ControllerError(task_error(BUG))) is BUG


def test_lost_worker_is_reported_in_one_line() -> None:
    assert str(worker_lost_error(RuntimeError(f"trace\n{GLOO}"), 3)) == (
        f"workers were lost more than --max-failures 3 times (last error: {GLOO}); "
        "rerun to resume from the last epoch"
    )


def test_killed_gloo_peer_is_noticed_immediately(tmp_path: Path) -> None:
    program = """
import os, sys, time
from datetime import timedelta
import torch, torch.distributed as dist
from pipeline.distributed.failures import is_worker_lost
from pipeline.distributed.worker import COLLECTIVE_TIMEOUT_S
rank, rendezvous = int(sys.argv[1]), sys.argv[2]
timeout = timedelta(seconds=COLLECTIVE_TIMEOUT_S)
dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2, timeout=timeout)
dist.barrier()
if rank:
    os.kill(os.getpid(), 9)
start = time.monotonic()
try:
    dist.all_reduce(torch.ones(1))
except Exception as error:
    print(is_worker_lost(error), time.monotonic() - start < 10)
os._exit(0)
"""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(rank), str(tmp_path / "rendezvous")], stdout=subprocess.PIPE
        )
        for rank in (0, 1)
    ]
    outputs = [worker.communicate(timeout=60)[0] for worker in workers]
    assert outputs[0].split() == [b"True", b"True"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (GPU_MEMORY, True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("CUDA error: out of memory"), False),
        (MemoryError(), False),
    ],
)
def test_gpu_memory_error_is_recognized_by_type(error: Exception, expected: bool) -> None:
    assert is_gpu_memory_error(error) == expected


def test_gpu_memory_error_names_settings_to_lower(tmp_path: Path) -> None:
    message = str(training_memory_error(GPU_MEMORY, train_config(tmp_path, tmp_path)))
    assert message == (
        "out of GPU memory: lower --batch-size (now 16) or --model.channels, share the batch among more GPUs "
        "with --workers, or give each worker a whole one with --gpus-per-worker 1 (Tried to allocate "
        "2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.20 GiB is free)"
    )
    assert "--gan.channels" in str(training_memory_error(GPU_MEMORY, gan_config(tmp_path, tmp_path)))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("wrong shape\nat layer 3"), "ValueError: wrong shape; --log-level debug shows where"),
        (KeyError(), "KeyError; --log-level debug shows where"),
        (
            GPU_MEMORY,
            "out of GPU memory: give each worker a whole GPU with --gpus-per-worker 1, or compute on CPUs "
            "with --device cpu (Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which "
            "1.20 GiB is free)",
        ),
        (
            MemoryError("Unable to allocate 2 GiB"),
            "out of memory: run fewer workers per node, or use nodes with more memory "
            "(MemoryError: Unable to allocate 2 GiB)",
        ),
    ],
)
def test_bug_is_described_in_one_line(error: Exception, message: str) -> None:
    assert describe_bug(error) == message
