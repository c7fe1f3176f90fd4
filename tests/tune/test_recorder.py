"""Reasons of failed trials."""

from __future__ import annotations

import pytest

from tune.recorder import failure_reason


@pytest.mark.parametrize(
    "error, failures, reason",
    [
        (
            "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.",
            1,
            "its worker was killed",
        ),
        (
            "RuntimeError: [../gloo/pair.cc] Connection closed by peer [127.0.0.1]:1",
            3,
            "its worker was killed 3 times",
        ),
        (
            "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.",
            2,
            "out of memory 2 times",
        ),
        ("Failure # 1\nTraceback\n  File x\nValueError: no such thing\n", 1, "ValueError: no such thing"),
        ("", 1, "unknown"),
    ],
)
def test_failure_reason_is_one_line(error: str, failures: int, reason: str) -> None:
    assert failure_reason(error, failures) == reason
