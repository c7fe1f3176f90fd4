"""Rows without spectrograms equal those of the dataset, with and without its cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.dataset import open_dataset
from pipeline.data.rows import read_rows
from pipeline.io.errors import UserError
from tests.helpers.sounds import write_shards


def test_rows_equal_dataset_without_and_with_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELRAY_CACHE", str(tmp_path / "cache"))
    shards = write_shards(tmp_path)
    from_shards = read_rows(shards)
    assert not list(tmp_path.glob("cache/*/rows.parquet"))
    dataset = open_dataset(shards)
    for rows in (from_shards, read_rows(shards)):
        assert rows.class_names == dataset.class_names
        assert rows.table.equals(dataset.table)
        assert rows.labels.tolist() == dataset.labels.tolist()


def test_missing_shard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELRAY_CACHE", str(tmp_path / "cache"))
    shards = write_shards(tmp_path)
    next(shards.glob("part-*.parquet")).unlink()
    with pytest.raises(UserError, match=r"shard .*part-.*parquet is missing: rerun `melray extract`"):
        read_rows(shards)
