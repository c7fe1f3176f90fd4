"""Worker processes of a replica in which sounds are decoded.

A file that crashes its decoder, or makes it hang, ends a worker process and its own request: the replica and
all other requests continue. Decoding does not block the event loop of the replica either.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.distributed.failures import WorkerLostError
from pipeline.distributed.processes import ProcessPool, start_fork_server

# The first loss may have been by another cause than the sound, such as lack of memory.
ATTEMPTS = 2


class Decoders:
    """Worker processes that run a call each; one that is lost is replaced."""

    def __init__(self, count: int, module: str, timeout_s: float):
        """Use up to `count` processes, which import `module` when they start.

        One whose call takes longer than `timeout_s` is ended: from outside, as a timer in the process itself
        would be a thread that is started and ended for each sound.
        """
        self._timeout_s = timeout_s
        start_fork_server([module])
        # Each thread waits for the results of one process, which it starts when it is first used.
        self._threads = ThreadPoolExecutor(count, "decoder")
        self._local = threading.local()

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a call as soon as a process is free; return its result.

        Raises:
            WorkerLostError: it ends its process or takes too long, each time.
            Exception: as the function.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._run, function, arguments)

    def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if not hasattr(self._local, "pool"):
            self._local.pool = ProcessPool(1, timeout_s=self._timeout_s)
        pool: ProcessPool = self._local.pool
        error: Exception | None = None
        for _ in range(ATTEMPTS):
            pool.submit(None, function, *arguments)
            (result,) = pool.results()
            error = result.error
            if not isinstance(error, WorkerLostError):
                break
        if error is not None:
            raise error
        return result.value
