"""Space of row caches is checked before they are filled, and unused caches make way."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.cache_fill import cache_parts
from pipeline.data.cache_space import CacheSpaceError, available_bytes
from pipeline.data.dataset import dataset_digest, open_dataset
from pipeline.data.row_cache import cache_bytes, cache_folder, held_rows
from pipeline.data.shard_manifest import open_shards
from pipeline.data.uncached import ShardMels, open_dataset_to_read
from pipeline.io.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty folder of caches."""
    monkeypatch.setenv("MELRAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def limit(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setenv("MELRAY_CACHE_GB", repr(size / 1e9))


def test_cache_beyond_limit_is_refused_first(
    shards: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, cache_bytes(open_shards(shards)) / 3)
    with pytest.raises(
        CacheSpaceError,
        match=r"its rows need 0\.\d MB in .*cache on .*, but only 0\.0 MB of MELRAY_CACHE_GB are left: share "
        "the rows among nodes with --data-placement partitioned, or set MELRAY_CACHE to a folder on a larger",
    ):
        open_dataset(shards)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_share_within_limit_is_cached(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = open_shards(shards)
    limit(monkeypatch, 1.1 * cache_bytes(manifest) / 2)
    assert open_dataset(shards, wanted=[0, 2]).mels[0].any()
    with pytest.raises(CacheSpaceError, match="use more nodes, or set MELRAY_CACHE"):
        open_dataset(shards, wanted=[0, 1, 2])


def test_disk_without_space_is_refused_first(
    shards: Path, full_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELRAY_CACHE", str(full_disk / "cache"))
    (full_disk / "filler").write_bytes(bytes(270_000))
    with pytest.raises(CacheSpaceError, match=r"need 0\.\d MB in .*, but only 0\.\d MB are free"):
        open_dataset(shards)


def test_shards_of_another_share_make_way(shards: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = open_shards(shards)
    parts = cache_parts(manifest)
    open_dataset(shards, wanted=[0, 1])
    limit(monkeypatch, cache_bytes(manifest) / 2 + 20_000)
    open_dataset(shards, wanted=[2, 3])
    held = held_rows(cache / dataset_digest(manifest), manifest)
    assert held.tolist() == [0, 0, parts[2].rows, parts[3].rows]


def test_unused_cache_makes_way_after_a_day(
    shards: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = cache / ("0" * 24)
    other.mkdir(parents=True)
    (other / "mels.f16").write_bytes(os.urandom(100_000))
    limit(monkeypatch, 1.1 * cache_bytes(open_shards(shards)) + 50_000)
    with pytest.raises(CacheSpaceError):
        open_dataset(shards)
    os.utime(other, (time.time() - 25 * 3600,) * 2)
    open_dataset(shards)
    assert not other.exists()


def test_other_files_do_not_count(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "thesis").mkdir(parents=True)
    (cache / "thesis" / "draft").write_bytes(bytes(1_000_000))
    limit(monkeypatch, 500_000)
    assert available_bytes(cache) == 500_000


@pytest.mark.parametrize("text", ["much", "0", "-1", "nan"])
def test_unusable_limit_raises(text: str, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELRAY_CACHE_GB", text)
    with pytest.raises(UserError, match=f"MELRAY_CACHE_GB {text}: not a positive number"):
        open_dataset(shards)


def test_rows_without_cache_equal_those_with(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = open_dataset_to_read(shards)
    assert isinstance(cached.mels, np.memmap)
    monkeypatch.setenv("MELRAY_CACHE", str(cache_folder() / "other"))
    limit(monkeypatch, 1000)
    dataset = open_dataset_to_read(shards)
    assert isinstance(dataset.mels, ShardMels)
    assert dataset.table.equals(cached.table)
    assert dataset.mels.shape == cached.mels.shape
    for index in (np.array([59, 0, 17, 18, 0]), slice(3, 40), 7, np.array([], np.int64)):
        np.testing.assert_array_equal(dataset.mels[index], cached.mels[index])
