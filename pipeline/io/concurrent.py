"""Concurrent reads and writes by threads: an object store takes tens of milliseconds for each request."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
# Enough to hide the latency of an object store: 32 requests of 30 ms are a thousand per second.
THREADS = 32


def map_concurrently(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int = THREADS,
    ahead: int | None = None,
    item_bytes: Callable[[Item], int] = lambda item: 0,
    max_bytes: int = 0,
) -> Generator[Result, None, None]:
    """Yield the results of `function` in the order of the items, computed by threads ahead of the consumer.

    An error of `function` is raised when its item is due. Calls that have not started are dropped when the
    generator is closed.

    Args:
        function: waits for a network or a disk most of its time; called from several threads.
        items: may be unlimited; read at most `ahead` items before they are due.
        threads: maximum number of concurrent calls.
        ahead: maximum number of results that are waiting or being computed (default: twice `threads`).
        item_bytes: size of the result of an item.
        max_bytes: maximum size of these results; one that is larger is computed alone.
    """
    limit = max(1, 2 * threads if ahead is None else ahead)
    pending: deque[tuple[Future[Result], int]] = deque()
    pending_bytes = 0

    def take() -> Result:
        nonlocal pending_bytes
        future, size = pending.popleft()
        pending_bytes -= size
        return future.result()

    pool = ThreadPoolExecutor(max(1, min(threads, limit)), thread_name_prefix="map_concurrently")
    try:
        for item in items:
            size = item_bytes(item)
            while pending and pending_bytes + size > max_bytes:
                yield take()
            pending.append((pool.submit(function, item), size))
            pending_bytes += size
            if len(pending) >= limit:
                yield take()
        while pending:
            yield take()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
