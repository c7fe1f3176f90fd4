"""Sizes of work units: enough units for a large cluster, not more than they are worth."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.distributed.unit_size import CLIP_BYTES, unit_size


def clips(count: int, size: int = 100_000) -> pd.DataFrame:
    return pd.DataFrame({"size": [size] * count})


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (0, 8),
        (1, 8),
        (400, 8),
        (700, 16),
        (4000, 64),
        (4096, 64),
        (16_384, 64),
        (65_536, 64),
        (65_537, 128),
        (200_000, 256),
        (1_000_000, 256),
    ],
)
def test_short_clips_fill_units_worth_their_cost(count: int, size: int):
    assert unit_size(clips(count), 8, 256) == size


@pytest.mark.parametrize(("count", "mebibytes", "size"), [(400, 100, 1), (16_384, 100, 16), (4000, 4, 16)])
def test_long_recordings_get_smaller_units(count: int, mebibytes: int, size: int):
    assert unit_size(clips(count, mebibytes * CLIP_BYTES), 8, 256) == size


@pytest.mark.parametrize(
    ("count", "mebibytes", "size"), [(400, 0, 32), (400, 100, 32), (16_384, 100, 64), (200_000, 4, 256)]
)
def test_units_of_rows_of_parquet_files_share_row_groups(count: int, mebibytes: int, size: int):
    paths = [f"/data/train.parquet#{row:06d}" for row in range(count)]
    assert unit_size(clips(count, mebibytes * CLIP_BYTES).assign(path=paths), 8, 256) == size


def test_large_jobs_use_a_thousand_cores():
    for count in (65_536, 100_000, 262_144, 1_000_000):
        assert count / unit_size(clips(count), 8, 256) >= 512


@pytest.mark.parametrize(("count", "size"), [(100, 16), (16_000, 16), (20_000, 32), (1_000_000, 128)])
def test_expensive_clips_need_no_large_units(count: int, size: int):
    assert unit_size(clips(count), 16, 128, worthwhile=16) == size


def test_missing_files_and_sizes_count_as_short():
    assert unit_size(clips(400, -1), 8, 256) == unit_size(pd.DataFrame({"seed": range(400)}), 8, 256) == 8


def test_a_few_more_files_do_not_change_the_size():
    sizes = [unit_size(clips(count), 8, 256) for count in range(10_000, 60_000, 1000)]
    assert set(sizes) == {64}
