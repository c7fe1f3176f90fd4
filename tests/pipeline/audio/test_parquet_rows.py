"""Audio files inside Parquet files: which column, each row's bytes, damage, memory, and requests."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.audio.clip_files import FetchedFile
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import load_clip
from pipeline.audio.parquet_column import audio_column
from pipeline.audio.parquet_rows import RowReader, first_rows_of_group, read_row
from pipeline.io.errors import UserError
from pipeline.io.row_location import RowLocation, row_path, row_suffix
from tests.helpers.parquet_audio import AUDIO_TYPE, clip, labeled_rows, write_parquet
from tests.helpers.s3_server import S3Server
from tests.helpers.sounds import SMALL_FEATURES

MB = 2**20
# Reads every second row of a file; prints the peak of pyarrow's memory, and the sum of sizes.
READ_ROWS = """
import json, sys
import pyarrow as pa
from pipeline.audio.parquet_rows import RowReader

reader = RowReader(sys.argv[1])
sizes = [len(reader.read(row)) for row in range(0, int(sys.argv[2]), 2)]
print(json.dumps([pa.default_memory_pool().max_memory(), sum(sizes)]))
"""


def schema(features: dict[str, str] | None = None, **types: pa.DataType) -> pa.Schema:
    described = {name: {"_type": kind} for name, kind in (features or {}).items()}
    metadata = {"huggingface": json.dumps({"info": {"features": described}})}
    return pa.schema(types, metadata if features else None)


@pytest.mark.parametrize(
    ("columns", "content", "names"),
    [
        (schema(audio=AUDIO_TYPE), "audio.bytes", "audio.path"),
        (schema(image=AUDIO_TYPE, audio=AUDIO_TYPE), "audio.bytes", "audio.path"),
        (schema({"x": "Audio"}, audio=AUDIO_TYPE, x=AUDIO_TYPE), "x.bytes", "x.path"),
        (schema(x=pa.struct({"bytes": pa.large_binary()})), "x.bytes", None),
        (schema(x=pa.struct({"bytes": pa.binary(), "path": pa.int64()})), "x.bytes", None),
        (schema(label=pa.string(), x=pa.binary()), "x", None),
        (schema(x=pa.binary(), wav=pa.large_binary()), "wav", None),
    ],
)
def test_audio_column_is_found(columns: pa.Schema, content: str, names: str | None) -> None:
    found = audio_column(columns)
    assert found is not None and (found.content, found.names) == (content, names)


@pytest.mark.parametrize(
    "columns",
    [
        schema(label=pa.string()),
        schema({"image": "Image"}, image=AUDIO_TYPE),
        schema(x=pa.binary(), y=pa.binary()),
        schema(audio=pa.struct({"path": pa.string()})),
        schema(audio=pa.list_(pa.float32())),
        schema(mel=pa.binary(4)),
    ],
)
def test_other_columns_are_no_audio(columns: pa.Schema) -> None:
    assert audio_column(columns) is None


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write ten clips in row groups of four."""
    return write_parquet(tmp_path_factory.mktemp("rows") / "train.parquet", labeled_rows(10))


def test_rows_are_read_in_any_order(file: Path) -> None:
    rows = [*range(10), *reversed(range(10)), *random.Random(0).choices(range(10), k=30)]
    for row in rows:
        assert read_row(RowLocation(str(file), row)) == clip(row)


def test_plain_bytes_are_read(tmp_path: Path) -> None:
    rows = [{"wav": clip(number)} for number in range(6)]
    path = write_parquet(tmp_path / "x.parquet", rows, features={})
    assert [read_row(RowLocation(str(path), row)) for row in range(6)] == [clip(row) for row in range(6)]


def test_replaced_file_is_read_again(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", labeled_rows(4))
    assert read_row(RowLocation(str(path), 1)) == clip(1)
    write_parquet(tmp_path / "new", labeled_rows(3, first=20)).replace(path)
    assert read_row(RowLocation(str(path), 2)) == clip(22)
    with pytest.raises(ValueError, match="no row 3: it has changed"):
        read_row(RowLocation(str(path), 3))


def test_first_rows_are_those_of_the_row_group(file: Path) -> None:
    assert first_rows_of_group(RowLocation(str(file), 6), 3) == [f"{file}#00000{row}" for row in (4, 5, 6)]
    assert first_rows_of_group(RowLocation(str(file), 9), 3) == [f"{file}#00000{row}" for row in (8, 9)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "unreadable: no audio: the value in the Parquet file is NULL"),
        (b"", "empty file (0 bytes)"),
        (b"no audio at all, but text", "unreadable: Format not recognised"),
        (clip(0)[:20], "unreadable: "),
    ],
)
def test_unusable_row_has_a_reason(content: bytes | None, reason: str, tmp_path: Path) -> None:
    rows = [{"audio": {"bytes": content, "path": "x.wav"}}, {"audio": {"bytes": clip(1), "path": "y.wav"}}]
    path = write_parquet(tmp_path / "x.parquet", rows)
    location = row_path(path, row_suffix(0, "x.wav"))
    for source in (location, FetchedFile.fetch(location)):
        with pytest.raises(AudioDecodeError) as error:
            load_clip(source, SMALL_FEATURES)
        assert str(error.value).startswith(reason)
    assert load_clip(row_path(path, row_suffix(1)), SMALL_FEATURES).size


def test_null_struct_is_no_audio(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [{"audio": None}, *labeled_rows(1)])
    with pytest.raises(ValueError, match="is NULL"):
        read_row(RowLocation(str(path), 0))
    assert read_row(RowLocation(str(path), 1)) == clip(0)


def test_missing_file_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(AudioDecodeError, match=r"^no such file$"):
        load_clip(f"{tmp_path}/none.parquet#000001", SMALL_FEATURES)


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_damaged_page_costs_the_rest_of_its_row_group(compression: str, tmp_path: Path) -> None:
    options = {"compression": compression, "write_page_checksum": True, "write_statistics": False}
    pages = {"data_page_size": 1, "write_batch_size": 1, "use_dictionary": False}  # a page for each row
    path = write_parquet(tmp_path / "x.parquet", labeled_rows(8), **options, **pages)
    data = bytearray(path.read_bytes())
    position = data.find(clip(2)[60:90])
    assert position > 0
    data[position] ^= 1
    path.write_bytes(data)
    contents: list[bytes | str] = []
    for row in range(8):
        try:
            contents.append(read_row(RowLocation(str(path), row)))
        except ValueError as error:
            contents.append(str(error))
    first = next(row for row, content in enumerate(contents) if isinstance(content, str))
    assert contents[:first] == [clip(row) for row in range(first)] and first == 2
    assert contents[4:] == [clip(row) for row in range(4, 8)]
    reasons = {str(content) for content in contents[first:4]}
    assert len(reasons) == 1 and reasons.pop().startswith("a damaged row group of the Parquet file (")
    # Also if the first row that is read is a damaged one.
    with pytest.raises(ValueError, match="a damaged row group"):
        RowReader(str(path)).read(first)


def test_memory_is_that_of_a_page_not_of_a_row_group(tmp_path: Path) -> None:
    rows, size = 100, MB
    contents = [random.Random(row).randbytes(size) for row in range(rows)]  # cannot be compressed
    audio = pa.array([{"bytes": content, "path": None} for content in contents], AUDIO_TYPE)
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"audio": audio}), path, use_content_defined_chunking=True, row_group_size=rows)
    assert pq.read_metadata(path).num_row_groups == 1
    command = [sys.executable, "-c", READ_ROWS, str(path), str(rows)]
    result = subprocess.run(command, capture_output=True, timeout=120, check=True)
    peak, total = json.loads(result.stdout)
    assert total == rows * size // 2 and peak < 20 * MB


@pytest.fixture
def bucket(server: S3Server, tmp_path: Path) -> Any:
    """Write 24 rows of 1 MB in row groups of four to a bucket."""
    rows = [{"audio": {"bytes": bytes([row]) * MB, "path": None}} for row in range(24)]
    write_parquet(
        tmp_path / "b/x.parquet", rows, compression="none", use_dictionary=False, write_batch_size=1
    )
    path = server.bucket("rows", tmp_path / "b")
    server.configure(deny=False)
    server.reset()
    return path


def test_only_row_groups_that_are_needed_are_requested(bucket: Any, server: S3Server) -> None:
    location = RowLocation(str(bucket / "x.parquet"), 21)
    assert read_row(location) == bytes([21]) * MB
    # The end of the file, and row 20 and 21 in blocks of 4 MB.
    assert server.requests() == {"GET": 2}
    assert read_row(location._replace(row=22)) == bytes([22]) * MB
    assert server.requests() == {"GET": 2}


def test_unreachable_store_is_not_the_fault_of_the_row(bucket: Any, server: S3Server) -> None:
    file = bucket / "x.parquet"
    assert read_row(RowLocation(str(file), 0)) == bytes(MB)
    server.configure(deny=True)
    with pytest.raises(UserError, match=r"reading s3://rows/x.parquet#000008"):
        load_clip(row_path(file, row_suffix(8)), SMALL_FEATURES)
    server.configure(deny=False)
    assert read_row(RowLocation(str(file), 8)) == bytes([8]) * MB
