"""Parts hold what was put in, bit by bit; damage is noticed; nothing is ever half there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.audio.features import Spectrogram
from pipeline.data.shards import Rejected, ShardInfo, mel_values, read_shard, read_shard_footer, write_shard
from pipeline.io.errors import UserError
from pipeline.io.files import write_atomically, write_text_atomically

SHAPE = (5, 7)
REJECTED = [
    Rejected("dog/9.wav", "/data/dog/9.wav", "empty file (0 bytes)"),
    Rejected("ü", "/日本", 'an "odd", reason'),
]


def some_rows(clips: int = 3, copies: int = 2) -> tuple[list[dict], list[list[Spectrogram]]]:
    rng = np.random.default_rng(0)
    records = [
        {
            "clip_id": f"dög/{i}.wav",
            "path": f"/data/dög/{i}.wav",
            "label": "dög",
            "fold": i - 1,
            "group": f"g{i}",
            "size": 3,
            "mtime_ns": 4,
        }
        for i in range(clips)
    ]
    rows = [
        [
            Spectrogram(copy, copy / 7, "noise", rng.normal(-40, 20, SHAPE).astype(np.float16))
            for copy in range(copies + 1)
        ]
        for _ in records
    ]
    return records, rows


@pytest.fixture
def part(tmp_path: Path) -> Path:
    write_shard(tmp_path / "part-0.parquet", *some_rows(), REJECTED, SHAPE)
    return tmp_path / "part-0.parquet"


def test_what_was_written_is_read_bit_by_bit(part: Path):
    records, rows = some_rows()
    table = read_shard(part)
    assert table.num_rows == 9
    written = [(record, row) for record, of_clip in zip(records, rows, strict=True) for row in of_clip]
    for got, (record, row) in zip(table.to_pylist(), written, strict=True):
        assert {name: got[name] for name in ("clip_id", "path", "label", "fold", "group")} == {
            name: record[name] for name in ("clip_id", "path", "label", "fold", "group")
        }
        assert (got["copy"], got["recipe"]) == (row.copy, row.recipe)
        assert got["strength"] == np.float32(row.strength)
        assert got["mel"] == row.mel.tobytes()
    values = mel_values(table, SHAPE)
    assert values.dtype == np.float16
    assert values.tobytes() == np.stack([row.mel for _, row in written]).tobytes()
    np.testing.assert_array_equal(mel_values(table.slice(4, 3), SHAPE), values[4:7])


def test_any_parquet_reader_reads_it(part: Path):
    row = pq.read_table(part).to_pylist()[4]
    mel = np.frombuffer(row["mel"], np.float16).reshape(SHAPE)
    np.testing.assert_array_equal(mel, some_rows()[1][1][1].mel)


def test_a_part_tells_of_itself(part: Path):
    assert read_shard_footer(part) == (
        ShardInfo(name="part-0.parquet", rows=9, clips=3, rejected=2),
        REJECTED,
    )


def test_columns_can_be_read_alone(part: Path):
    assert read_shard(part, ["clip_id", "copy"]).column_names == ["clip_id", "copy"]


def test_a_part_of_nothing(tmp_path: Path):
    path = tmp_path / "part.parquet"
    assert write_shard(path, [], [], REJECTED, SHAPE) == ShardInfo(
        name="part.parquet", rows=0, clips=0, rejected=2
    )
    assert mel_values(read_shard(path), SHAPE).shape == (0, *SHAPE)
    assert read_shard_footer(path)[1] == REJECTED


def test_the_same_rows_make_the_same_bytes(tmp_path: Path):
    for name in "ab":
        write_shard(tmp_path / name, *some_rows(), REJECTED, SHAPE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_flipped_bits_are_noticed_or_without_effect(part: Path):
    whole, table = part.read_bytes(), read_shard(part)
    noticed = 0
    for place in range(0, len(whole), 5):
        part.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            read = read_shard(part)
            mel_values(read, SHAPE)
        except UserError as error:
            assert str(error).endswith("delete it and run `melray extract` again")
            noticed += 1
        else:
            # The manifest of a set holds the number of rows too.
            assert read.equals(table) or read.num_rows != table.num_rows
        with suppress(UserError):
            read_shard_footer(part)
    assert noticed > 100


def test_flipped_spectrograms_are_always_noticed(part: Path):
    whole = part.read_bytes()
    place = whole.index(some_rows()[1][1][0].mel.tobytes()[10:40])
    part.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(UserError, match="is damaged"):
        read_shard(part)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_part_that_is_cut_off(share: float, part: Path):
    whole = part.read_bytes()
    part.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match="is damaged"):
        read_shard(part)
    with pytest.raises(UserError, match="is not a whole shard"):
        read_shard_footer(part)


def test_a_part_that_is_missing_or_foreign(part: Path):
    with pytest.raises(UserError, match="is missing: run `melray extract` again"):
        read_shard(part.with_name("other"))
    pq.write_table(pq.read_table(part, columns=["copy"]).replace_schema_metadata(None), part)
    with pytest.raises(UserError, match="is not a whole shard"):
        read_shard_footer(part)


def test_spectrograms_of_another_shape_are_refused(part: Path):
    with pytest.raises(UserError, match="not of shape"):
        mel_values(read_shard(part), (SHAPE[0], SHAPE[1] + 1))


def test_a_part_that_does_not_reach_the_disk_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_shard(tmp_path / "part-0.parquet", *some_rows(), REJECTED, SHAPE)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_nothing(tmp_path: Path):
    def fail(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "new", fail)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").write_text("old")
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "old", fail)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
    write_text_atomically(tmp_path / "old", "nëw")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["nëw"]
