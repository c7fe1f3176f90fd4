"""Worker processes: watchdog against hangs, memory allocator settings, detection of lost workers."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from pipeline.io.errors import UserError

# Time limits in seconds for a clip and for a training step on a worker: far above typical durations.
CLIP_TIMEOUT_S = 300.0
STEP_TIMEOUT_S = 600.0


@contextmanager
def watchdog(timeout_s: float) -> Iterator[Callable[[], None]]:
    """Provide a heartbeat function; exit the process if it is not called for `timeout_s` seconds (0: off).

    The timer is a C thread and fires even if the interpreter is blocked. The stack trace goes to stderr,
    which is the log of a worker process.
    """
    if not timeout_s:
        yield lambda: None
        return
    last = 0.0
    # Decoding redirects descriptor 2 for a moment.
    stderr = os.dup(2)

    def heartbeat() -> None:
        nonlocal last
        # Each restart of the timer starts a thread, and a clip takes milliseconds.
        if (now := time.monotonic()) - last > timeout_s / 100:
            last = now
            faulthandler.dump_traceback_later(timeout_s, exit=True, file=stderr)

    heartbeat()
    try:
        yield heartbeat
    finally:
        faulthandler.cancel_dump_traceback_later()
        os.close(stderr)


# Parameters of mallopt in glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


@cache
def disable_malloc_trim() -> bool:
    """Make malloc keep freed memory for reuse; return whether that is supported.

    By default every array above about 128 KiB is mapped again and its pages zeroed by the kernel: half the
    time of a phase vocoder. Only glibc has this setting; it affects nothing but speed.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 1 << 30) and mallopt(_M_TRIM_THRESHOLD, 1 << 30))


def describe_bug(error: Exception) -> str:
    """Return an unexpected error of a stage in one line: class, message and what to do."""
    name, lines = type(error).__name__, str(error).strip().splitlines()
    text = f"{name}: {lines[0].strip()}" if lines else name
    if name == "OutOfMemoryError" or "CUDA out of memory" in text:
        return f"out of GPU memory: raise --gpus-per-worker, or use a GPU with more memory ({text})"
    if isinstance(error, MemoryError):
        return f"out of memory: run fewer workers per node, or use nodes with more memory ({text})"
    return f"{text}; --log-level debug shows where"


# Signs of a lost process in the errors of Ray, gloo and NCCL.
LOST_WORKER_SIGNS = (
    "HealthCheck",
    "ActorDied",
    "ActorUnavailable",
    "NodeDied",
    "WorkerCrashed",
    "OutOfMemory",
    "ObjectLost",
    "ObjectReconstruction",
    "OwnerDied",
    "Connection closed",
    "Connection reset",
    "died",
    "NCCL",
)


def is_worker_lost(error: Exception) -> bool:
    """Return whether an error means that a worker process was lost, rather than that the code has a bug."""
    return any(sign in type(error).__name__ + str(error) for sign in LOST_WORKER_SIGNS)


def worker_lost_error(error: Exception, max_failures: int) -> Exception:
    """Return a `UserError` if a worker was lost, otherwise the error itself, which is a bug."""
    if not is_worker_lost(error):
        return error
    lines = str(error).strip().splitlines()
    last_line = lines[-1] if lines else type(error).__name__
    return UserError(
        f"workers were lost more than --max-failures {max_failures} times (last error: {last_line}); "
        "rerun to resume from the last epoch"
    )
