"""The dataset equals its shards; the cache is filled once, verified, and cleaned up."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data import row_cache
from pipeline.data.cache_space import MAX_CACHE_AGE_S
from pipeline.data.dataset import dataset_digest, open_dataset
from pipeline.data.row_cache import cache_folder
from pipeline.data.row_table import COLUMNS
from pipeline.data.shard_manifest import open_shards
from pipeline.data.shards import mel_values, read_shard
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.io.errors import UserError
from tests.helpers.sounds import SMALL_FEATURES, extract_config, write_shards


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("extracted"))


@pytest.fixture
def shards(extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MELRAY_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(extracted, tmp_path / "shards"))


def damage(path: Path) -> None:
    """Invert eight bytes in the middle of a file."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(byte ^ 0xFF for byte in content[middle : middle + 8])
    path.write_bytes(content)


def modification_times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_dataset_equals_shards(shards: Path):
    manifest = open_shards(shards)
    tables = [read_shard(shards / shard.name) for shard in manifest.shards]
    dataset = open_dataset(shards)
    assert dataset.mels.shape == (60, *SMALL_FEATURES.shape)
    assert dataset.mels.tobytes() == b"".join(
        mel_values(table, SMALL_FEATURES.shape).tobytes() for table in tables
    )
    assert dataset.table[COLUMNS].to_dict("records") == [
        row for table in tables for row in table.select(COLUMNS).to_pylist()
    ]
    assert dataset.table["split_group"].equals(dataset.table["group"])
    assert dataset.table.groupby("clip_id")["content"].nunique().eq(1).all()
    assert dataset.class_names == ("tone 0", "tone 1", "tone 2")
    assert dataset.labels.tolist() == [int(label[-1]) for label in dataset.table["label"]]
    assert dataset.features == SMALL_FEATURES
    assert dataset.digest == dataset_digest(manifest)


def test_second_open_reads_only_the_cache(shards: Path):
    first = open_dataset(shards)
    times = modification_times(cache_folder())
    for path in shards.glob("part-*"):
        path.unlink()
    second = open_dataset(shards)
    np.testing.assert_array_equal(first.mels, second.mels)
    assert first.table.equals(second.table)
    assert modification_times(cache_folder()) == times


def test_digest_follows_content(tmp_path: Path):
    first = open_dataset(write_shards(tmp_path))
    config = extract_config(tmp_path / "data", tmp_path / "other", copies=1)
    extract(config, run_in_process)
    assert open_dataset(config.out).digest == first.digest
    os.utime(next((tmp_path / "data").rglob("*.wav")), (1, 1))
    extract(config, run_in_process)
    assert open_dataset(config.out).digest != first.digest


def test_spectrograms_are_read_only(shards: Path):
    with pytest.raises(ValueError, match="read-only"):
        open_dataset(shards).mels[0] = 0


def test_damaged_or_missing_shard_raises_every_time(shards: Path):
    shard = sorted(shards.glob("part-*"))[1]
    content = shard.read_bytes()
    damage(shard)
    for _ in range(2):
        with pytest.raises(UserError, match=f"{shard.name} is damaged"):
            open_dataset(shards)
    shard.write_bytes(content)
    assert len(open_dataset(shards).table) == 60
    shard.unlink()
    (cache_folder() / open_dataset(shards).digest / "rows.parquet").unlink()
    with pytest.raises(UserError, match=f"{shard.name} is missing"):
        open_dataset(shards)


def test_shard_with_different_row_count_raises(shards: Path):
    first, second = sorted(shards.glob("part-*"))[2:4]
    assert open_shards(shards).shards[2].rows != open_shards(shards).shards[3].rows
    first.write_bytes(second.read_bytes())
    with pytest.raises(UserError, match=f"{first.name} has 12 rows instead of 16"):
        open_dataset(shards)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize("name", ["mels.f16", "rows.parquet"])
@pytest.mark.parametrize("change", [Path.unlink, truncate, empty, lengthen])
def test_cache_that_lost_a_file_is_rebuilt(change: Callable[[Path], None], name: str, shards: Path):
    expected = open_dataset(shards)
    mels = expected.mels.copy()
    change(cache_folder() / expected.digest / name)
    dataset = open_dataset(shards)
    np.testing.assert_array_equal(dataset.mels, mels)
    assert dataset.table.equals(expected.table)


def test_damaged_cache_table_is_rebuilt(shards: Path):
    expected = open_dataset(shards)
    path = cache_folder() / expected.digest / "rows.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :])
    assert open_dataset(shards).table.equals(expected.table)


def test_cache_without_table_is_rebuilt(shards: Path):
    digest = dataset_digest(open_shards(shards))
    (cache_folder() / digest).mkdir()
    (cache_folder() / digest / "mels.f16").write_bytes(b"half")
    assert len(open_dataset(shards).mels) == 60


def test_deleted_cache_stays_readable_while_open(shards: Path):
    dataset = open_dataset(shards)
    expected = dataset.mels.copy()
    shutil.rmtree(cache_folder())
    np.testing.assert_array_equal(dataset.mels, expected)
    np.testing.assert_array_equal(open_dataset(shards).mels, expected)


@pytest.mark.parametrize("step", ["is_complete", "fill_cache", "_read_cache"])
def test_cache_deleted_while_it_is_opened_is_rebuilt(
    step: str, shards: Path, monkeypatch: pytest.MonkeyPatch
):
    """Delete the whole folder of caches right before a step, once."""
    original, calls = getattr(row_cache, step), []

    def run(*arguments: Any) -> Any:
        if not calls:
            shutil.rmtree(cache_folder())
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(row_cache, step, run)
    assert len(open_dataset(shards).mels) == 60
    assert len(calls) <= 2


def test_cache_that_is_always_deleted_raises(shards: Path, monkeypatch: pytest.MonkeyPatch):
    original = row_cache.fill_cache

    def run(folder: Path, *arguments: Any) -> Iterator[int | None]:
        yield from original(folder, *arguments)
        (folder / "mels.f16").unlink()

    monkeypatch.setattr(row_cache, "fill_cache", run)
    with pytest.raises(UserError, match="deleted several times while it was opened: set MELRAY_CACHE"):
        open_dataset(shards)


def test_cache_on_full_disk_raises_one_line(shards: Path, full_disk: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MELRAY_CACHE", str(full_disk / "cache"))
    with pytest.raises(OSError, match="No space"), open(full_disk / "filler", "wb") as file:
        file.write(bytes(1_000_000))
    os.truncate(full_disk / "filler", 240_000)
    with monkeypatch.context() as patch:
        patch.setattr(row_cache, "make_space", lambda *_: None)  # another process has filled the disk since
        with pytest.raises(
            UserError, match=r"disk full while caching shards in .*; MELRAY_CACHE sets the folder"
        ):
            open_dataset(shards)
    assert [path.suffix for path in cache_folder().iterdir()] == [".lock"]  # others need the space
    os.unlink(full_disk / "filler")
    assert len(open_dataset(shards).mels) == 60


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file", "MELRAY_CACHE .*file: not a folder"),
        ("file/cache", "MELRAY_CACHE .*file/cache: not a folder"),
        ("/proc/melray", "while creating the cache folder /proc/melray; MELRAY_CACHE sets the folder"),
    ],
)
def test_unusable_cache_folder_raises_one_line(
    path: str, message: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("thesis", encoding="utf-8")
    monkeypatch.setenv("MELRAY_CACHE", str(tmp_path / path))
    with pytest.raises(UserError, match=message):
        open_dataset(shards)


def test_dataset_without_usable_clips_raises(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "1.wav").write_text("not audio", encoding="utf-8")
    config = extract_config(
        tmp_path / "data", tmp_path / "shards", max_rejected=1.0, group_pattern=None, fold_pattern=None
    )
    assert extract(config, run_in_process).rows == 0
    with pytest.raises(UserError, match=r"no usable clips; see its rejected\.csv"):
        open_dataset(config.out)


def test_read_only_cache_folder_raises_one_line(
    shards: Path, full_disk: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MELRAY_CACHE", str(full_disk))
    subprocess.run(["mount", "-o", "remount,ro", full_disk], check=True)
    with pytest.raises(UserError, match=r"permission denied while caching shards in .*MELRAY_CACHE sets"):
        open_dataset(shards)


def test_old_caches_are_deleted_and_nothing_else(shards: Path):
    folder = cache_folder()
    old, recent, unrelated = folder / ("0" * 24), folder / ("1" * 24), folder / "thesis"
    for path in (old, recent, unrelated):
        path.mkdir()
        (path / "mels.f16").touch()
    for path in (old, unrelated):
        os.utime(path, (path.stat().st_mtime - MAX_CACHE_AGE_S - 60,) * 2)
    open_dataset(shards)
    assert [path.exists() for path in (old, recent, unrelated)] == [False, True, True]


def test_cache_folder_of_another_user_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MELRAY_CACHE", raising=False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    uid = os.getuid() + 1
    monkeypatch.setattr("os.getuid", lambda: uid)
    with pytest.raises(UserError, match=rf"melray-cache-{uid} is owned by another user: set MELRAY_CACHE"):
        cache_folder()
