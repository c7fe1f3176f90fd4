"""Clips with the same audio are found by content, reported, and never on both sides of a split."""

from __future__ import annotations

import csv
import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.data.dataset import open_dataset
from pipeline.data.duplicates import (
    content_digest,
    duplicate_sets,
    duplicates_of,
    find_duplicates,
    merge_groups,
    read_digests,
)
from pipeline.data.split import row_folds, split_rows
from pipeline.data.split_config import SplitConfig
from pipeline.data.split_warnings import split_warnings
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.io.text import plural
from tests.helpers.sounds import RATE, extract_config, write_tones


def digest(mel: np.ndarray) -> int:
    return int(read_digests(content_digest(mel))[0])


def test_digest_depends_on_every_value():
    mel = np.random.default_rng(0).normal(-40, 20, (5, 7)).astype(np.float16)
    digests = {digest(mel)}
    for i in range(mel.size):
        changed = mel.copy()
        changed.flat[i] += 1
        digests.add(digest(changed))
    assert len(digests) == mel.size + 1 and 0 not in digests
    assert digest(mel.copy()) == digest(mel)


@pytest.mark.parametrize("value", [-80.0, 0.0, 3.5])
def test_digest_of_constant_spectrogram_is_zero(value: float):
    assert digest(np.full((5, 7), value, np.float16)) == 0


def test_sets_are_numbered_in_order():
    digests = np.array([9, 0, 4, 9, 7, 4, 9, 0, 2], np.uint64)
    assert duplicate_sets(digests).tolist() == [1, 0, 2, 1, 0, 2, 1, 0, 0]
    assert duplicate_sets(np.zeros(0, np.uint64)).tolist() == []


def test_groups_are_merged_through_others():
    groups = np.array(["d", "c", "c", "b", "a", "e", "f"], dtype=object)
    sets = np.array([1, 1, 2, 2, 0, 3, 3])
    assert merge_groups(groups, sets).tolist() == ["b", "b", "b", "b", "a", "e", "e"]


def test_groups_without_duplicates_are_kept():
    groups = np.array(["d", "c", "c"], dtype=object)
    assert merge_groups(groups, np.zeros(3, int)) is groups


@pytest.mark.parametrize("seed", range(20))
def test_merged_groups_are_connected_components(seed: int):
    rng = np.random.default_rng(seed)
    groups = np.array([f"g{i:02d}" for i in rng.integers(0, 30, 60)])
    sets = np.where(rng.random(60) < 0.4, rng.integers(1, 12, 60), 0)
    parent = {name: name for name in groups}

    def find(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for number in range(1, 12):
        for first, second in pairwise(groups[sets == number]):
            low, high = sorted((find(first), find(second)))
            parent[high] = low
    assert merge_groups(groups, sets).tolist() == [find(name) for name in groups]


def test_copies_are_rows_outside_with_equal_content():
    content = np.array([5, 5, 6, 0, 0, 7, 6], np.uint64)
    rows = np.array([True, False, True, True, False, False, True])
    assert np.flatnonzero(duplicates_of(content, rows)).tolist() == [1]


def test_only_shards_with_duplicates_are_read():
    read = []

    def read_clips(index: int) -> list[dict]:
        read.append(index)
        return [
            {"clip_id": f"{index}-{i}", "label": "a", "path": "p", "fold": -1, "group": "g"} for i in range(2)
        ]

    digests = [np.array(values, np.uint64) for values in ([1, 2], [3, 4], [5, 1], [0, 0])]
    assert [clip[:2] for clip in find_duplicates(digests, read_clips)] == [(1, "0-0"), (1, "2-1")]
    assert read == [0, 2]


def listed(shards: Path) -> list[dict[str, str]]:
    with (shards / "duplicates.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def make_shards(data: Path, out: Path, **overrides: object) -> Path:
    extract(extract_config(data, out, **overrides), run_in_process)
    return out


@pytest.mark.parametrize("way", ["copy", "hard link", "link", "flac"])
def test_same_audio_in_two_classes_is_reported(way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    data = write_tones(tmp_path / "data")
    source = data / "train" / "tone 0" / "1-0000-0.wav"
    target = data / "train" / "tone 1" / "2-9999-0.wav"
    if way == "flac":
        target = target.with_suffix(".flac")
        soundfile.write(target, soundfile.read(source, dtype="int16")[0], RATE, subtype="PCM_16")
    else:
        {"copy": shutil.copy, "hard link": os.link, "link": lambda a, b: b.symlink_to(a)}[way](source, target)
    rows = listed(make_shards(data, tmp_path / "shards", copies=2))
    assert [(row["set"], row["clip_id"], row["label"], row["group"]) for row in rows] == [
        ("1", "tone 0/1-0000-0.wav", "tone 0", "0000"),
        ("1", f"tone 1/{target.name}", "tone 1", "9999"),
    ]
    assert "2 clips have the same audio as others (1 set of equal clips)" in caplog.text
    assert (
        f"such as 'tone 0/1-0000-0.wav' (tone 0) and 'tone 1/{target.name}' (tone 1): correct or remove them"
        in caplog.text
    )


def test_one_file_by_two_paths_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    data = write_tones(tmp_path / "data", classes=2, clips=4)
    files = sorted((data / "train").rglob("*.wav"))
    lines = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in files]
    lines.append(f"{files[0]},tone 1")
    (tmp_path / "clips.csv").write_text("\n".join(["path,label", *lines]), encoding="utf-8")
    config = {"group_pattern": None, "fold_pattern": None}
    rows = listed(make_shards(tmp_path / "clips.csv", tmp_path / "shards", **config))
    assert {row["clip_id"] for row in rows} == {str(files[0]), str(files[0].relative_to(tmp_path))}
    assert {row["label"] for row in rows} == {"tone 0", "tone 1"}
    assert "different labels in 1 set of equal clips, such as" in caplog.text


def test_clips_without_duplicates_are_not_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    data = write_tones(tmp_path / "data")
    for label in ("tone 0", "tone 1"):  # digital silence is no copy of other digital silence
        for number in range(2):
            path = data / "train" / label / f"1-{number}{label[-1]}77-0.wav"
            soundfile.write(path, np.zeros(RATE), RATE)
    shards = make_shards(data, tmp_path / "shards", max_rejected=0.5)
    assert listed(shards) == [] and "same audio" not in caplog.text
    table = open_dataset(shards).table
    assert (table["split_group"] == table["group"]).all()


def test_rejected_clips_do_not_shift_duplicates(tmp_path: Path):
    data = write_tones(tmp_path / "data", classes=2, clips=20)
    folder = data / "train" / "tone 0"
    for name in ("1-0000-00.wav", "1-0003-99.wav"):
        (folder / name).write_text("not audio", encoding="utf-8")
    shutil.copy(folder / "5-0004-8.wav", folder / "5-0004-88.wav")
    shards = make_shards(data, tmp_path / "shards", max_rejected=0.5)
    assert [row["clip_id"] for row in listed(shards)] == ["tone 0/5-0004-8.wav", "tone 0/5-0004-88.wav"]
    digests = dict(open_dataset(shards).table[["clip_id", "content"]].itertuples(index=False))
    assert len(set(digests.values())) == len(digests) - 1


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a dataset in which clips of other folds and recordings are copies."""
    tmp_path = tmp_path_factory.mktemp("copied")
    data = write_tones(tmp_path / "data", classes=2, clips=20)
    for number in range(2):
        folder = data / "train" / f"tone {number}"
        # A clip of fold 1 again in folds 2 and 3, with other names.
        for fold in (2, 3):
            shutil.copy(folder / f"1-{number}000-0.wav", folder / f"{fold}-{number}9{fold}0-0.wav")
    return make_shards(data, tmp_path / "shards", copies=1)


def contents(shards: Path, rows: np.ndarray) -> set[int]:
    return set(open_dataset(shards).table["content"].to_numpy()[rows].tolist())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "values", [{"val_fraction": 0.3}, {"val_split": (1, 4)}, {"num_folds": 4, "fold": 2}]
)
def test_copies_are_on_one_side(values: dict, seed: int, copied: Path):
    dataset = open_dataset(copied)
    assert len(np.unique(dataset.table["content"])) == 40
    split = split_rows(dataset, SplitConfig(seed=seed, **values))
    sides = [contents(copied, rows) for rows in (split.train, split.val, split.held_out)]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert sum(map(len, sides)) == 40


@pytest.mark.parametrize("fold", [1, 2, 4])
def test_copies_outside_held_out_fold_are_not_used(fold: int, copied: Path):
    dataset = open_dataset(copied)
    split = split_rows(dataset, SplitConfig(fold=fold, val_fraction=0.2))
    folds = row_folds(dataset, SplitConfig())
    assert (folds[split.held_out] == fold).all()
    held_out = contents(copied, split.held_out)
    assert not held_out & contents(copied, np.concatenate([split.train, split.val]))
    expected = {1: 4, 2: 4, 4: 0}[fold]  # of each class two of the three copies are outside, or all are
    used = dataset.table["clip_id"].iloc[np.concatenate([split.train, split.val, split.held_out])].nunique()
    assert used == 44 - expected
    warning = f"not used: {plural(expected, 'clip')} with the same audio as held-out clips"
    assert any(warning in text for text in split_warnings(dataset, split)) == bool(expected)


def test_equal_silence_stays_in_its_groups(tmp_path: Path):
    data = write_tones(tmp_path / "data")
    for fold in range(1, 6):
        soundfile.write(data / "train" / "tone 0" / f"{fold}-08{fold}0-0.wav", np.zeros(RATE), RATE)
    dataset = open_dataset(make_shards(data, tmp_path / "shards", max_rejected=0.5))
    split = split_rows(dataset, SplitConfig(fold=1))
    assert split.held_out.size and (dataset.table["split_group"] == dataset.table["group"]).all()
