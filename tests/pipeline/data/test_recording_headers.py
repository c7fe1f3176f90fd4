"""Lengths of recordings that are rows of Parquet files: read by row group, concurrently, in their order."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.audio.parquet_batches import row_batches
from pipeline.audio.recordings import Recording
from pipeline.data.recording_headers import read_headers
from pipeline.io.row_location import row_path, row_suffix
from tests.helpers.audio_formats import RATE, encode
from tests.helpers.parquet_audio import AUDIO_TYPE, write_parquet
from tests.helpers.sounds import tone

MB = 1 << 20
# Reads the lengths of all rows; prints their sum, and by how many bytes the peak of memory exceeds the start.
READ_LENGTHS = """
import json, re, sys
import pandas as pd
import pyarrow.parquet as pq
from pathlib import Path
from pipeline.data.recording_headers import read_headers
from pipeline.io.row_location import row_path, row_suffix
import soundfile, pipeline.audio.recordings

def peak():
    # Unlike ru_maxrss, without the memory of the process that started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10

path = Path(sys.argv[1])
rows = range(pq.read_metadata(path).num_rows)
start = peak()
headers = list(read_headers(pd.Series([row_path(path, row_suffix(row)) for row in rows])))
print(json.dumps([peak() - start, sum(header.seconds for header in headers)]))
"""


def seconds_of(row: int) -> float:
    return 0.1 + row / 100


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Write 25 recordings of different lengths to two files, in row groups of four; row 6 is no audio."""
    rows = [
        {"audio": {"bytes": encode(tone(300, seconds_of(row), rate=RATE)), "path": None}} for row in range(25)
    ]
    rows[6] = {"audio": {"bytes": b"not audio", "path": None}}
    rows[7] = {"audio": None}
    return [
        write_parquet(tmp_path / "a.parquet", rows[:14]),
        write_parquet(tmp_path / "b.parquet", rows[14:]),
    ]


def locations(file: Path, rows: list[int]) -> list[str]:
    return [row_path(file, row_suffix(row)) for row in rows]


def expected(row: int) -> Recording | None:
    return None if row in (6, 7) else Recording(pytest.approx(seconds_of(row), abs=0.001), RATE)


def test_lengths_are_those_of_the_rows_in_their_order(files: list[Path]) -> None:
    paths = locations(files[0], list(range(14))) + locations(files[1], list(range(11)))
    assert list(read_headers(pd.Series(paths))) == [expected(row) for row in range(25)]


def test_some_rows_in_any_order_have_their_lengths(files: list[Path]) -> None:
    paths = [*locations(files[1], [3, 1, 9]), *locations(files[0], [13, 0]), *locations(files[1], [0])]
    assert list(read_headers(pd.Series(paths))) == [expected(row) for row in (17, 15, 23, 13, 0, 14)]


def test_a_missing_file_and_a_missing_row_have_no_length(files: list[Path], tmp_path: Path) -> None:
    paths = locations(tmp_path / "gone.parquet", [0, 1]) + locations(files[1], [10, 11])
    assert list(read_headers(pd.Series(paths))) == [None, None, expected(24), None]


def test_batches_have_whole_row_groups_of_one_file(files: list[Path]) -> None:
    paths = locations(files[0], list(range(14))) + locations(files[1], list(range(11)))
    batches = list(row_batches(paths, min_rows=5))
    assert [path for batch in batches for path in batch.paths] == paths
    assert [len(batch.paths) for batch in batches] == [8, 6, 8, 3]


@pytest.mark.parametrize(("rows", "group_size"), [(50, 1), (400, 20)])
def test_memory_is_bounded(rows: int, group_size: int, tmp_path: Path) -> None:
    """Of 400 MB: in row groups of one large row, and in those whose only page has all rows."""
    size = 400 * MB // rows
    header = encode(tone(300, 0.1, rate=RATE))[:44]
    header = header[:4] + (size + 36).to_bytes(4, "little") + header[8:40] + size.to_bytes(4, "little")
    path, schema = tmp_path / "x.parquet", pa.schema({"audio": AUDIO_TYPE})
    samples = random.Random(0).randbytes(size)
    group = pa.table(
        {"audio": pa.array([{"bytes": header + samples, "path": None}] * group_size, AUDIO_TYPE)}
    )
    layout = {"use_dictionary": False, "data_page_size": 400 * MB, "compression": "none"}
    with pq.ParquetWriter(path, schema, **layout) as writer:
        for _ in range(rows // group_size):
            writer.write_table(group)
    assert pq.read_metadata(path).num_row_groups == rows // group_size
    command = [sys.executable, "-c", READ_LENGTHS, str(path)]
    result = subprocess.run(command, capture_output=True, timeout=120, check=True)
    peak, total = json.loads(result.stdout.splitlines()[-1])
    assert total == pytest.approx(rows * (size // 2) / RATE)
    assert peak < 300 * MB
