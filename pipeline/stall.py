"""Ends a process that is stuck, so that its work is tried again: a read that never returns, a library that waits for itself."""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# What a clip and what a step of a training may take on a worker, in seconds: far more than any does that gets on.
CLIP_SECONDS = 300.0
STEP_SECONDS = 600.0


@contextmanager
def watched(seconds: float) -> Iterator[Callable[[], None]]:
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
