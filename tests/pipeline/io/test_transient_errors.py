"""Which errors of a read are repeated, and how often."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pipeline.io.store_errors import store_error
from pipeline.io.transient_errors import is_transient, repeat_transient


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ESTALE, "Stale file handle"),
        TimeoutError("timed out"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        OSError(
            "AWS Error SLOW_DOWN during GetObject operation: Please reduce your request rate. (HTTP 503)"
        ),
        OSError("google::cloud::Status(UNAVAILABLE: Retry policy exhausted"),
    ],
)
def test_errors_of_network_and_devices_are_transient(error: OSError):
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        FileNotFoundError("s3://bucket/x: no such object"),
        PermissionError(errno.EACCES, "Permission denied"),
        IsADirectoryError(errno.EISDIR, "Is a directory"),
        OSError(errno.ENOSPC, "No space left on device"),
        store_error("<Code>NoSuchBucket</Code>", "s3://bucket", "x"),
    ],
)
def test_errors_of_files_and_accounts_are_permanent(error: OSError):
    assert not is_transient(error)


@pytest.mark.parametrize(("failures", "attempts"), [(0, 1), (1, 2), (2, 3), (3, 3)])
def test_read_is_repeated_until_it_succeeds(failures: int, attempts: int):
    calls = []

    def read() -> str:
        calls.append(1)
        if len(calls) <= failures:
            raise OSError(errno.EIO, "Input/output error")
        return "content"

    if failures < 3:
        assert repeat_transient(read, (0, 0)) == "content"
    else:
        with pytest.raises(OSError, match="Input/output error"):
            repeat_transient(read, (0, 0))
    assert len(calls) == attempts


def test_missing_file_is_not_repeated(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        repeat_transient((tmp_path / "missing").read_bytes, (60, 60))
