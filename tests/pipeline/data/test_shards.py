"""Shards are read back bit by bit, damage is detected, and writes are atomic; manifests are versioned."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.audio.augment import AugmentConfig
from pipeline.audio.features import FeatureConfig, Spectrogram
from pipeline.data.duplicates import content_digest
from pipeline.data.shard_manifest import MANIFEST_NAME, ShardManifest, open_shards
from pipeline.data.shards import (
    ClipWarning,
    Rejected,
    ShardInfo,
    ShardSummary,
    mel_values,
    read_shard,
    read_shard_footer,
    shard_digests,
    write_shard,
)
from pipeline.io.errors import UserError
from pipeline.io.files import write_atomically, write_text_atomically

SHAPE = (5, 7)
REJECTED = [
    Rejected("dog/9.wav", "/data/dog/9.wav", "empty file (0 bytes)"),
    Rejected("ü", "/日本", 'an "odd", reason'),
]
WARNINGS = [ClipWarning("dög/0.wav", "/data/dög/0.wav", "truncated, 90 % used")]


def random_rows(clips: int = 3, copies: int = 2) -> tuple[list[dict], list[list[Spectrogram]]]:
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
def shard(tmp_path: Path) -> Path:
    write_shard(tmp_path / "part-0.parquet", *random_rows(), REJECTED, SHAPE, WARNINGS)
    return tmp_path / "part-0.parquet"


def test_shard_is_read_bit_by_bit(shard: Path):
    records, rows = random_rows()
    table = read_shard(shard)
    assert table.num_rows == 9
    written = [(record, row) for record, clip_rows in zip(records, rows, strict=True) for row in clip_rows]
    for values, (record, row) in zip(table.to_pylist(), written, strict=True):
        assert {name: values[name] for name in ("clip_id", "path", "label", "fold", "group")} == {
            name: record[name] for name in ("clip_id", "path", "label", "fold", "group")
        }
        assert (values["copy"], values["augmentation"]) == (row.copy, row.augmentation)
        assert values["strength"] == np.float32(row.strength)
        assert values["mel"] == row.mel.tobytes()
    mels = mel_values(table, SHAPE)
    assert mels.dtype == np.float16
    assert mels.tobytes() == np.stack([row.mel for _, row in written]).tobytes()
    np.testing.assert_array_equal(mel_values(table.slice(4, 3), SHAPE), mels[4:7])


def test_any_parquet_reader_decodes_spectrograms(shard: Path):
    row = pq.read_table(shard).to_pylist()[4]
    mel = np.frombuffer(row["mel"], np.float16).reshape(SHAPE)
    np.testing.assert_array_equal(mel, random_rows()[1][1][1].mel)


def test_footer_has_counts_rejected_clips_and_warnings(shard: Path):
    assert read_shard_footer(shard) == ShardSummary(
        ShardInfo(name="part-0.parquet", rows=9, clips=3, rejected=2, warnings=1),
        REJECTED,
        WARNINGS,
        b"".join(content_digest(rows[0].mel) for rows in random_rows()[1]),
    )


def test_digests_are_read_with_the_rows(shard: Path):
    for columns in (None, ["clip_id", "copy"]):
        assert shard_digests(read_shard(shard, columns)) == read_shard_footer(shard).digests


@pytest.mark.parametrize("digests", [None, "", "ff", "x" * 48])
def test_damaged_digests_raise(digests: str | None, shard: Path):
    table = pq.read_table(shard)
    metadata = json.loads(table.schema.metadata[b"melray"]) | {"digests": digests}
    pq.write_table(table.replace_schema_metadata({"melray": json.dumps(metadata)}), shard)
    with pytest.raises(UserError, match="is incomplete"):
        read_shard_footer(shard)
    with pytest.raises(UserError, match="damaged footer"):
        shard_digests(read_shard(shard))


def test_selected_columns_are_read(shard: Path):
    assert read_shard(shard, ["clip_id", "copy"]).column_names == ["clip_id", "copy"]


def test_shard_without_rows_is_valid(tmp_path: Path):
    path = tmp_path / "part.parquet"
    assert write_shard(path, [], [], REJECTED, SHAPE).info == ShardInfo(
        name="part.parquet", rows=0, clips=0, rejected=2
    )
    assert mel_values(read_shard(path), SHAPE).shape == (0, *SHAPE)
    assert read_shard_footer(path).rejected == REJECTED


def test_equal_rows_give_equal_files(tmp_path: Path):
    for name in "ab":
        write_shard(tmp_path / name, *random_rows(), REJECTED, SHAPE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_flipped_bits_are_detected_or_harmless(shard: Path):
    content, table = shard.read_bytes(), read_shard(shard)
    detected = 0
    for position in range(0, len(content), 5):
        flipped = bytes([content[position] ^ 1 << position % 8])
        shard.write_bytes(content[:position] + flipped + content[position + 1 :])
        try:
            damaged = read_shard(shard)
            mel_values(damaged, SHAPE)
        except UserError as error:
            assert str(error).endswith("delete it and rerun `melray extract`")
            detected += 1
        else:
            # The manifest has the number of rows as well.
            assert damaged.equals(table) or damaged.num_rows != table.num_rows
        with suppress(UserError):
            read_shard_footer(shard)
    assert detected > 100


def test_flipped_bit_in_spectrogram_is_detected(shard: Path):
    content = shard.read_bytes()
    position = content.index(random_rows()[1][1][0].mel.tobytes()[10:40])
    shard.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
    with pytest.raises(UserError, match="is damaged"):
        read_shard(shard)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9, 0.999])
def test_truncated_shard_raises(fraction: float, shard: Path):
    content = shard.read_bytes()
    shard.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(UserError, match="is damaged"):
        read_shard(shard)
    with pytest.raises(UserError, match=r"is incomplete .*: delete it and rerun `melray extract`"):
        read_shard_footer(shard)


def test_missing_or_foreign_shard_raises(shard: Path):
    with pytest.raises(UserError, match="is missing: rerun `melray extract` to regenerate missing shards"):
        read_shard(shard.with_name("other"))
    pq.write_table(pq.read_table(shard, columns=["copy"]).replace_schema_metadata(None), shard)
    with pytest.raises(UserError, match="is incomplete"):
        read_shard_footer(shard)


def test_spectrograms_of_another_shape_raise(shard: Path):
    with pytest.raises(UserError, match="not of shape"):
        mel_values(read_shard(shard), (SHAPE[0], SHAPE[1] + 1))


def test_failed_sync_leaves_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_shard(tmp_path / "part-0.parquet", *random_rows(), REJECTED, SHAPE)
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_previous_file(tmp_path: Path):
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


def test_manifest_of_earlier_release_is_refused(tmp_path: Path):
    """A version 1 manifest, of which the shard list is named `parts` and the column `recipe`."""
    features = FeatureConfig()
    manifest = ShardManifest(
        fingerprint=features.fingerprint,
        features=features,
        augment=AugmentConfig(),
        class_names=("a", "b"),
        clips=2,
        rows=2,
        rejected=0,
        source={},
        shards=(ShardInfo(name="part-0.parquet", rows=2, clips=2, rejected=0),),
    )
    values = manifest.to_dict()
    path = tmp_path / MANIFEST_NAME
    path.write_text(json.dumps(values))
    assert open_shards(tmp_path) == manifest
    old_values = {"parts": values.pop("shards"), **values, "schema_version": 1}
    path.write_text(json.dumps(old_values))
    with pytest.raises(UserError) as raised:
        open_shards(tmp_path)
    assert str(raised.value) == (
        f"{path} has schema version 1, made by an older melray: extract again with --overwrite"
    )
