"""The dataset equals its shards; the cache is filled once, verified, and cleaned up."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.dataset import COLUMNS, MAX_CACHE_AGE_S, cache_folder, dataset_digest, open_dataset
from pipeline.data.shards import mel_values, open_shards, read_shard
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.io.errors import UserError
from tests.helpers.audio_formats import write_broken_files
from tests.helpers.sounds import SMALL_FEATURES, extract_config, write_tones


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MELRAY_CACHE", str(tmp_path / "cache"))
    extract(extract_config(write_tones(tmp_path / "data"), tmp_path / "shards", copies=1), run_in_process)
    return tmp_path / "shards"


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
    assert dataset.table.to_dict("records") == [
        row for table in tables for row in table.select(COLUMNS).to_pylist()
    ]
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


def test_digest_follows_content(shards: Path, tmp_path: Path):
    first = open_dataset(shards)
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


def test_incomplete_cache_is_rebuilt(shards: Path):
    digest = dataset_digest(open_shards(shards))
    (cache_folder() / digest).mkdir()
    (cache_folder() / digest / "mels.f16").write_bytes(b"half")
    assert len(open_dataset(shards).mels) == 60


def test_dataset_without_usable_clips_raises(tmp_path: Path):
    for name in ("a", "b"):
        write_broken_files(tmp_path / "data" / name)
    config = extract_config(
        tmp_path / "data", tmp_path / "shards", max_rejected=1.0, group_pattern=None, fold_pattern=None
    )
    assert extract(config, run_in_process).rows == 0
    with pytest.raises(UserError, match=r"no usable clips; see its rejected\.csv"):
        open_dataset(config.out)


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
