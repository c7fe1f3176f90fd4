"""Extraction on a cluster: the same rows whatever happens."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.audio.features import FeatureConfig
from pipeline.data.shards import mel_values, open_shards, read_shard
from pipeline.extract import ExtractConfig, extract, run_in_process
from pipeline.io.errors import UserError
from tests.helpers.processes import kill, kill_worker, later, run, start, wait_for
from tests.helpers.sounds import SMALL, extract_config, tone, write_tones


def rows(shards: Path) -> dict[tuple[str, int], tuple[object, ...]]:
    """Every row by clip and copy; a row that stands twice is an error."""
    manifest = open_shards(shards)
    found: dict[tuple[str, int], tuple[object, ...]] = {}
    for part in manifest.parts:
        table = read_shard(shards / part.name)
        for row, mel in zip(table.to_pylist(), mel_values(table, manifest.features.shape), strict=True):
            key = row["clip_id"], row["copy"]
            assert key not in found
            found[key] = (
                row["label"],
                row["fold"],
                row["group"],
                row["strength"],
                row["recipe"],
                mel.tobytes(),
            )
    assert len(found) == manifest.rows
    return found


@pytest.fixture(scope="module")
def long_tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough work for a fault to fall into: 64 clips of 5 s at the full feature size."""
    return write_tones(tmp_path_factory.mktemp("long"), classes=4, clips=16, seconds=5.0)


def full(data: Path, out: Path) -> ExtractConfig:
    return extract_config(data, out, copies=6, features=FeatureConfig())


FULL_FLAGS = ("--copies", 6, "--group-pattern", r"^\d-(\d+)-", "--fold-pattern", r"^(\d)-")


@pytest.fixture(scope="module")
def undisturbed(
    long_tones: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int], tuple[object, ...]]:
    out = tmp_path_factory.mktemp("undisturbed") / "shards"
    extract(full(long_tones, out), run_in_process)
    return rows(out)


@pytest.mark.usefixtures("ray_session")
class TestInOneSession:
    def test_cluster_gives_the_rows_of_one_process(self, tmp_path: Path) -> None:
        data = write_tones(tmp_path / "data", classes=3, clips=12)
        manifest = extract(extract_config(data, tmp_path / "cluster", copies=2))
        extract(extract_config(data, tmp_path / "here", copies=2), run_in_process)
        assert rows(tmp_path / "cluster") == rows(tmp_path / "here")
        assert (manifest.clips, manifest.rows, manifest.class_names) == (
            36,
            108,
            ("tone 0", "tone 1", "tone 2"),
        )

    def test_broken_files_are_listed_and_the_rest_goes_on(self, tmp_path: Path) -> None:
        data = write_tones(tmp_path / "data", classes=2, clips=10)
        bad = data / "train" / "tone 1"
        (bad / "1-1-text é.wav").write_text("not audio")
        (bad / "1-1-empty.wav").touch()
        soundfile.write(bad / "1-1-nan.wav", np.full(100, np.nan, np.float32), 8000, subtype="FLOAT")
        whole = (bad / "1-1000-0.wav").read_bytes()
        (bad / "1-1-cut.wav").write_bytes(whole[: len(whole) // 2])
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
            match=r"4 of 24 files could not be used, more than --max-rejected 0.05 allows.*First 4: tone 1/1-1-cut",
        ):
            extract(extract_config(data, tmp_path / "strict"))
        assert not (tmp_path / "strict" / "_manifest.json").exists()

    def test_again_makes_nothing_and_changed_files_only_their_part(self, tmp_path: Path) -> None:
        data = write_tones(tmp_path / "data", classes=3, clips=12)
        config = extract_config(data, tmp_path / "shards")
        first = extract(config)
        times = {path.name: path.stat().st_mtime_ns for path in config.out.glob("part-*")}
        assert extract(config) == first
        assert {path.name: path.stat().st_mtime_ns for path in config.out.glob("part-*")} == times
        soundfile.write(data / "train" / "tone 0" / "1-0000-0.wav", tone(1000, 0.5), 8000)
        second = extract(config)
        old, new = ({part.name for part in manifest.parts} for manifest in (first, second))
        assert len(old - new) == len(new - old) == 1
        assert {path.name for path in config.out.glob("part-*")} == new
        extract(extract_config(data, tmp_path / "fresh"))
        assert rows(config.out) == rows(tmp_path / "fresh")

    def test_other_settings_never_mix(self, tmp_path: Path) -> None:
        data = write_tones(tmp_path / "data", classes=2, clips=8)
        extract(extract_config(data, tmp_path / "shards"))
        mel = SMALL.mel.model_copy(update={"n_mels": 20})
        other = {"features": SMALL.model_copy(update={"mel": mel})}
        with pytest.raises(
            UserError,
            match=r"made with features.mel.n_mels = 16 \(now 20\); choose another --out, or add --overwrite",
        ):
            extract(extract_config(data, tmp_path / "shards", **other))
        extract(extract_config(data, tmp_path / "shards", overwrite=True, **other))
        assert open_shards(tmp_path / "shards").features.mel.n_mels == 20
        assert len(rows(tmp_path / "shards")) == 32

    def test_a_killed_worker_changes_nothing(
        self, long_tones: Path, undisturbed: dict[tuple[str, int], tuple[object, ...]], tmp_path: Path
    ) -> None:
        config = full(long_tones, tmp_path / "shards")
        killed = later(lambda: any(config.out.glob("part-*")), lambda: kill_worker("Map(make_part)"))
        extract(config)
        assert killed.result() and rows(config.out) == undisturbed


def test_a_killed_driver_loses_nothing_that_was_published(
    long_tones: Path, undisturbed: dict[tuple[str, int], tuple[object, ...]], tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    command = ("extract", "--data", long_tones, "--out", out, *FULL_FLAGS, "--cpus", 2)
    driver = start(*command, log=tmp_path / "log")
    wait_for(lambda: len(list(out.glob("part-*"))) >= 2)
    kill(driver)
    published = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert not (out / "_manifest.json").exists()
    with pytest.raises(UserError, match="did not finish"):
        open_shards(out)
    again = run(*command)
    assert again.returncode == 0, again.stderr
    assert rows(out) == undisturbed
    assert {name: (out / name).stat().st_mtime_ns for name in published} == published
    assert not list(out.glob(".part-*"))


def test_a_full_disk_is_one_line_and_leaves_no_half_part(full_disk: Path, tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", classes=4, clips=16)
    out = full_disk / "shards"
    ended = run("extract", "--data", data, "--out", out, "--copies", 9, "--cpus", 2)
    assert ended.returncode == 2
    line = ended.stderr.strip().splitlines()[-1]
    assert line.startswith("melray: error: disk full while writing") and "run the same command again" in line
    assert "Traceback" not in ended.stderr
    for path in out.glob("part-*"):
        read_shard(path)
    assert not (out / "_manifest.json").exists()


def test_csv_manifest_on_the_command_line(tmp_path: Path) -> None:
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
    ended = run(
        "extract", "--data", tmp_path / "clips.csv", "--out", tmp_path / "shards", "--copies", 0, "--cpus", 2
    )
    assert ended.returncode == 0, ended.stderr
    assert {row[1:3] for row in rows(tmp_path / "shards").values()} == {(1, path.name[:6]) for path in files}
