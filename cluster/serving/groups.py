"""Concurrent requests that are sent to a replica together: a call costs Ray about as much as a clip costs the
network, whatever is in it.

Each replica has a call in progress; of many requests a second one, which is sent while the first is computed.
A group is never waited for while nothing is being computed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
# Calls in progress for each replica at most, and the requests that are worth a second one.
CALLS_PER_REPLICA, WORTHWHILE = 2, 8
# Seconds in which a group fills up after results were sent: clients then send their next requests.
GATHER_S = 0.01
# Seconds after which a request is sent although all calls are in progress: they may be long ones.
MAX_WAIT_S = 0.5


@dataclass
class _Request(Generic[T, R]):
    item: T
    result: asyncio.Future[R]
    time: float
    """When it arrived, in seconds of the event loop's clock."""


class Groups(Generic[T, R]):
    """Groups requests into calls."""

    def __init__(
        self, call: Callable[[list[T]], AsyncIterator[list[tuple[int, R]]]], size: int, replicas: int
    ):
        """Take the call.

        Args:
            call: yields results of the items that it is given, each with the index of its item, as they are
                ready.
            size: limit of the items of a call.
            replicas: number of replicas.
        """
        self._call, self._size, self._replicas = call, size, replicas
        self._max_calls = CALLS_PER_REPLICA * replicas
        self._waiting: deque[_Request[T, R]] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._sent = 0

    async def result(self, item: T) -> R:
        """Return the result of an item.

        Raises:
            Exception: as the call, before it had this result.
        """
        loop = asyncio.get_running_loop()
        request: _Request[T, R] = _Request(item, loop.create_future(), loop.time())
        self._waiting.append(request)
        self._send()
        if self._waiting:
            for wait in (GATHER_S, MAX_WAIT_S):
                loop.call_at(request.time + wait, self._send)
        return await request.result

    async def result_alone(self, item: T) -> R:
        """Return the result of a large item, which is sent at once, and which others do not wait for."""
        async for results in self._call([item]):
            return results[0][1]
        raise RuntimeError("a call has ended without a result")

    def _send(self) -> None:
        """Send what is due."""
        while self._waiting and self._is_due():
            requests = [self._waiting.popleft() for _ in range(min(self._share(), len(self._waiting)))]
            requests = [request for request in requests if not request.result.done()]  # canceled
            if requests:
                self._start(requests)

    def _is_due(self) -> bool:
        waited = asyncio.get_running_loop().time() - self._waiting[0].time
        if waited >= MAX_WAIT_S:
            return True
        if len(self._calls) < self._replicas:
            return not self._calls or len(self._waiting) >= self._share() or waited >= GATHER_S
        is_worthwhile = len(self._waiting) >= min(self._size, WORTHWHILE)
        return len(self._calls) < self._max_calls and is_worthwhile

    def _share(self) -> int:
        """Return the size of a group, at most the limit: if all replicas have equally many requests, or of
        many requests all calls that may be in progress.
        """
        requests = len(self._waiting) + self._sent
        share = max(-(-requests // self._max_calls), min(WORTHWHILE, -(-requests // self._replicas)))
        return min(self._size, share)

    def _start(self, requests: list[_Request[T, R]]) -> None:
        self._sent += len(requests)
        task = asyncio.ensure_future(self._run(requests))
        self._calls.add(task)

        def cancel_if_unwanted(result: asyncio.Future[R]) -> None:
            if result.cancelled() and all(request.result.done() for request in requests):
                task.cancel()

        def end(_: object) -> None:
            self._calls.remove(task)
            self._sent -= len(requests)
            self._send()

        for request in requests:
            request.result.add_done_callback(cancel_if_unwanted)
        task.add_done_callback(end)

    async def _run(self, requests: list[_Request[T, R]]) -> None:
        """Make a call, and give each request its result or the error of the call."""
        error: Exception = RuntimeError("a call has ended without a result")
        try:
            async for results in self._call([request.item for request in requests]):
                for index, result in results:
                    if not requests[index].result.done():
                        requests[index].result.set_result(result)
        except Exception as raised:
            error = raised
        for request in requests:
            if not request.result.done():
                request.result.set_exception(error)
