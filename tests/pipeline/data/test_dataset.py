"""What training sees is what extraction wrote; made once, checked once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.dataset import COLUMNS, KEEP_SECONDS, cache_folder, dataset_digest, open_dataset
from pipeline.data.shards import mel_values, open_shards, read_shard
from pipeline.extract import extract, run_in_process
from pipeline.io.errors import UserError
from tests.helpers.audio_formats import write_broken
from tests.helpers.sounds import SMALL, extract_config, write_tones


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MELRAY_CACHE", str(tmp_path / "cache"))
    extract(extract_config(write_tones(tmp_path / "data"), tmp_path / "shards", copies=1), run_in_process)
    return tmp_path / "shards"


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = len(content) // 2
    content[place : place + 8] = bytes(byte ^ 0xFF for byte in content[place : place + 8])
    path.write_bytes(content)


def test_rows_are_those_of_the_shards(shards: Path):
    manifest = open_shards(shards)
    tables = [read_shard(shards / part.name) for part in manifest.parts]
    rows = open_dataset(shards)
    assert rows.mels.shape == (60, *SMALL.shape)
    assert rows.mels.tobytes() == b"".join(mel_values(table, SMALL.shape).tobytes() for table in tables)
    assert rows.table.to_dict("records") == [
        row for table in tables for row in table.select(COLUMNS).to_pylist()
    ]
    assert rows.class_names == ("tone 0", "tone 1", "tone 2")
    assert rows.labels.tolist() == [int(label[-1]) for label in rows.table["label"]]
    assert rows.features == SMALL
    assert rows.digest == dataset_digest(manifest)


def test_the_second_time_nothing_is_written_and_no_part_is_read(shards: Path):
    first = open_dataset(shards)
    files = {path: path.stat().st_mtime_ns for path in cache_folder().rglob("*") if path.is_file()}
    for part in shards.glob("part-*"):
        part.unlink()
    second = open_dataset(shards)
    np.testing.assert_array_equal(first.mels, second.mels)
    assert first.table.equals(second.table)
    assert {path: path.stat().st_mtime_ns for path in cache_folder().rglob("*") if path.is_file()} == files


def test_the_digest_follows_the_content(shards: Path, tmp_path: Path):
    first = open_dataset(shards)
    config = extract_config(tmp_path / "data", tmp_path / "other", copies=1)
    extract(config, run_in_process)
    assert open_dataset(config.out).digest == first.digest
    os.utime(next((tmp_path / "data").rglob("*.wav")), (1, 1))
    extract(config, run_in_process)
    assert open_dataset(config.out).digest != first.digest


def test_rows_cannot_be_changed(shards: Path):
    with pytest.raises(ValueError, match="read-only"):
        open_dataset(shards).mels[0] = 0


def test_a_damaged_part_is_named_and_nothing_is_kept(shards: Path):
    part = sorted(shards.glob("part-*"))[1]
    whole = part.read_bytes()
    damage(part)
    for _ in range(2):
        with pytest.raises(UserError, match=f"{part.name} is damaged"):
            open_dataset(shards)
    part.write_bytes(whole)
    assert len(open_dataset(shards).table) == 60
    part.unlink()
    (cache_folder() / open_dataset(shards).digest / "rows.parquet").unlink()
    with pytest.raises(UserError, match=f"{part.name} is missing"):
        open_dataset(shards)


def test_a_part_with_other_rows_is_named(shards: Path):
    first, second = sorted(shards.glob("part-*"))[2:4]
    assert open_shards(shards).parts[2].rows != open_shards(shards).parts[3].rows
    first.write_bytes(second.read_bytes())
    with pytest.raises(UserError, match=f"{first.name} has 12 rows instead of 16"):
        open_dataset(shards)


def test_a_cache_that_was_left_half_made_is_made_anew(shards: Path):
    digest = dataset_digest(open_shards(shards))
    (cache_folder() / digest).mkdir()
    (cache_folder() / digest / "mels.f16").write_bytes(b"half")
    assert len(open_dataset(shards).mels) == 60


def test_a_set_without_a_usable_clip(tmp_path: Path):
    for name in ("a", "b"):
        write_broken(tmp_path / "data" / name)
    config = extract_config(
        tmp_path / "data", tmp_path / "shards", max_rejected=1.0, group_pattern=None, fold_pattern=None
    )
    assert extract(config, run_in_process).rows == 0
    with pytest.raises(UserError, match=r"not one usable clip in it; see rejected.csv there"):
        open_dataset(config.out)


def test_old_caches_are_cleared_and_nothing_else(shards: Path):
    folder = cache_folder()
    old, fresh, foreign = folder / ("0" * 24), folder / ("1" * 24), folder / "thesis"
    for path in (old, fresh, foreign):
        path.mkdir()
        (path / "mels.f16").touch()
    for path in (old, foreign):
        os.utime(path, (path.stat().st_mtime - KEEP_SECONDS - 60,) * 2)
    open_dataset(shards)
    assert [path.exists() for path in (old, fresh, foreign)] == [False, True, True]
