"""Extraction of audio inside Parquet files: spectrograms as of files, from disk and stores, and resuming."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.shard_manifest import open_shards
from pipeline.data.shards import read_shard
from pipeline.distributed.batch_job import StageBuilder, UnitResult, run_in_process
from pipeline.distributed.process_runner import ProcessRunner
from pipeline.distributed.work_unit import WorkUnit
from pipeline.extract import ExtractConfig, extract
from tests.helpers.hub_server import HubServer
from tests.helpers.parquet_audio import clip, labeled_rows, write_parquet
from tests.helpers.processes import kill_and_resume_extraction
from tests.helpers.s3_server import S3Server
from tests.helpers.sounds import SMALL_FEATURES, write_tones

CLASSES = ("tone 0", "tone 1", "tone 2")


def write_files_and_parquet(folder: Path) -> tuple[Path, Path]:
    """Write 45 tones as audio files, and the same ones to two Parquet files; return both folders."""
    files = write_tones(folder / "files", clips=15)
    labels = {"names": list(CLASSES), "_type": "ClassLabel"}
    features = {"audio": {"_type": "Audio"}, "label": labels}
    rows = [
        {
            "audio": {"bytes": path.read_bytes(), "path": path.name},
            "label": CLASSES.index(path.parent.name),
        }
        for path in sorted(files.rglob("*.wav"))
    ]
    data = folder / "owner/tones"
    write_parquet(data / "data/train-00000-of-00002.parquet", rows[:19], features, row_group_size=7)
    write_parquet(data / "data/train-00001-of-00002.parquet", rows[19:], features, row_group_size=7)
    write_parquet(data / "data/test-00000-of-00001.parquet", rows[:3], features)
    return files, data


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_files_and_parquet(tmp_path_factory.mktemp("tones"))


def config(data: Any, out: Path, **settings: object) -> ExtractConfig:
    return ExtractConfig(**{"data": data, "out": out, "features": SMALL_FEATURES, "copies": 0} | settings)


def mels(data: Any, out: Path, runner: Any = run_in_process, **settings: object) -> dict[str, bytes]:
    """Extract a dataset; return the spectrograms by label and name of the file, with start of the window."""
    manifest = extract(config(data, out, **settings), runner)
    assert manifest.rejected == 0
    rows = [row for shard in manifest.shards for row in read_shard(out / shard.name).to_pylist()]
    return {f"{row['label']}/{Path(row['clip_id']).name}": row["mel"] for row in rows}


def run_never(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
    raise AssertionError(f"{len(units)} units were run")


def test_spectrograms_equal_those_of_files(folders: tuple[Path, Path], tmp_path: Path) -> None:
    files, data = folders
    expected = mels(files, tmp_path / "files")
    assert mels(data, tmp_path / "out") == expected and len(expected) == 45
    assert mels(data, tmp_path / "processes", ProcessRunner(2)) == expected
    for path in (tmp_path / "out").glob("part-*"):
        assert path.read_bytes() == (tmp_path / "processes" / path.name).read_bytes()


def test_settings_are_chosen_from_rows(folders: tuple[Path, Path], tmp_path: Path) -> None:
    files, data = folders
    chosen = [
        extract(config(path, tmp_path / name, features={}), run_in_process)
        for name, path in (("files", files), ("out", data))
    ]
    assert chosen[0].features == chosen[1].features


@pytest.mark.parametrize("hop", [None, 0.25])
def test_windows_equal_those_of_files(hop: float | None, folders: tuple[Path, Path], tmp_path: Path) -> None:
    files, data = folders
    settings = {"features": {"mel": SMALL_FEATURES.mel}, "window": 0.5, "hop": hop}
    expected = mels(files, tmp_path / "files", **settings)
    assert mels(data, tmp_path / "out", **settings) == expected and len(expected) >= 90


def test_bucket_equals_disk(folders: tuple[Path, Path], server: S3Server, tmp_path: Path) -> None:
    bucket = server.bucket("parquet", folders[1])
    assert mels(bucket, tmp_path / "remote") == mels(folders[1], tmp_path / "local")
    server.reset()
    extract(config(bucket, tmp_path / "remote"), run_never)
    assert server.requests()["GET"] < 20


def test_hub_equals_disk(empty_hub: HubServer, tmp_path: Path) -> None:
    files, _ = write_files_and_parquet(empty_hub.root)
    assert mels("hf://datasets/owner/tones", tmp_path / "remote") == mels(files, tmp_path / "files")
    before = empty_hub.requests["resolve"]
    extract(config("hf://datasets/owner/tones", tmp_path / "remote"), run_never)
    # The second time, only footers and labels are read.
    assert empty_hub.requests["resolve"] - before < 20


def test_unchanged_dataset_is_not_extracted_again(folders: tuple[Path, Path], tmp_path: Path) -> None:
    first = extract(config(folders[1], tmp_path / "out"), run_in_process)
    assert extract(config(folders[1], tmp_path / "out"), run_never) == first


def test_changed_file_makes_its_shards_again(tmp_path: Path) -> None:
    for name, first in (("train-0.parquet", 0), ("train-1.parquet", 32)):
        write_parquet(tmp_path / "data" / name, labeled_rows(32, first))
    before = extract(config(tmp_path / "data", tmp_path / "out"), run_in_process)
    rows = labeled_rows(32, 32)
    rows[3]["audio"]["bytes"] = clip(99)
    write_parquet(tmp_path / "data/train-1.parquet", rows)
    after = extract(config(tmp_path / "data", tmp_path / "out"), run_in_process)
    names = [{shard.name for shard in manifest.shards} for manifest in (before, after)]
    assert after.clips == 64 and len(names[0] & names[1]) == 1 == len(names[1] - names[0])


def test_unusable_rows_are_rejected(tmp_path: Path) -> None:
    rows = labeled_rows(10)
    for row, content in ((2, b"no audio at all, but text"), (5, None), (7, b"")):
        rows[row]["audio"]["bytes"] = content
    path = write_parquet(tmp_path / "data/train-0.parquet", rows)
    manifest = extract(config(tmp_path / "data", tmp_path / "out", max_rejected=0.5), run_in_process)
    assert (manifest.clips, manifest.rejected) == (7, 3)
    with (tmp_path / "out/rejected.csv").open(encoding="utf-8", newline="") as file:
        rejected = list(csv.DictReader(file))
    suffixes = [f"#00000{row}/{row}.wav" for row in (2, 5, 7)]
    assert [row["clip_id"] for row in rejected] == [f"train-0.parquet{suffix}" for suffix in suffixes]
    assert [row["path"] for row in rejected] == [f"{path}{suffix}" for suffix in suffixes]
    assert [row["reason"] for row in rejected] == [
        "unreadable: Format not recognised",
        "unreadable: no audio: the value in the Parquet file is NULL",
        "empty file (0 bytes)",
    ]


@pytest.mark.slow
def test_resume_after_kill_equals_uninterrupted_run(tmp_path: Path) -> None:
    rows = labeled_rows(100)
    write_parquet(tmp_path / "data/train-00000-of-00002.parquet", rows[:55], row_group_size=20)
    write_parquet(tmp_path / "data/train-00001-of-00002.parquet", rows[55:], row_group_size=20)
    out = tmp_path / "out"
    flags = ("--data", tmp_path / "data", "--copies", 20, "--no-ray")
    kill_and_resume_extraction(out, *flags, log=tmp_path / "log")
    expected = ExtractConfig(data=tmp_path / "data", out=tmp_path / "expected", copies=20)
    assert extract(expected, run_in_process) == open_shards(out)
    for path in expected.out.glob("part-*"):
        assert path.read_bytes() == (out / path.name).read_bytes()
