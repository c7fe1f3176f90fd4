"""Concurrent calls with results in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.io.concurrent import map_concurrently


def test_results_keep_order_of_items() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.05 if item == 0 else 0)
        return item * item

    assert list(map_concurrently(slow_first, range(20), threads=4)) == [item * item for item in range(20)]


def test_calls_run_at_same_time() -> None:
    barrier = threading.Barrier(4, timeout=10)

    def meet(item: int) -> int:
        barrier.wait()  # fails unless four calls are active
        return item

    assert list(map_concurrently(meet, range(8), threads=4)) == list(range(8))


def test_items_are_read_limited_number_ahead() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            read.append(item)
            yield item

    results = map_concurrently(str, items(), threads=2, ahead=5)
    assert next(results) == "0" and len(read) == 5
    results.close()
    assert len(read) == 5


def test_large_results_are_computed_fewer_ahead() -> None:
    read: list[int] = []

    def sizes() -> Iterator[int]:
        for size in (4, 4, 4, 90, 1, 1):
            read.append(size)
            yield size

    results = map_concurrently(str, sizes(), threads=4, item_bytes=lambda size: size, max_bytes=10)
    counts = []
    for result, size in zip(results, (4, 4, 4, 90, 1, 1), strict=True):
        assert result == str(size)
        counts.append(len(read))
    # The third waits for the first, the fourth for all before it, and the fifth for the fourth.
    assert counts == [3, 4, 4, 5, 6, 6]


def test_error_is_raised_at_its_item() -> None:
    results = map_concurrently(lambda item: 6 // item, [3, 2, 0, 1], threads=4)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_drops_waiting_calls() -> None:
    started: list[int] = []

    def record(item: int) -> int:
        started.append(item)
        time.sleep(0.05)
        return item

    results = map_concurrently(record, range(50), threads=1, ahead=50)
    next(results)
    results.close()
    assert len(started) < 10
