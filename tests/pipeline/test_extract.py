"""Units and their names, and what a set of shards says of itself; all of it without a cluster."""

from __future__ import annotations

import csv
import json
import os
import re
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from models.config import diff_settings
from pipeline.audio.features import AugmentConfig, FeatureConfig
from pipeline.audio.mel import MelConfig
from pipeline.data.manifest import read_manifest
from pipeline.data.shards import MANIFEST_NAME, open_shards
from pipeline.distributed.batch_job import WorkUnit, read_unit_clips, unit_to_row
from pipeline.extract import (
    MAX_UNIT,
    MIN_UNIT,
    TARGET_UNIT_COUNT,
    ExtractConfig,
    extract,
    plan_units,
    run_in_process,
)
from pipeline.io.errors import UserError
from tests.helpers.audio_formats import write_broken
from tests.helpers.sounds import SMALL, extract_config, write_tones


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
    features: FeatureConfig = SMALL,
    augment: AugmentConfig = AugmentConfig(),
) -> list[WorkUnit]:
    return plan_units(
        clips, ExtractConfig(data=folder, out=folder, features=features, **augment.model_dump())
    )


def names(
    clips: pd.DataFrame, features: FeatureConfig = SMALL, augment: AugmentConfig = AugmentConfig()
) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        return [unit.name for unit in plan(clips, Path(folder), features, augment)]


@pytest.mark.parametrize(
    "count",
    [0, 1, MIN_UNIT, MIN_UNIT + 1, 700, TARGET_UNIT_COUNT * MIN_UNIT + 1, TARGET_UNIT_COUNT * MAX_UNIT + 1],
)
def test_units_hold_every_clip_once_in_order(count: int, tmp_path: Path):
    clips = fake_clips(count)
    units = plan(clips, tmp_path)
    listed = [clip for unit in units for clip in read_unit_clips(unit_to_row(unit))]
    assert listed == clips.to_dict("records")
    assert all(1 <= unit.clips == len(read_unit_clips(unit_to_row(unit))) <= MAX_UNIT for unit in units)
    assert len({unit.name for unit in units}) == len(units)
    assert sorted(unit.name for unit in units) == [unit.name for unit in units]
    assert units == plan(clips, tmp_path)
    json.dumps([listed, [unit_to_row(unit) for unit in units]])


@pytest.mark.parametrize("column", ["clip_id", "path", "label", "fold", "group", "size", "mtime_ns"])
def test_a_changed_clip_changes_its_unit_and_no_other(column: str):
    clips = fake_clips(3 * MIN_UNIT)
    changed = clips.copy()
    changed.loc[MIN_UNIT, column] = 99 if column in ("fold", "size", "mtime_ns") else "a/000008b.wav"
    before, after = names(clips), names(changed)
    assert [old != new for old, new in zip(before, after, strict=True)] == [False, True, False]


@pytest.mark.parametrize(
    ("features", "augment"),
    [
        (FeatureConfig(mel=MelConfig(n_mels=32)), AugmentConfig()),
        (SMALL.model_copy(update={"seconds": 2.0}), AugmentConfig()),
        (SMALL, AugmentConfig(copies=2)),
        (SMALL, AugmentConfig(seed=1)),
        (SMALL, AugmentConfig(recipes=("noise",))),
    ],
)
def test_changed_settings_change_every_unit(features: FeatureConfig, augment: AugmentConfig):
    clips = fake_clips(3 * MIN_UNIT)
    assert not set(names(clips)) & set(names(clips, features, augment))


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"))


def test_a_set_says_what_it_is_and_is_not_made_twice(tones: Path, tmp_path: Path):
    config = extract_config(tones, tmp_path / "shards", copies=2)
    made = extract(config, run_in_process)
    assert made == open_shards(tmp_path / "shards")
    assert (made.clips, made.rows, made.rejected) == (30, 90, 0)
    assert made.class_names == ("tone 0", "tone 1", "tone 2")
    assert made.fingerprint == SMALL.fingerprint
    assert sum(part.rows for part in made.parts) == 90
    assert made.source["clips_by_class"] == {"tone 0": 10, "tone 1": 10, "tone 2": 10}
    before = {path.name: path.stat().st_mtime_ns for path in config.out.glob("part-*")}
    assert len(before) == len(made.parts)

    def not_again(units, config):
        raise AssertionError(f"{len(units)} units made again")

    assert extract(config, not_again) == made
    assert {path.name: path.stat().st_mtime_ns for path in config.out.glob("part-*")} == before


def test_one_changed_clip_makes_one_part_anew(tmp_path: Path):
    data = write_tones(tmp_path / "data")
    config = extract_config(data, tmp_path / "shards")
    first = extract(config, run_in_process)
    os.utime(read_manifest(data).clips["path"][0], (1, 1))
    made = []
    second = extract(config, lambda units, config: made.extend(units) or run_in_process(units, config))
    assert len(made) == 1
    assert (
        len({part.name for part in first.parts} & {part.name for part in second.parts})
        == len(first.parts) - 1
    )
    assert {path.name for path in config.out.glob("part-*")} == {part.name for part in second.parts}


def test_other_settings_need_overwrite(tones: Path, tmp_path: Path):
    out = tmp_path / "shards"
    extract(extract_config(tones, out, copies=0), run_in_process)
    other = extract_config(tones, out, copies=1)
    with pytest.raises(
        UserError,
        match=r"holds shards made with augment.copies = 0 \(now 1\); choose another --out, or add --overwrite",
    ):
        extract(other, run_in_process)
    assert extract(other.model_copy(update={"overwrite": True}), run_in_process).rows == 60


def test_broken_files_are_listed_and_too_many_are_refused(tmp_path: Path):
    data = write_tones(tmp_path / "data")
    reasons = write_broken(data / "train" / "tone 1")
    config = extract_config(
        data, tmp_path / "shards", max_rejected=0.9, group_pattern=None, fold_pattern=None
    )
    made = extract(config, run_in_process)
    assert (made.clips, made.rejected) == (30, len(reasons))
    with (config.out / "rejected.csv").open(newline="", encoding="utf-8") as file:
        listed = {Path(row["path"]): row["reason"] for row in csv.DictReader(file)}
    assert listed.keys() == reasons.keys()
    for path, reason in reasons.items():
        assert re.search(reason, listed[path])
    with pytest.raises(UserError, match=rf"{len(reasons)} of {30 + len(reasons)} files could not be used"):
        extract(config.model_copy(update={"max_rejected": 0.05}), run_in_process)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "has schema version None, this melray reads 1"),
        ('{"schema_version": 2}', "has schema version 2, this melray reads 1: extract again"),
        ('{"schema_version": 1, "clips": "many"}', "'clips' = 'many'.*; extract again"),
    ],
)
def test_a_set_that_cannot_be_used(content: str, message: str, tmp_path: Path):
    (tmp_path / MANIFEST_NAME).write_text(content)
    with pytest.raises(UserError, match=message):
        open_shards(tmp_path)


def test_a_set_with_a_key_from_elsewhere(tones: Path, tmp_path: Path):
    extract(extract_config(tones, tmp_path, copies=0), run_in_process)
    path = tmp_path / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "clipz": 3}))
    with pytest.raises(UserError, match="unknown key 'clipz'; did you mean 'clips'"):
        open_shards(tmp_path)


def test_no_set_or_an_unfinished_one(tmp_path: Path):
    with pytest.raises(UserError, match="no such folder"):
        open_shards(tmp_path / "missing")
    with pytest.raises(UserError, match="make it with `melray extract`"):
        open_shards(tmp_path)
    (tmp_path / "part-00000-0123456789ab.parquet").touch()
    with pytest.raises(UserError, match="its extraction did not finish; run the same `melray extract` again"):
        open_shards(tmp_path)


def test_difference_names_each_changed_value():
    old = {"a": 1, "b": {"c": 2, "d": [1]}, "gone": 0}
    assert diff_settings(old, {"a": 1, "b": {"c": 2, "d": [1]}}, "x") == []
    assert diff_settings(old, {"a": 2, "b": {"c": 3, "d": [1]}, "new": 4}, "") == [
        "a = 1 (now 2)",
        "b.c = 2 (now 3)",
        "new = None (now 4)",
    ]
