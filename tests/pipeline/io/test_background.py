"""Background writes: only the newest value is written, and nothing can stop or delay the caller."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.io import background
from pipeline.io.background import NewestValueWriter


def test_values_during_a_write_are_replaced_by_newest():
    started, release, written = threading.Event(), threading.Event(), []

    def write(value: int) -> None:
        started.set()
        release.wait()
        written.append(value)

    writer = NewestValueWriter(write, "test")
    writer.put(0)
    started.wait()
    for value in range(1, 100):
        writer.put(value)
    release.set()
    writer.close()
    assert written == [0, 99]


def test_errors_do_not_end_the_writer():
    written = []

    def write(value: int) -> None:
        if value == 0:
            raise OSError("disk full")
        if value == 1:
            raise ValueError("a bug")
        written.append(value)

    writer = NewestValueWriter(write, "test")
    for value in range(3):
        writer.put(value)
        time.sleep(0.05)
    writer.close()
    assert written == [2]


def test_close_ends_the_thread():
    writer = NewestValueWriter(lambda value: None, "ends with close")
    writer.close()
    writer.close()
    writer.put(1)
    assert "ends with close" not in [thread.name for thread in threading.enumerate()]


def test_close_does_not_wait_for_hanging_write(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(background, "CLOSE_TIMEOUT_S", 0.1)
    release = threading.Event()
    writer = NewestValueWriter(lambda value: release.wait(), "test")
    writer.put(1)
    start = time.monotonic()
    writer.close()
    assert time.monotonic() - start < 5
    release.set()
