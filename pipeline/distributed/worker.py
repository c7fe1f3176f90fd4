"""Worker processes: watchdog against hangs, memory allocator settings, stages that are built once."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

# Time limits in seconds for a clip and for a training step on a worker: far above typical durations.
CLIP_TIMEOUT_S = 300.0
STEP_TIMEOUT_S = 600.0
# Time limit of a collective, in which other workers wait while one fills a cache or generates samples. Hangs
# end earlier: the watchdog of the worker that hangs exits its process, and Ray notices that.
COLLECTIVE_TIMEOUT_S = 24 * 3600


class _Watchdog:
    """Timer that exits the process; a C thread, which fires even if the interpreter is blocked."""

    def __init__(self, timeout_s: float):
        self._timeout_s, self._last = timeout_s, 0.0
        # Decoding redirects descriptor 2 for a moment.
        self._stderr = os.dup(2)

    def start(self) -> None:
        """Start or restart the timer; there is one in a process."""
        self._last = time.monotonic()
        faulthandler.dump_traceback_later(self._timeout_s, exit=True, file=self._stderr)

    def heartbeat(self) -> None:
        """Restart the timer, unless it has just been: each start creates a thread, and a clip takes ms."""
        if time.monotonic() - self._last > self._timeout_s / 100:
            self.start()

    def close(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        os.close(self._stderr)


# Watchdogs of this process, innermost last.
_watchdogs: list[_Watchdog] = []


@contextmanager
def watchdog(timeout_s: float) -> Iterator[Callable[[], None]]:
    """Provide a heartbeat function; exit the process if it is not called for `timeout_s` seconds (0: off).

    The stack trace goes to stderr, which is the log of a worker process. A watchdog inside another replaces
    it meanwhile.
    """
    if not timeout_s:
        yield lambda: None
        return
    timer = _Watchdog(timeout_s)
    _watchdogs.append(timer)
    timer.start()
    try:
        yield timer.heartbeat
    finally:
        timer.close()
        _watchdogs.remove(timer)
        if _watchdogs:
            _watchdogs[-1].start()


def heartbeat() -> None:
    """Restart the innermost watchdog of this process, if there is one: for long work inside of functions."""
    if _watchdogs:
        _watchdogs[-1].heartbeat()


# Parameters of mallopt in glibc's malloc.h, and advice of madvise in Linux's mman.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MADV_HUGEPAGE = 14
# Size of a large page, and of the part of the heap that is advised to have them; in bytes. The latter is a
# little less than the threshold from which on malloc maps an array of its own.
_LARGE_PAGE, _ADVISED_HEAP = 1 << 21, (1 << 30) - (1 << 26)


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


def set_up_training(threads: int) -> None:
    """Set up this process for training on a CPU: its number of threads, and how it allocates memory.

    The feature maps of a batch have tens of MB each, and mapping them in pages of 4 KiB takes much of a step.
    """
    import torch

    if disable_malloc_trim():
        use_large_pages()
    torch.set_num_threads(threads)


@cache
def use_large_pages() -> bool:
    """Advise the kernel to back the heap of this process by large pages; return whether that worked.

    In other threads than the first one it does not, as malloc takes their memory from elsewhere: so in those
    of Ray Train, where it would gain nothing measurable.

    Only its first GiB, and as long as malloc never returns the end of the heap, which this sets. The
    variable of PyTorch for large pages, `THP_MEM_ALLOC_ENABLE`, aligns each tensor to one: malloc of glibc
    before 2.38 can hardly reuse such blocks, so that training processes grow from epoch to epoch.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
        block = libc.malloc(ctypes.c_size_t(_ADVISED_HEAP))
        if block is None:
            return False
        end = block + _ADVISED_HEAP
        is_in_heap = end <= libc.sbrk(0)  # otherwise it is mapped, and gone once it is freed
        start = -(-block // _LARGE_PAGE) * _LARGE_PAGE
        length = (end - start) // _LARGE_PAGE * _LARGE_PAGE
        advice = libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_HUGEPAGE)
        libc.free(ctypes.c_void_p(block))
    except (OSError, AttributeError):
        return False
    return is_in_heap and advice == 0


def release_memory() -> None:
    """Return freed memory to the kernel, after work that needs far more than what follows."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


# Stages of the job that this worker process ran last.
_built: dict[str, list[Any]] = {}


def build_once(job: str, builders: Sequence[Callable[[], Any]]) -> list[Any]:
    """Build the stages of a job once per worker process, which runs many of its units."""
    if job not in _built:
        _built.clear()
        disable_malloc_trim()
        _built[job] = [build() for build in builders]
    return _built[job]
