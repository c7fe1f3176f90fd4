"""Extraction of windows of annotated recordings: shards, updates, splits, and resuming after kill -9."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from models.config import ConfigError
from pipeline.audio.features import FeatureConfig
from pipeline.data.group_split import groups_on_both_sides
from pipeline.data.rows import read_rows
from pipeline.data.shard_manifest import open_shards
from pipeline.data.shards import read_shard
from pipeline.data.split import row_folds, split_rows
from pipeline.data.split_config import SplitConfig
from pipeline.data.windows import window_id
from pipeline.distributed.batch_job import StageBuilder, UnitResult, run_in_process
from pipeline.distributed.work_unit import WorkUnit
from pipeline.extract import ExtractConfig, extract, plan_job
from pipeline.io.errors import UserError
from tests.helpers.annotated import write_recording, write_recordings
from tests.helpers.processes import kill_and_resume_extraction
from tests.helpers.s3_server import S3Server
from tests.helpers.sounds import SMALL_FEATURES

FEATURES = SMALL_FEATURES.model_copy(update={"seconds": None, "trim_db": 60.0})


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recordings"))


def window_config(data: Path, out: Path, **settings: object) -> ExtractConfig:
    return ExtractConfig(
        **{
            "data": data,
            "out": out,
            "annotations": "auto",
            "window": 1.0,
            "hop": 0.5,
            "features": FEATURES,
        }
        | settings
    )


def read_table(out: Path) -> pa.Table:
    return pa.concat_tables([read_shard(out / shard.name) for shard in open_shards(out).shards])


def run_never(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
    raise AssertionError(f"{len(units)} units were run")


def test_windows_become_multi_label_rows(recordings: Path, tmp_path: Path):
    manifest = extract(window_config(recordings, tmp_path / "out"), run_in_process)
    assert manifest == open_shards(tmp_path / "out")
    assert manifest.multi_label and manifest.hop == 0.5
    assert manifest.class_names == ("tone 0", "tone 1", "tone 2")
    assert (manifest.features.seconds, manifest.features.trim_db) == (1.0, None)
    table = read_table(tmp_path / "out")
    assert table.column_names[:7] == ["clip_id", "path", "label", "fold", "group", "start", "end"]
    rows = {row["clip_id"]: row for row in table.to_pylist() if row["copy"] == 0}
    assert len(rows) == manifest.clips and table.num_rows == manifest.rows == 2 * manifest.clips
    row = rows["rec 0.wav@000001.500"]  # events at 1.0-1.8 and 2.0-2.8
    assert (row["label"], row["start"], row["end"], row["group"]) == ("tone 0;tone 1", 1.5, 2.5, "rec 0.wav")
    labeled = sum(bool(row["label"]) for row in rows.values())
    assert labeled == len(rows) - labeled  # as much background


def test_extraction_of_windows_is_not_repeated(recordings: Path, tmp_path: Path):
    config = window_config(recordings, tmp_path / "out")
    assert extract(config, run_in_process) == extract(config, run_never)


def test_changed_annotation_makes_few_shards_again(tmp_path: Path):
    data = write_recordings(tmp_path / "data")
    config = window_config(data, tmp_path / "out", background_ratio=100)
    first = extract(config, run_in_process)
    with (data / "rec 0.txt").open("a") as file:
        file.write("9.2\t9.4\ttone 0\n")
    second = extract(config, run_in_process)
    old, new = ({shard.name for shard in manifest.shards} for manifest in (first, second))
    assert 0 < len(new - old) < len(new) / 2


def test_other_windows_or_labels_need_overwrite(recordings: Path, tmp_path: Path):
    extract(window_config(recordings, tmp_path / "out"), run_in_process)
    for settings, message in (
        ({"hop": 1.0}, r"hop = 0\.5 \(requested 1\.0\)"),
        ({"window": 2.0}, r"features\.seconds = 1\.0 \(requested 2\.0\)"),
    ):
        with pytest.raises(UserError, match=f"already contains shards made with {message}; choose another"):
            extract(window_config(recordings, tmp_path / "out", **settings), run_never)


def test_window_length_and_clip_length_must_agree(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"--features\.seconds 2 and --window 1 differ"):
        window_config(tmp_path, tmp_path, features=FeatureConfig(seconds=2.0))


def test_unreadable_recording_is_one_rejected_line(tmp_path: Path):
    data = write_recordings(tmp_path / "data")
    (data / "bad.wav").write_text("not audio")
    (data / "bad.txt").write_text("0.5\t1.5\ttone 0\n")
    manifest = extract(window_config(data, tmp_path / "out"), run_in_process)
    with (tmp_path / "out/rejected.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert manifest.rejected == 1
    assert row["clip_id"] == "bad.wav@000000.000" and row["path"] == str(data / "bad.wav")


def test_class_folders_give_single_label_windows(tmp_path: Path):
    for label in range(2):
        write_recording(tmp_path / f"data/tone {label}/{label}.wav", 5.0, [(0.0, 5.0, f"tone {label}")])
    manifest = extract(window_config(tmp_path / "data", tmp_path / "out", annotations=None), run_in_process)
    assert not manifest.multi_label and manifest.hop == 0.5 and manifest.clips == 18
    assert set(read_table(tmp_path / "out")["label"].to_pylist()) == {"tone 0", "tone 1"}


def test_whole_clips_of_several_classes_have_no_times(recordings: Path, tmp_path: Path):
    rows = "rec 0.wav,tone 0;tone 1\nrec 1.wav,tone 1\nrec 1.wav,tone 2\nrec 2.wav,\n"
    table = tmp_path / "clips.csv"
    table.write_text("path,label\n" + "".join(f"{recordings}/{row}\n" for row in rows.splitlines()))
    config = ExtractConfig(data=table, out=tmp_path / "out", multi_label=True, features=FEATURES, copies=0)
    manifest = extract(config, run_in_process)
    assert manifest.multi_label and manifest.hop is None
    assert "start" not in read_table(tmp_path / "out").column_names
    assert read_table(tmp_path / "out")["label"].to_pylist() == ["tone 0;tone 1", "tone 1;tone 2", ""]


@pytest.mark.parametrize("seed", range(3))
def test_windows_of_a_recording_are_on_one_side(seed: int, tmp_path: Path):
    for label in range(2):
        for number in range(6):
            path = tmp_path / f"data/tone {label}/{number}.wav"
            write_recording(path, 3.0, [(0.0, 3.0, f"tone {label}")], seed=10 * label + number)
    extract(window_config(tmp_path / "data", tmp_path / "out", annotations=None), run_in_process)
    rows = read_rows(tmp_path / "out")
    recordings = rows.table["path"].to_numpy()
    split = split_rows(rows, SplitConfig(val_fraction=0.3, seed=seed))
    is_val, is_train = (rows.table.index.isin(part) for part in (split.val, split.train))
    assert is_val.any() and is_train.any()
    assert groups_on_both_sides(recordings, is_val, is_train) == []
    folds = row_folds(rows, SplitConfig(num_folds=3, seed=seed))
    assert all(len(set(folds[recordings == path])) == 1 for path in set(recordings))


def test_units_of_windows_follow_window_length(tmp_path: Path):
    starts = [5.0 * number for number in range(4096)]
    clips = pd.DataFrame(
        {
            "clip_id": [window_id("rec.wav", start) for start in starts],
            **{"path": "/rec.wav", "label": "", "fold": -1, "group": "rec.wav"},
            **{"size": 4_000_000_000, "mtime_ns": 8},
            "start": starts,
            "end": [start + 5.0 for start in starts],
        }
    )
    config = window_config(tmp_path, tmp_path)
    # As for files of 5 s, although each window's file has 4 GB.
    assert {unit.clips for unit in plan_job(clips, config, SMALL_FEATURES).units} == {64}


def test_bucket_gives_the_same_windows_as_disk(recordings: Path, tmp_path: Path, server: S3Server):
    bucket = server.bucket("recordings", recordings)
    local = extract(window_config(recordings, tmp_path / "local"), run_in_process)
    remote = extract(window_config(bucket, tmp_path / "remote"), run_in_process)
    assert (remote.clips, remote.rejected, remote.class_names) == (local.clips, 0, local.class_names)
    tables = [read_table(tmp_path / name).drop_columns(["path"]) for name in ("local", "remote")]
    assert tables[0].equals(tables[1])


@pytest.mark.slow
def test_resume_after_kill_equals_uninterrupted_run(tmp_path: Path):
    data = write_recordings(tmp_path / "data", count=4, seconds=30.0)
    out = tmp_path / "out"
    flags = ("--data", data, "--annotations", "auto", "--window", 2, "--hop", 0.5, "--background-ratio", 100)
    kill_and_resume_extraction(out, *flags, "--copies", 3, "--no-ray", log=tmp_path / "log")
    settings = {"window": 2.0, "hop": 0.5, "background_ratio": 100.0, "copies": 3}
    config = ExtractConfig(data=data, out=tmp_path / "expected", annotations="auto", **settings)
    assert extract(config, run_in_process) == open_shards(out)
    for path in config.out.glob("part-*"):
        assert path.read_bytes() == (out / path.name).read_bytes()
