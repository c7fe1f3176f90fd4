"""Extraction on a Ray cluster: same rows despite killed processes, full disks and changed files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.audio.features import FeatureConfig
from pipeline.data.shard_manifest import open_shards
from pipeline.data.shards import mel_values, read_shard
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import ExtractConfig, extract
from pipeline.io.errors import UserError
from tests.helpers.processes import (
    kill_command_when,
    kill_worker,
    run_command,
    run_when,
    start_command,
    wait_until,
)
from tests.helpers.sounds import SMALL_FEATURES, extract_config, tone, write_tones

Rows = dict[tuple[str, int], tuple[object, ...]]


def read_rows(shards: Path) -> Rows:
    """Read all rows by clip and copy; fail if one is duplicated."""
    manifest = open_shards(shards)
    rows: Rows = {}
    for shard in manifest.shards:
        table = read_shard(shards / shard.name)
        for row, mel in zip(table.to_pylist(), mel_values(table, manifest.features.shape), strict=True):
            key = row["clip_id"], row["copy"]
            assert key not in rows
            values = (row[name] for name in ("label", "fold", "group", "strength", "augmentation"))
            rows[key] = (*values, mel.tobytes())
    assert len(rows) == manifest.rows
    return rows


@pytest.fixture(scope="module")
def long_tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write enough work for a failure to happen meanwhile: 64 clips of 5 s for full-size features."""
    return write_tones(tmp_path_factory.mktemp("long"), classes=4, clips=16, seconds=5.0)


def full_config(data: Path, out: Path) -> ExtractConfig:
    return extract_config(data, out, copies=6, features=FeatureConfig())


FULL_FLAGS = (
    *("--copies", 6, "--group-pattern", r"^\d-(\d+)-", "--fold-pattern", r"^(\d)-"),
    *("--features.mel.sample-rate", 22_050),
)


@pytest.fixture(scope="module")
def expected_rows(long_tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    out = tmp_path_factory.mktemp("expected") / "shards"
    extract(full_config(long_tones, out), run_in_process)
    return read_rows(out)


@pytest.mark.usefixtures("ray_session")
class TestInOneSession:
    def test_cluster_gives_rows_of_single_process(self, tmp_path: Path) -> None:
        data = write_tones(tmp_path / "data", classes=3, clips=12)
        manifest = extract(extract_config(data, tmp_path / "cluster", copies=2))
        extract(extract_config(data, tmp_path / "process", copies=2), run_in_process)
        assert read_rows(tmp_path / "cluster") == read_rows(tmp_path / "process")
        assert (manifest.clips, manifest.rows, manifest.class_names) == (
            36,
            108,
            ("tone 0", "tone 1", "tone 2"),
        )

    def test_broken_files_are_rejected_and_others_extracted(self, tmp_path: Path) -> None:
        data = write_tones(tmp_path / "data", classes=2, clips=10)
        bad = data / "train" / "tone 1"
        (bad / "1-1-text é.wav").write_text("not audio")
        (bad / "1-1-empty.wav").touch()
        soundfile.write(bad / "1-1-nan.wav", np.full(100, np.nan, np.float32), 8000, subtype="FLOAT")
        content = (bad / "1-1000-0.wav").read_bytes()
        (bad / "1-1-cut.wav").write_bytes(content[: len(content) // 2])
        config = extract_config(data, tmp_path / "shards", max_rejected=0.2)
        manifest = extract(config)
        assert (manifest.clips, manifest.rejected) == (20, 4)
        with (config.out / "rejected.csv").open() as file:
            reasons = {row["clip_id"]: row["reason"] for row in csv.DictReader(file)}
        assert reasons["tone 1/1-1-text é.wav"].startswith("unreadable")
        assert reasons["tone 1/1-1-empty.wav"] == "empty file (0 bytes)"
        assert "not finite" in reasons["tone 1/1-1-nan.wav"]
        assert reasons["tone 1/1-1-cut.wav"].startswith("truncated")
        with pytest.raises(
            UserError,
            match=r"4 of 24 files are unusable, more than --max-rejected 0.05 .*First 4: tone 1/1-1-cut",
        ):
            extract(extract_config(data, tmp_path / "strict"))
        assert not (tmp_path / "strict" / "_manifest.json").exists()

    def test_rerun_makes_only_shards_of_changed_files(self, tmp_path: Path) -> None:
        data = write_tones(tmp_path / "data", classes=3, clips=12)
        config = extract_config(data, tmp_path / "shards")
        first = extract(config)
        times = {path.name: path.stat().st_mtime_ns for path in config.out.glob("part-*")}
        assert extract(config) == first
        assert {path.name: path.stat().st_mtime_ns for path in config.out.glob("part-*")} == times
        soundfile.write(data / "train" / "tone 0" / "1-0000-0.wav", tone(1000, 0.5), 8000)
        second = extract(config)
        old, new = ({part.name for part in manifest.shards} for manifest in (first, second))
        assert len(old - new) == len(new - old) == 1
        assert {path.name for path in config.out.glob("part-*")} == new
        extract(extract_config(data, tmp_path / "new"))
        assert read_rows(config.out) == read_rows(tmp_path / "new")

    def test_different_settings_need_overwrite(self, tmp_path: Path) -> None:
        data = write_tones(tmp_path / "data", classes=2, clips=8)
        extract(extract_config(data, tmp_path / "shards"))
        mel = SMALL_FEATURES.mel.model_copy(update={"n_mels": 20})
        other = {"features": SMALL_FEATURES.model_copy(update={"mel": mel})}
        with pytest.raises(
            UserError,
            match=r"made with features.mel.n_mels = 16 \(requested 20\); choose another --out",
        ):
            extract(extract_config(data, tmp_path / "shards", **other))
        extract(extract_config(data, tmp_path / "shards", overwrite=True, **other))
        assert open_shards(tmp_path / "shards").features.mel.n_mels == 20
        assert len(read_rows(tmp_path / "shards")) == 32

    def test_killed_worker_does_not_change_rows(
        self, long_tones: Path, expected_rows: Rows, tmp_path: Path
    ) -> None:
        config = full_config(long_tones, tmp_path / "shards")
        killed = run_when(lambda: any(config.out.glob("part-*")), lambda: kill_worker("Map(ShardWriter)"))
        extract(config)
        assert killed.result() and read_rows(config.out) == expected_rows


@pytest.mark.slow
def test_rerun_after_killed_driver_keeps_finished_shards(
    long_tones: Path, expected_rows: Rows, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    command = ("extract", "--data", long_tones, "--out", out, *FULL_FLAGS, "--cpus", 2, "--ray")
    kill_command_when(lambda: len(list(out.glob("part-*"))) >= 2, *command, log=tmp_path / "log")
    finished = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert not (out / "_manifest.json").exists()
    with pytest.raises(UserError, match="extraction is incomplete"):
        open_shards(out)
    rerun = run_command(*command)
    assert rerun.returncode == 0, rerun.stderr
    assert read_rows(out) == expected_rows
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == finished
    assert not list(out.glob(".*"))


def test_second_command_leaves_the_first_alone(long_tones: Path, expected_rows: Rows, tmp_path: Path) -> None:
    out, other = tmp_path / "shards", write_tones(tmp_path / "other", classes=2, clips=8)
    command = ("extract", "--data", long_tones, "--out", out, *FULL_FLAGS, "--cpus", 1)
    first = start_command(*command, log=tmp_path / "log")
    wait_until(lambda: any(out.glob("part-*")))
    message = rf"^--out {out} is in use by `melray extract` \(process {first.pid} on .*`kill {first.pid}`$"
    for data in (long_tones, other):
        with pytest.raises(UserError, match=message):
            extract(full_config(data, out), run_in_process)
    assert first.wait(100) == 0, (tmp_path / "log").read_text()
    assert read_rows(out) == expected_rows and not list(out.glob(".*"))


def test_full_disk_raises_one_line_without_partial_shard(full_disk: Path, tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", classes=4, clips=16)
    out = full_disk / "shards"
    result = run_command("extract", "--data", data, "--out", out, "--copies", 9, "--cpus", 2)
    assert result.returncode == 2
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("melray: error: disk full while writing") and "run the command again" in line
    assert "Traceback" not in result.stderr
    for path in out.glob("part-*"):
        read_shard(path)
    assert not (out / "_manifest.json").exists()


@pytest.mark.slow
def test_command_extracts_clips_of_csv_manifest(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", classes=2, clips=6)
    files = sorted((data / "train").rglob("*.wav"))
    table = pd.DataFrame(
        {
            "path": files,
            "label": [path.parent.name for path in files],
            "fold": 1,
            "group": [path.name[:6] for path in files],
        }
    )
    table.to_csv(tmp_path / "clips.csv", index=False)
    result = run_command(
        "extract", "--data", tmp_path / "clips.csv", "--out", tmp_path / "shards", "--copies", 0, "--cpus", 2
    )
    assert result.returncode == 0, result.stderr
    assert {row[1:3] for row in read_rows(tmp_path / "shards").values()} == {
        (1, path.name[:6]) for path in files
    }
