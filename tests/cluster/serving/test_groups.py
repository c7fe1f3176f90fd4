"""Requests that are sent together: who waits for whom, results as they are ready, errors and cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cluster.serving import groups
from cluster.serving.groups import Groups

pytestmark = pytest.mark.timeout(60)


class Calls:
    """Calls with given answers."""

    def __init__(self) -> None:
        self.items: list[list[str]] = []
        self._answers: list[asyncio.Queue[list[tuple[int, str]] | Exception | None]] = []
        self.canceled: list[int] = []

    async def call(self, items: list[str]) -> AsyncIterator[list[tuple[int, str]]]:
        number = len(self.items)
        self.items.append(items)
        self._answers.append(asyncio.Queue())
        try:
            while (answer := await self._answers[number].get()) is not None:
                if isinstance(answer, Exception):
                    raise answer
                yield answer
        except asyncio.CancelledError:
            self.canceled.append(number)
            raise

    def answer(self, number: int, *indices: int) -> None:
        """Have a call yield the results of some of its items."""
        self._answers[number].put_nowait([(index, self.items[number][index].upper()) for index in indices])

    def end(self, number: int, error: Exception | None = None) -> None:
        self._answers[number].put_nowait(error)

    async def wait_for(self, count: int) -> None:
        while len(self.items) < count:
            await asyncio.sleep(0.001)


def request(requests: Groups[str, str], items: str) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(requests.result(item)) for item in items]


def test_waiting_requests_are_sent_in_equal_groups() -> None:
    async def run() -> None:
        calls = Calls()
        requests = Groups[str, str](calls.call, size=16, replicas=2)
        first = request(requests, "ab")
        await calls.wait_for(2)
        assert calls.items == [["a"], ["b"]]  # nothing is waited for while a call is free
        others = request(requests, "cdefgh")
        await asyncio.sleep(2 * groups.GATHER_S)
        assert len(calls.items) == 2
        calls.answer(0, 0)
        calls.end(0)
        await calls.wait_for(3)
        assert calls.items[2] == list("cdef")  # half of the eight that two calls have
        calls.answer(1, 0)
        calls.end(1)
        await calls.wait_for(4)
        assert calls.items[3] == list("gh")
        for number, size in ((2, 4), (3, 2)):
            calls.answer(number, *range(size))
            calls.end(number)
        assert await asyncio.gather(*first, *others) == list("ABCDEFGH")

    asyncio.run(run())


def test_replicas_that_compute_are_sent_large_groups_only() -> None:
    async def run() -> None:
        calls = Calls()
        requests = Groups[str, str](calls.call, size=16, replicas=1)
        tasks = request(requests, "a")
        await calls.wait_for(1)
        tasks += request(requests, "bcdefgh")
        await asyncio.sleep(2 * groups.GATHER_S)
        assert len(calls.items) == 1
        tasks += request(requests, "i")
        await calls.wait_for(2)
        assert calls.items[1] == list("bcdefghi")
        tasks += request(requests, "jklmnopqr")  # more than two calls are not in progress
        await asyncio.sleep(2 * groups.GATHER_S)
        assert len(calls.items) == 2
        calls.answer(0, 0)
        calls.end(0)
        await calls.wait_for(3)
        assert calls.items[2] == list("jklmnopqr")
        for number in (1, 2):
            calls.answer(number, *range(len(calls.items[number])))
            calls.end(number)
        assert await asyncio.gather(*tasks) == list("ABCDEFGHIJKLMNOPQR")

    asyncio.run(run())


def test_group_has_at_most_its_size() -> None:
    async def run() -> None:
        calls = Calls()
        requests = Groups[str, str](calls.call, size=3, replicas=1)
        tasks = request(requests, "abcdefgh")
        for number, items in enumerate(["a", "bcd", "efg", "h"]):
            await calls.wait_for(number + 1)
            assert calls.items[number] == list(items)
            calls.answer(number, *range(len(items)))
            calls.end(number)
        assert await asyncio.gather(*tasks) == list("ABCDEFGH")

    asyncio.run(run())


def test_result_does_not_wait_for_others_of_its_group() -> None:
    async def run() -> None:
        calls = Calls()
        requests = Groups[str, str](calls.call, size=16, replicas=1)
        tasks = request(requests, "abc")
        await calls.wait_for(1)
        calls.end(0, ValueError("lost"))
        await calls.wait_for(2)
        calls.answer(1, 1)
        assert await tasks[2] == "C"
        assert not tasks[1].done()
        calls.end(1, ValueError("also lost"))
        with pytest.raises(ValueError, match=r"^lost"):
            await tasks[0]
        with pytest.raises(ValueError, match=r"^also lost"):
            await tasks[1]

    asyncio.run(run())


def test_request_does_not_wait_for_long_calls() -> None:
    async def run() -> None:
        calls = Calls()
        requests = Groups[str, str](calls.call, size=16, replicas=1)
        (long,) = request(requests, "a")
        await calls.wait_for(1)
        (short,) = request(requests, "b")
        large = asyncio.create_task(requests.result_alone("c"))
        await calls.wait_for(2)
        assert calls.items[1] == ["c"]
        await calls.wait_for(3)
        calls.answer(2, 0)
        calls.answer(1, 0)
        assert (await short, await large) == ("B", "C")
        assert not long.done()
        calls.answer(0, 0)
        assert await long == "A"

    asyncio.run(run())


def test_call_is_canceled_once_nobody_wants_its_results() -> None:
    async def run() -> None:
        calls = Calls()
        requests = Groups[str, str](calls.call, size=16, replicas=1)
        tasks = request(requests, "abcd")
        await calls.wait_for(1)
        tasks[3].cancel()
        tasks[0].cancel()
        await calls.wait_for(2)
        assert calls.canceled == [0] and calls.items[1] == ["b", "c"]
        calls.answer(1, 0)
        assert await tasks[1] == "B"
        tasks[2].cancel()
        (after,) = request(requests, "e")
        await calls.wait_for(3)
        assert calls.canceled == [0, 1] and calls.items[2] == ["e"]
        calls.answer(2, 0)
        assert await after == "E"

    asyncio.run(run())


def test_call_without_a_result_is_an_error() -> None:
    async def run() -> None:
        calls = Calls()
        requests = Groups[str, str](calls.call, size=16, replicas=1)
        for result in (requests.result, requests.result_alone):
            task = asyncio.create_task(result("a"))
            await calls.wait_for(len(calls.items) + 1)
            calls.end(-1)
            with pytest.raises(RuntimeError, match="ended without a result"):
                await task

    asyncio.run(run())
