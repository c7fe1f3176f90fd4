"""Work units of an extraction, and its shards, manifest and errors; all of it without Ray."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

from models.config import diff_settings
from pipeline.audio import decode
from pipeline.audio.augment import AugmentConfig
from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import MelConfig
from pipeline.data.manifest import read_manifest
from pipeline.data.shard_manifest import MANIFEST_NAME, SCHEMA_VERSION, open_shards
from pipeline.distributed.batch_job import StageBuilder, UnitResult, run_in_process
from pipeline.distributed.work_unit import WorkUnit
from pipeline.extract import (
    MAX_CLIPS_PER_UNIT,
    MIN_CLIPS_PER_UNIT,
    ExtractConfig,
    extract,
    plan_job,
)
from pipeline.io.errors import UserError
from tests.helpers.audio_formats import write_broken_files
from tests.helpers.saved_classifier import save_classifier
from tests.helpers.sounds import SMALL_FEATURES, extract_config, write_tones


def fake_clips(count: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "clip_id": [f"a/{i:06d}.wav" for i in range(count)],
            "path": "/x",
            "label": "a",
            "fold": -1,
            "group": "g",
            "size": 7,
            "mtime_ns": 8,
        }
    )


def plan(
    clips: pd.DataFrame,
    folder: Path,
    features: FeatureConfig = SMALL_FEATURES,
    augment: AugmentConfig = AugmentConfig(),
) -> list[WorkUnit]:
    config = ExtractConfig(data=folder, out=folder, features=features, **augment.model_dump())
    return plan_job(clips, config, features).units


def unit_names(
    clips: pd.DataFrame, features: FeatureConfig = SMALL_FEATURES, augment: AugmentConfig = AugmentConfig()
) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        return [unit.name for unit in plan(clips, Path(folder), features, augment)]


@pytest.mark.parametrize(
    "count",
    [
        0,
        1,
        MIN_CLIPS_PER_UNIT,
        MIN_CLIPS_PER_UNIT + 1,
        700,
        20_001,
    ],
)
def test_units_contain_every_clip_once_in_order(count: int, tmp_path: Path):
    clips = fake_clips(count)
    units = plan(clips, tmp_path)
    unit_clips = [unit.read_clips() for unit in units]
    assert [clip for clips_of_unit in unit_clips for clip in clips_of_unit] == clips.to_dict("records")
    assert [unit.clips for unit in units] == [len(clips_of_unit) for clips_of_unit in unit_clips]
    assert all(1 <= unit.clips <= MAX_CLIPS_PER_UNIT for unit in units)
    assert len({unit.name for unit in units}) == len(units)
    assert sorted(unit.name for unit in units) == [unit.name for unit in units]
    assert units == plan(clips, tmp_path)


@pytest.mark.parametrize("column", ["clip_id", "path", "label", "fold", "group", "size", "mtime_ns"])
def test_changed_clip_changes_only_its_unit(column: str):
    clips = fake_clips(3 * MIN_CLIPS_PER_UNIT)
    changed = clips.copy()
    changed.loc[MIN_CLIPS_PER_UNIT, column] = (
        99 if column in ("fold", "size", "mtime_ns") else "a/000008b.wav"
    )
    names = zip(unit_names(clips), unit_names(changed), strict=True)
    assert [old != new for old, new in names] == [False, True, False]


@pytest.mark.parametrize(
    ("features", "augment"),
    [
        (FeatureConfig(mel=MelConfig(n_mels=32)), AugmentConfig()),
        (SMALL_FEATURES.model_copy(update={"seconds": 2.0}), AugmentConfig()),
        (SMALL_FEATURES, AugmentConfig(copies=2)),
        (SMALL_FEATURES, AugmentConfig(seed=1)),
        (SMALL_FEATURES, AugmentConfig(augmentations=("noise",))),
    ],
)
def test_changed_settings_change_every_unit(features: FeatureConfig, augment: AugmentConfig):
    clips = fake_clips(3 * MIN_CLIPS_PER_UNIT)
    assert not set(unit_names(clips)) & set(unit_names(clips, features, augment))


def test_changed_shard_schema_changes_every_unit(monkeypatch: pytest.MonkeyPatch):
    clips = fake_clips(3 * MIN_CLIPS_PER_UNIT)
    names = set(unit_names(clips))
    monkeypatch.setattr("pipeline.extract.SCHEMA_VERSION", SCHEMA_VERSION + 1)
    assert not names & set(unit_names(clips))


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"))


def run_never(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
    raise AssertionError(f"{len(units)} units were run")


def test_extraction_writes_manifest_and_is_not_repeated(tones: Path, tmp_path: Path):
    config = extract_config(tones, tmp_path / "shards", copies=2)
    manifest = extract(config, run_in_process)
    assert manifest == open_shards(tmp_path / "shards")
    assert (manifest.clips, manifest.rows, manifest.rejected) == (30, 90, 0)
    assert manifest.class_names == ("tone 0", "tone 1", "tone 2")
    assert manifest.fingerprint == SMALL_FEATURES.fingerprint
    assert sum(shard.rows for shard in manifest.shards) == 90
    assert manifest.source["clips_by_class"] == {"tone 0": 10, "tone 1": 10, "tone 2": 10}
    times = {path.name: path.stat().st_mtime_ns for path in config.out.glob("part-*")}
    assert len(times) == len(manifest.shards)
    assert extract(config, run_never) == manifest
    assert {path.name: path.stat().st_mtime_ns for path in config.out.glob("part-*")} == times


def test_extraction_leaves_only_results(tones: Path, tmp_path: Path):
    config = extract_config(tones, tmp_path / "shards", copies=0)
    names = {shard.name for shard in extract(config, run_in_process).shards}
    assert {path.name for path in config.out.iterdir()} == names | {
        "_manifest.json",
        "_footers.parquet",
        "rejected.csv",
        "warnings.csv",
        "duplicates.csv",
    }


def test_changed_clip_makes_one_shard_again(tmp_path: Path):
    data = write_tones(tmp_path / "data")
    config = extract_config(data, tmp_path / "shards")
    first = extract(config, run_in_process)
    os.utime(read_manifest(data).clips["path"][0], (1, 1))
    pending = []

    def runner(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
        pending.extend(units)
        return run_in_process(units, stages)

    second = extract(config, runner)
    assert len(pending) == 1
    old, new = ({shard.name for shard in manifest.shards} for manifest in (first, second))
    assert len(old & new) == len(old) - 1
    assert {path.name for path in config.out.glob("part-*")} == new


def test_different_settings_need_overwrite(tones: Path, tmp_path: Path):
    out = tmp_path / "shards"
    extract(extract_config(tones, out, copies=0), run_in_process)
    other = extract_config(tones, out, copies=1)
    with pytest.raises(
        UserError,
        match=r"already contains shards made with augment.copies = 0 \(requested 1\); "
        r"choose another --out, or add --overwrite",
    ):
        extract(other, run_in_process)
    assert extract(other.model_copy(update={"overwrite": True}), run_in_process).rows == 60


def test_broken_files_are_rejected_up_to_limit(tmp_path: Path):
    data = write_tones(tmp_path / "data")
    reasons = write_broken_files(data / "train" / "tone 1")
    config = extract_config(
        data, tmp_path / "shards", max_rejected=0.9, group_pattern=None, fold_pattern=None
    )
    manifest = extract(config, run_in_process)
    assert (manifest.clips, manifest.rejected) == (30, len(reasons))
    with (config.out / "rejected.csv").open(newline="", encoding="utf-8") as file:
        listed = {Path(row["path"]): row["reason"] for row in csv.DictReader(file)}
    assert listed.keys() == reasons.keys()
    for path, reason in reasons.items():
        assert re.search(reason, listed[path])
    with pytest.raises(UserError, match=rf"{len(reasons)} of {30 + len(reasons)} files are unusable"):
        extract(config.model_copy(update={"max_rejected": 0.05}), run_in_process)


def test_changed_settings_of_labels_are_refused(tmp_path: Path) -> None:
    """They would relabel a dataset that is in use."""
    data = write_tones(tmp_path / "data")
    config = extract_config(data, tmp_path / "shards")
    extract(config, run_in_process)
    for change, message in (
        ({"fold_pattern": None}, r"fold_pattern = \^\(\\d\)- \(requested None\)"),
        ({"min_complete": 0.5}, r"min_complete = 0.75 \(requested 0.5\)"),
    ):
        with pytest.raises(UserError, match=f"already contains shards made with {message}; choose another"):
            extract(config.model_copy(update=change), run_in_process)
    path = config.out / "_manifest.json"
    content = json.loads(path.read_text())
    del content["source"]["settings"]  # as in earlier versions
    path.write_text(json.dumps(content))
    extract(config.model_copy(update={"fold_pattern": None}), run_in_process)


def test_edited_names_of_classes_make_shards_of_these_classes_again(tmp_path: Path) -> None:
    data, names = write_tones(tmp_path / "data"), tmp_path / "names.csv"
    config = extract_config(data, tmp_path / "shards", class_names=names)
    names.write_text("code,name\ntone 0,low\ntone 1,middle\ntone 2,high\n")
    first = extract(config, run_in_process)
    assert first.class_names == ("high", "low", "middle")
    names.write_text("code,name\ntone 0,bass\ntone 1,middle\ntone 2,high\n")
    second = extract(config, run_in_process)
    assert second.class_names == ("bass", "high", "middle")
    expected = extract(config.model_copy(update={"out": tmp_path / "expected"}), run_in_process)
    assert second.shards == expected.shards != first.shards
    with pytest.raises(
        UserError, match=r"made with class_names = names.csv \(requested None\); choose anoth"
    ):
        extract(config.model_copy(update={"class_names": None}), run_in_process)


def test_clip_that_can_be_read_again_is_no_longer_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size and time are those of before."""
    data = write_tones(tmp_path / "data")
    config = extract_config(data, tmp_path / "shards", max_rejected=0.5)
    locked = str(data / "train" / "tone 1" / "1-1000-0.wav")
    access, source = os.access, decode.ByteSource

    def open_source(path: str) -> object:
        if path == locked:
            raise PermissionError(errno.EACCES, "Permission denied")
        return source(path)

    with monkeypatch.context() as patch:  # root may read everything
        patch.setattr(os, "access", lambda path, mode: path != locked and access(path, mode))
        patch.setattr(decode, "ByteSource", open_source)
        assert extract(config, run_in_process).rejected == 1
        assert "unreadable: Permission denied" in (config.out / "rejected.csv").read_text()
        assert extract(config, run_in_process).rejected == 1
    expected = extract(extract_config(data, tmp_path / "expected"), run_in_process)
    manifest = extract(config, run_in_process)
    assert (manifest.rejected, manifest.shards) == (0, expected.shards)


def test_failing_file_system_rejects_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_tones(tmp_path / "data")
    config = extract_config(data, tmp_path / "shards")

    def fail(path: str) -> object:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(decode, "ByteSource", fail)
        with pytest.raises(UserError, match=r"^Input/output error while reading .*\.wav"):
            extract(config, run_in_process)
    assert extract(config, run_in_process).rejected == 0


def test_class_without_usable_clips_is_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    data = write_tones(tmp_path / "data", classes=2)
    (data / "train" / "noise").mkdir()
    (data / "train" / "noise" / "1-1000-0.wav").write_text("not audio")
    config = extract_config(data, tmp_path / "shards", max_rejected=0.5)
    assert extract(config, run_in_process).class_names == ("tone 0", "tone 1")
    assert "class 'noise' has no usable clips; see" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "has schema version None, this melray reads 3"),
        (
            '{"schema_version": 1}',
            "has schema version 1, made by an older melray: extract again with --overwrite",
        ),
        ('{"schema_version": 4}', "has schema version 4, this melray reads 3: update melray, or extract"),
        ('{"schema_version": 3, "clips": "many"}', "'clips' = 'many'.*; extract again"),
    ],
)
def test_unusable_manifest_raises(content: str, message: str, tmp_path: Path):
    (tmp_path / MANIFEST_NAME).write_text(content)
    with pytest.raises(UserError, match=message):
        open_shards(tmp_path)


def test_manifest_with_unknown_key_raises(tones: Path, tmp_path: Path):
    extract(extract_config(tones, tmp_path, copies=0), run_in_process)
    path = tmp_path / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "clipz": 3}))
    with pytest.raises(UserError, match="unknown key 'clipz'; did you mean 'clips'"):
        open_shards(tmp_path)


def test_missing_or_incomplete_shards_raise(tmp_path: Path):
    with pytest.raises(UserError, match="no such folder"):
        open_shards(tmp_path / "missing")
    with pytest.raises(UserError, match="create it with `melray extract`"):
        open_shards(tmp_path)
    (tmp_path / "part-00000-0123456789ab.parquet").touch()
    with pytest.raises(UserError, match="extraction is incomplete; rerun `melray extract` to resume"):
        open_shards(tmp_path)


def test_run_that_is_given_as_shards_is_named(tmp_path: Path):
    save_classifier(tmp_path)
    with pytest.raises(UserError, match=r"it is a run; give the folder of shards that it was trained on$"):
        open_shards(tmp_path)


def test_diff_settings_names_each_changed_value():
    old = {"a": 1, "b": {"c": 2, "d": [1]}, "gone": 0}
    assert diff_settings(old, {"a": 1, "b": {"c": 2, "d": [1]}}, "x") == []
    assert diff_settings(old, {"a": 2, "b": {"c": 3, "d": [1]}, "new": 4}, "") == [
        "a = 1 (requested 2)",
        "b.c = 2 (requested 3)",
        "new = None (requested 4)",
    ]
