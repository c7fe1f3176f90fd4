"""Filling of the row cache: concurrently, continued after an interruption, with intact parts only."""

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

from pipeline.data import cache_fill, row_cache
from pipeline.data import dataset as dataset_module
from pipeline.data.dataset import ShardDataset, dataset_digest, open_dataset
from pipeline.data.row_cache import cache_folder, held_rows, open_cache
from pipeline.data.shard_manifest import open_shards
from pipeline.io import console
from pipeline.io.errors import UserError
from tests.helpers.sounds import write_shards

NAMES = {"mels.f16", "rows.parquet", "fill.jsonl"}


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
    rows = sum(shard.rows for shard in manifest.shards[:num_shards])
    assert any(step == rows for step in steps)
    steps.close()
    return cache_of(shards)


def delete_first_shards(shards: Path, count: int) -> None:
    for shard in open_shards(shards).shards[:count]:
        (shards / shard.name).unlink()


@pytest.fixture
def single_fill_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill one shard after another, so that an interrupted fill holds no others."""
    monkeypatch.setattr(cache_fill, "MAX_THREADS", 1)


def assert_complete(shards: Path, expected: ShardDataset) -> None:
    dataset = open_dataset(shards)
    np.testing.assert_array_equal(dataset.mels, expected.mels)
    assert dataset.table.equals(expected.table)
    assert {path.name for path in cache_of(shards).iterdir()} == NAMES


@pytest.mark.usefixtures("single_fill_thread")
@pytest.mark.parametrize("num_shards", [0, 1, 3, 4])
def test_interrupted_fill_continues(num_shards: int, shards: Path, expected: ShardDataset):
    assert len(open_shards(shards).shards) == 4
    folder = fill_partially(shards, num_shards)
    assert {path.name for path in folder.iterdir()} == NAMES
    assert [rows > 0 for rows in held_rows(folder, open_shards(shards))] == [
        index < num_shards for index in range(4)
    ]
    delete_first_shards(shards, num_shards)  # they are not read again
    assert_complete(shards, expected)


@pytest.mark.usefixtures("single_fill_thread")
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
    middle = len(content) // 2  # in the spectrograms
    last.write_bytes(content[:middle] + bytes(8) + content[middle + 8 :])
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


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("change", [flip_last_byte, cut_off, empty, append, Path.unlink])
def test_damaged_parts_are_filled_again(
    change: Callable[[Path], None], name: str, shards: Path, expected: ShardDataset
):
    change(fill_partially(shards, 3) / name)
    assert_complete(shards, expected)


def test_damaged_part_keeps_the_others(shards: Path, expected: ShardDataset):
    parts = cache_fill.cache_parts(open_shards(shards))
    path = fill_partially(shards, 4) / "mels.f16"
    content = bytearray(path.read_bytes())
    content[parts[1].start] ^= 1
    path.write_bytes(content)
    for index in (0, 2, 3):
        (shards / parts[index].name).unlink()
    assert_complete(shards, expected)
    (shards / parts[1].name).unlink()
    assert_complete(shards, expected)


def test_changed_spectrograms_of_complete_cache_are_replaced(shards: Path, expected: ShardDataset):
    open_dataset(shards)
    path = cache_of(shards) / "mels.f16"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    assert_complete(shards, expected)


def test_spectrograms_survive_the_loss_of_the_table(shards: Path, expected: ShardDataset):
    """A cleaner took half of the cache; the table needs small columns of the shards only."""
    open_dataset(shards)
    path = cache_of(shards) / "mels.f16"
    before = path.stat().st_mtime_ns
    (cache_of(shards) / "rows.parquet").unlink()
    assert_complete(shards, expected)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_concurrent_fill_writes_same_rows(
    threads: int, shards: Path, expected: ShardDataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cache_fill, "MAX_THREADS", threads)
    assert_complete(shards, expected)


def test_fill_within_little_memory_writes_same_rows(
    shards: Path, expected: ShardDataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cache_fill, "MAX_MEMORY", 1)
    assert_complete(shards, expected)


def test_share_holds_its_rows_only(shards: Path, expected: ShardDataset):
    manifest = open_shards(shards)
    parts = cache_fill.cache_parts(manifest)
    dataset = open_dataset(shards, wanted=[1, 3])
    assert dataset.table.equals(expected.table)
    ends = np.cumsum([part.rows for part in parts])
    for index in (1, 3):
        rows = slice(ends[index] - parts[index].rows, ends[index])
        np.testing.assert_array_equal(dataset.mels[rows], expected.mels[rows])
    assert not dataset.mels[: parts[0].rows].any()
    assert held_rows(cache_of(shards), manifest).tolist() == [0, parts[1].rows, 0, parts[3].rows]


def test_larger_share_reads_missing_shards_only(shards: Path, expected: ShardDataset):
    manifest = open_shards(shards)
    open_dataset(shards, wanted=[1, 3])
    for index in (1, 3):
        (shards / manifest.shards[index].name).unlink()
    assert_complete(shards, expected)


def test_writes_to_a_share_stay_in_the_process(shards: Path, expected: ShardDataset):
    open_dataset(shards, wanted=[0]).mels[0] = 7
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
