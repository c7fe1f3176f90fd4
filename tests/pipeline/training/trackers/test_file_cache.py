"""Files that have not changed are not read again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.io.files import write_text_atomically
from pipeline.training.trackers.file_cache import FileCache

OLD_NS = 1_700_000_000_000_000_000


class Reader:
    """Reads a file, and counts how often."""

    def __init__(self, path: Path):
        self.path, self.count = path, 0

    def __call__(self) -> str | None:
        self.count += 1
        return self.path.read_text(encoding="utf-8") if self.path.is_file() else None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "trial.json"
    path.write_text("running", encoding="utf-8")
    os.utime(path, ns=(OLD_NS, OLD_NS))
    return path


def test_unchanged_file_is_read_once(file: Path) -> None:
    cache, read = FileCache(), Reader(file)
    assert [cache.read(file, read) for _ in range(5)] == ["running"] * 5
    assert read.count == 1


def test_file_of_another_time_size_or_inode_is_read_again(file: Path) -> None:
    cache, read = FileCache(), Reader(file)
    cache.read(file, read)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(" on")
    os.utime(file, ns=(OLD_NS, OLD_NS))
    assert cache.read(file, read) == "running on"
    write_text_atomically(file, "stopped on")  # as long as before
    os.utime(file, ns=(OLD_NS, OLD_NS))
    assert cache.read(file, read) == "stopped on"
    os.utime(file, ns=(OLD_NS, OLD_NS + 1))
    assert cache.read(file, read) == "stopped on"
    assert read.count == 4


def test_file_that_has_just_been_written_is_read_again(file: Path) -> None:
    # It may change again within the resolution of the file system's clock.
    cache, read = FileCache(), Reader(file)
    os.utime(file)
    assert [cache.read(file, read) for _ in range(2)] == ["running", "running"]
    assert read.count == 2


def test_missing_file_is_read_once_it_exists(tmp_path: Path) -> None:
    cache, read = FileCache(), Reader(tmp_path / "trial.json")
    assert cache.read(read.path, read) is None
    read.path.write_text("running", encoding="utf-8")
    assert cache.read(read.path, read) == "running"
