"""A worker process: its watchdog, its memory, and how its death is recognised."""

from __future__ import annotations

import ctypes
import faulthandler
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from pipeline.io.errors import UserError

# What a clip and what a step of a training may take on a worker, in seconds: far more than any does that gets on.
CLIP_TIMEOUT_S = 300.0
STEP_TIMEOUT_S = 600.0


@contextmanager
def watchdog(seconds: float) -> Iterator[Callable[[], None]]:
    """Gives a function that says that the work gets on; a process that does not say so for `seconds` ends, 0: never.

    The clock is a thread of C's, which needs no turn of the interpreter's: the interpreter may be what is stuck. Where it was,
    stands in the process's log.
    """
    if not seconds:
        yield lambda: None
        return
    last = 0.0

    def alive() -> None:
        nonlocal last
        # Each winding starts a thread; a clip takes milliseconds.
        if (now := time.monotonic()) - last > seconds / 100:
            last = now
            faulthandler.dump_traceback_later(seconds, exit=True, file=2)

    alive()
    try:
        yield alive
    finally:
        faulthandler.cancel_dump_traceback_later()


_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


@cache
def disable_malloc_trim() -> bool:
    """Asks the C library to reuse freed arrays; whether it could.

    By default every array above 128 KiB or so is mapped afresh and its pages zeroed by the kernel: half the time of a
    phase vocoder. Only glibc knows the setting; elsewhere nothing changes but the speed.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 1 << 30) and mallopt(_M_TRIM_THRESHOLD, 1 << 30))


# How the death of a process shows in the errors of Ray, gloo and NCCL.
LOST_WORKER = (
    "HealthCheck",
    "ActorDied",
    "NodeDied",
    "WorkerCrashed",
    "OutOfMemory",
    "Connection closed",
    "Connection reset",
    "died",
    "NCCL",
)


def is_worker_lost(error: Exception) -> bool:
    """Whether an error says that a worker died, rather than that the code is at fault."""
    return any(word in type(error).__name__ + str(error) for word in LOST_WORKER)


def worker_lost_error(error: Exception, max_failures: int) -> Exception:
    """A `UserError` where workers died; the error itself where the code is at fault."""
    text = str(error).strip().splitlines()
    last = text[-1] if text else type(error).__name__
    if not is_worker_lost(error):
        return error
    return UserError(
        f"workers were lost more than --max-failures {max_failures} times, the last with: {last}; "
        "the same command goes on from the last epoch"
    )
