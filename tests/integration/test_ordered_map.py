"""Reads on Ray before a job is planned: results in order, errors in one line."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from pipeline.data.recording_headers import map_batches_here, read_headers
from pipeline.distributed.ordered_map import OrderedMap
from pipeline.io.errors import UserError
from pipeline.io.row_location import row_path, row_suffix
from tests.helpers.audio_formats import encode
from tests.helpers.parquet_audio import write_parquet
from tests.helpers.sounds import tone

MUCH = 1e6


def process_and_square(number: int) -> tuple[int, int]:
    if number < 0:
        raise UserError(f"negative: {number}")
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid(), number * number


ordered_map = OrderedMap(map, "square")


def test_little_work_runs_in_this_process() -> None:
    results = ordered_map(process_and_square, range(5), 0.1)
    assert list(results) == [(os.getpid(), number * number) for number in range(5)]


@pytest.mark.usefixtures("ray_session")
def test_much_work_runs_in_workers_in_order() -> None:
    results = list(ordered_map(process_and_square, range(100, 300), MUCH))
    assert [square for _, square in results] == [number * number for number in range(100, 300)]
    assert os.getpid() not in {process for process, _ in results}


@pytest.mark.usefixtures("ray_session")
def test_errors_have_one_line() -> None:
    with pytest.raises(UserError, match=r"^negative: -1$"):
        list(ordered_map(process_and_square, [1, -1, 2], MUCH))
    with pytest.raises(UserError, match=r"^Ray could not square: [^\n]+$"):
        list(ordered_map(process_and_square, [1, 13, 2], MUCH))


@pytest.mark.usefixtures("ray_session")
def test_lengths_of_rows_are_those_read_in_this_process(tmp_path: Path) -> None:
    rows = [{"audio": {"bytes": encode(tone(300, 0.1 + row / 10)), "path": None}} for row in range(20)]
    rows[3] = {"audio": {"bytes": b"not audio", "path": None}}
    files = [write_parquet(tmp_path / f"{number}.parquet", rows[number::2]) for number in range(2)]
    paths = pd.Series([row_path(file, row_suffix(row)) for file in files for row in range(10)])
    on_ray = OrderedMap(map_batches_here, "read lengths")
    expected = list(read_headers(paths))
    assert expected.count(None) == 1
    assert list(read_headers(paths, lambda read, batches, _: on_ray(read, batches, MUCH))) == expected
