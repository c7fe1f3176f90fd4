"""Concurrent requests of a model, and results that several requests share."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from fastapi import HTTPException

T = TypeVar("T")
# Seconds after which a client should send a refused request again.
RETRY_AFTER_S = 1


def unavailable(detail: str) -> HTTPException:
    """Return the error of a request that may be sent again later."""
    return HTTPException(503, detail, {"Retry-After": str(RETRY_AFTER_S)})


class Slots:
    """A bounded number of concurrent requests: those beyond it are refused before their body is read."""

    def __init__(self, limit: int):
        self._limit, self._used = limit, 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Occupy a slot within the `with` block.

        Raises:
            HTTPException: none is free.
        """
        if self._used >= self._limit:
            raise unavailable(f"{self._limit} requests are being processed already; try again")
        self._used += 1
        try:
            yield
        finally:
            self._used -= 1


class SharedResults(Generic[T]):
    """The last results by their keys; requests for one that is being computed wait for it."""

    def __init__(self, limit: int):
        self._limit = limit
        self._tasks: OrderedDict[Hashable, asyncio.Task[T]] = OrderedDict()

    async def get(self, key: Hashable, compute: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a key, computed if it is not there; errors are not kept."""
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.ensure_future(compute())
            self._tasks[key] = task
            task.add_done_callback(lambda task: self._forget_error(key, task))
            while len(self._tasks) > self._limit:
                self._tasks.popitem(last=False)
        self._tasks.move_to_end(key)
        # A request that is canceled must not cancel those that wait with it.
        return await asyncio.shield(task)

    def _forget_error(self, key: Hashable, task: asyncio.Task[T]) -> None:
        if (task.cancelled() or task.exception() is not None) and self._tasks.get(key) is task:
            del self._tasks[key]
