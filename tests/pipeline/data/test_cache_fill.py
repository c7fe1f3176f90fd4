"""Filling of the row cache: it continues after an interruption, and uses intact parts only."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from pipeline.data import dataset as dataset_module
from pipeline.data import row_cache
from pipeline.data.dataset import ShardDataset, dataset_digest, open_dataset
from pipeline.data.row_cache import cache_folder, open_cache
from pipeline.data.shards import open_shards
from pipeline.io import console
from pipeline.io.errors import UserError
from tests.helpers.sounds import write_shards

PARTIAL_NAMES = {"mels.f16", "rows.part", "fill.jsonl"}


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("extracted"))


@pytest.fixture(scope="module")
def expected(extracted: Path) -> ShardDataset:
    return open_dataset(extracted)


@pytest.fixture
def shards(extracted: Path, expected: ShardDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the shards, with an empty cache folder; `expected` is mapped from another one."""
    monkeypatch.setenv("MELRAY_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(extracted, tmp_path / "shards"))


def cache_of(shards: Path) -> Path:
    return cache_folder() / dataset_digest(open_shards(shards))


def fill_partially(shards: Path, num_shards: int) -> Path:
    """Fill the cache from the first shards, and return its folder."""
    manifest = open_shards(shards)
    steps = open_cache(dataset_digest(manifest), shards, manifest)
    for _ in range(num_shards + 1):
        next(steps)
    steps.close()
    return cache_of(shards)


def delete_first_shards(shards: Path, count: int) -> None:
    for shard in open_shards(shards).shards[:count]:
        (shards / shard.name).unlink()


def assert_complete(shards: Path, expected: ShardDataset) -> None:
    dataset = open_dataset(shards)
    np.testing.assert_array_equal(dataset.mels, expected.mels)
    assert dataset.table.equals(expected.table)
    assert {path.name for path in cache_of(shards).iterdir()} == {"mels.f16", "rows.parquet"}


@pytest.mark.parametrize("num_shards", [0, 1, 3, 4])
def test_interrupted_fill_continues(num_shards: int, shards: Path, expected: ShardDataset):
    assert len(open_shards(shards).shards) == 4
    folder = fill_partially(shards, num_shards)
    assert {path.name for path in folder.iterdir()} == PARTIAL_NAMES
    delete_first_shards(shards, num_shards)  # they are not read again
    assert_complete(shards, expected)


def test_killed_fill_continues(shards: Path, expected: ShardDataset):
    def fill_and_die() -> None:
        manifest = open_shards(shards)
        for rows in open_cache(dataset_digest(manifest), shards, manifest):
            if rows and rows > 20:
                os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=fill_and_die)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    delete_first_shards(shards, 1)
    assert_complete(shards, expected)


def test_fill_continues_after_damaged_shard(shards: Path, expected: ShardDataset):
    last = shards / open_shards(shards).shards[-1].name
    content = last.read_bytes()
    last.write_bytes(content[:100])
    for _ in range(2):
        with pytest.raises(UserError, match=f"{last.name} is damaged"):
            open_dataset(shards)
    last.write_bytes(content)
    delete_first_shards(shards, 3)
    assert_complete(shards, expected)


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 3)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"{}\n")


@pytest.mark.parametrize("name", sorted(PARTIAL_NAMES))
@pytest.mark.parametrize("change", [flip_last_byte, cut_off, empty, append, Path.unlink])
def test_damaged_parts_are_filled_again(
    change: Callable[[Path], None], name: str, shards: Path, expected: ShardDataset
):
    change(fill_partially(shards, 3) / name)
    assert_complete(shards, expected)


def test_damaged_part_keeps_those_before(shards: Path, expected: ShardDataset):
    flip_last_byte(fill_partially(shards, 3) / "mels.f16")
    delete_first_shards(shards, 2)
    assert_complete(shards, expected)


def test_parts_of_another_dataset_are_not_used(shards: Path, expected: ShardDataset, tmp_path: Path):
    other = write_shards(tmp_path / "other", clips=12)
    folder = fill_partially(other, 2)
    folder.rename(cache_of(shards))
    assert_complete(shards, expected)


def test_waiting_for_another_process_has_heartbeats(
    shards: Path, expected: ShardDataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(row_cache, "_LOCK_S", 0.05)
    monkeypatch.setattr(row_cache, "HEARTBEAT_S", 0.1)
    caplog.set_level(logging.INFO, "melray")
    lock, beats = FileLock(f"{cache_of(shards)}.lock", thread_local=False), []
    lock.acquire()
    timer = threading.Timer(1.0, lock.release)
    timer.start()
    start = time.monotonic()
    assert len(open_dataset(shards, lambda: beats.append(1)).mels) == len(expected.mels)
    assert time.monotonic() - start > 0.9
    assert len(beats) > 10
    assert 2 <= caplog.text.count("waiting for another process that fills the row cache") <= 10


def test_fill_of_large_dataset_shows_progress(
    shards: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "melray")
    monkeypatch.setattr(console, "PROGRESS_S", 0)
    fill_partially(shards, 2)
    open_dataset(shards)
    assert "caching shards" not in caplog.text
    shutil.rmtree(cache_folder())
    monkeypatch.setattr(dataset_module, "SMALL_DATASET_BYTES", 0)
    open_dataset(shards)
    assert "caching shards: 60 of 60 rows" in caplog.text
