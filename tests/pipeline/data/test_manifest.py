"""Manifests from folders: ids, labels, folds and groups, warnings, and errors for unusable data."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd
import pytest

from models.config import ConfigError
from pipeline.data.clips import COLUMNS, NO_FOLD
from pipeline.data.manifest import Manifest, ManifestConfig, read_manifest
from pipeline.data.unlabeled import read_unlabeled
from pipeline.extract import ExtractConfig
from pipeline.io.errors import UserError

ESC = ManifestConfig(group_pattern=r"^\d-(\d+)-", fold_pattern=r"^(\d)-")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def labels(manifest: Manifest) -> dict[str, str]:
    return dict(zip(manifest.clips["clip_id"], manifest.clips["label"], strict=True))


def test_class_folders_give_labels_and_ids(tmp_path: Path):
    manifest = read_manifest(touch(tmp_path, "rain/b.wav", "dog/2.flac", "dog/1.wav", "rain/deep/er/a.ogg"))
    clips = manifest.clips
    assert list(clips.columns) == list(COLUMNS)
    assert clips["clip_id"].tolist() == ["dog/1.wav", "dog/2.flac", "rain/b.wav", "rain/deep/er/a.ogg"]
    assert clips["label"].tolist() == ["dog", "dog", "rain", "rain"]
    assert clips["path"].tolist() == [str(tmp_path / name) for name in clips["clip_id"]]
    assert clips["group"].tolist() == clips["clip_id"].tolist()
    assert set(clips["fold"]) == {NO_FOLD}
    assert clips["size"].tolist() == [9, 10, 10, 18]
    assert clips["mtime_ns"].tolist() == [os.stat(path).st_mtime_ns for path in clips["path"]]
    assert manifest.class_names == ["dog", "rain"]
    assert manifest.warnings == []


def test_train_subfolder_is_read_instead(tmp_path: Path):
    touch(
        tmp_path,
        "train/dog/1.wav",
        "train/dog/2.wav",
        "train/rain/1.wav",
        "train/rain/2.wav",
        "test/3.wav",
        "other/4.wav",
    )
    clips = read_manifest(tmp_path).clips
    assert clips["clip_id"].tolist() == ["dog/1.wav", "dog/2.wav", "rain/1.wav", "rain/2.wav"]


def test_any_file_names_are_sorted_by_id(tmp_path: Path):
    names = ["001 - Dog bark/1 (2).WAV", "日本/ä ö.wav", "日本/z.wav", 'O\'Neil, "x"/a,b.wav']
    first = read_manifest(touch(tmp_path / "a", *names)).clips
    second = read_manifest(touch(tmp_path / "b", *reversed(names))).clips
    assert first["clip_id"].tolist() == second["clip_id"].tolist() == sorted(names)
    assert set(first["label"]) == {"001 - Dog bark", "日本", 'O\'Neil, "x"'}


def test_hidden_and_non_audio_files_are_skipped(tmp_path: Path):
    names = ("dog/1.wav", "dog/2.wav", "rain/1.wav", "rain/2.wav")
    touch(
        tmp_path,
        *names,
        "dog/._1.wav",
        "dog/.hidden/3.wav",
        ".git/x/4.wav",
        "dog/notes.txt",
        "dog/wav",
        "rain/labels.csv",
    )
    manifest = read_manifest(tmp_path)
    assert manifest.clips["clip_id"].tolist() == list(names)
    assert manifest.warnings == [
        "ignoring folders that are no classes: '.git'",
        "ignoring 1 file in unsupported formats (no ending: 1); `pip install 'melray[av]'` to read them, "
        "or convert them, e.g. `ffmpeg -i x.m4a x.wav`",
        "ignoring hidden folders with recordings: 'dog/.hidden'",
    ]


def test_symlinks_are_followed_without_loops(tmp_path: Path):
    touch(tmp_path / "data", "dog/1.wav", "dog/2.wav")
    touch(tmp_path / "elsewhere", "3.wav", "4.wav")
    (tmp_path / "data/rain").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "data/dog/again").symlink_to(tmp_path / "data", target_is_directory=True)
    (tmp_path / "data/dog/here").symlink_to(".", target_is_directory=True)
    assert read_manifest(tmp_path / "data").clips["clip_id"].tolist() == [
        "dog/1.wav",
        "dog/2.wav",
        "rain/3.wav",
        "rain/4.wav",
    ]


@pytest.mark.parametrize(
    ("names", "warnings"),
    [
        (
            ("a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav", "c/readme.txt"),
            [r"ignoring empty class folder '.*/c': no audio files found"],
        ),
        (
            ("a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav", "1.wav", "2.wav"),
            [r"ignoring 2 audio files outside class folders in '.*'"],
        ),
        (
            ("a/1.wav", "a/2.wav", "b/1.wav"),
            [r"class 'b' has a single clip, so it cannot be both trained on and validated"],
        ),
        (("a/1.wav", "a/2.wav"), [r"only one class, 'a': a GAN can learn it, a classifier needs two"]),
        (("a/1.wav", "b/1.wav"), [r"classes 'a', 'b' have a single clip, so each cannot be both"]),
        (tuple(f"{i}/1.wav" for i in range(200)), [r"classes '0', .* and 195 more have a single clip"]),
        (
            ("a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav", "$RECYCLE.BIN/S-1/3.wav"),
            [r"ignoring folders that are no classes: '\$RECYCLE.BIN'"],
        ),
        (
            ("a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav", "b/@eaDir/1.wav/x.mp3"),
            [r"ignoring hidden folders with recordings: 'b/@eaDir'"],
        ),
    ],
)
def test_suspicious_folders_give_warnings(names: tuple[str, ...], warnings: list[str], tmp_path: Path):
    messages = read_manifest(touch(tmp_path, *names)).warnings
    assert len(messages) == len(warnings)
    assert all(re.match(pattern, message) for pattern, message in zip(warnings, messages, strict=True))


def test_missing_path_or_empty_folder_raises(tmp_path: Path):
    for path in (tmp_path / "missing", tmp_path / "missing.csv"):
        with pytest.raises(UserError, match="no such folder or CSV file"):
            read_manifest(path)
    with pytest.raises(UserError, match=r"no audio files found; expected <class>/.*, also of a single class"):
        read_manifest(touch(tmp_path, "a/readme.txt", "loose.wav"))


def test_patterns_extract_fold_and_recording(tmp_path: Path):
    touch(tmp_path, "dog/1-100-A.ogg", "dog/1-100-B.ogg", "rain/5-7-A.ogg", "rain/4-8-A.ogg")
    clips = read_manifest(tmp_path, ESC).clips
    assert clips["group"].tolist() == ["100", "100", "8", "7"]
    assert clips["fold"].tolist() == [1, 1, 4, 5]


def test_patterns_match_all_of_esc10(esc10: list[Path]):
    clips = read_manifest(esc10[0].parents[1], ESC).clips
    assert len(clips) == len(esc10)
    assert sorted(clips["fold"].unique()) == [1, 2, 3, 4, 5]
    assert clips.groupby("group")["fold"].nunique().max() == 1
    assert clips["group"].nunique() < len(clips)


def test_empty_match_of_group_pattern_is_no_group(tmp_path: Path):
    touch(tmp_path, "dog/a.wav", "dog/b_7.wav", "rain/c.wav", "rain/d_7.wav")
    clips = read_manifest(tmp_path, ManifestConfig(group_pattern=r"^[a-z]_?(\d*)")).clips
    assert clips["group"].tolist() == ["dog/a.wav", "7", "rain/c.wav", "7"]


def test_pattern_not_matching_a_name_raises(tmp_path: Path):
    touch(tmp_path, "dog/1-100-A.ogg", "dog/x.ogg")
    for config in (
        ManifestConfig(group_pattern=r"^\d-(\d+)-"),
        ManifestConfig(fold_pattern=r"^(\d)-"),
        ManifestConfig(fold_pattern="(q)?"),
    ):
        with pytest.raises(UserError, match=r"-pattern '.*' does not match file name '"):
            read_manifest(tmp_path, config)
    for pattern, fold in ((r"^(.)", "x"), (r"^([x1])", "x")):
        with pytest.raises(UserError, match=f"'{fold}' of 'x.ogg' is not an integer"):
            read_manifest(tmp_path, ManifestConfig(fold_pattern=pattern))


@pytest.mark.parametrize(
    ("pattern", "message"), [(r"^\d-", "needs a capture group"), ("(", "not a regular expression")]
)
def test_invalid_patterns_raise(pattern: str, message: str):
    for name in ("group_pattern", "fold_pattern"):
        with pytest.raises(ConfigError, match=message):
            ManifestConfig(**{name: pattern})


def test_unlabeled_clips_are_read_recursively(tmp_path: Path):
    touch(tmp_path, "b.wav", "a/ü 1.mp3", "a/deep/er/1.wav", ".x/2.wav", "a/readme.txt")
    clips = read_unlabeled(tmp_path).clips
    assert clips["clip_id"].tolist() == ["a/deep/er/1.wav", "a/ü 1.mp3", "b.wav"]
    assert set(clips["label"]) == {""}
    assert isinstance(clips, pd.DataFrame) and list(clips.columns) == list(COLUMNS)
    with pytest.raises(UserError, match="no such folder"):
        read_unlabeled(tmp_path / "missing")
    with pytest.raises(UserError, match="no audio files found"):
        read_unlabeled(touch(tmp_path / "empty", "readme.txt"))


def test_file_name_not_utf8_raises(tmp_path: Path):
    touch(tmp_path, "dog/1.wav")
    (tmp_path / "dog" / os.fsdecode(b"\xff.wav")).write_bytes(b"x")
    for read in (read_manifest, read_unlabeled):
        with pytest.raises(UserError, match="not valid UTF-8; rename it"):
            read(tmp_path)


@pytest.mark.parametrize("multi_label", [False, True])
def test_class_folder_may_be_named_like_a_missing_value(multi_label: bool, tmp_path: Path):
    touch(tmp_path, "nan/1.wav", "none/2.wav", "dog/3.wav")
    manifest = read_manifest(tmp_path, ManifestConfig(multi_label=multi_label))
    assert manifest.class_names == ["dog", "nan", "none"]
    assert manifest.class_counts == {"dog": 1, "nan": 1, "none": 1}


@pytest.mark.parametrize("setting", [{"window": 1e-5}, {"features": {"seconds": 1e-5}}])
def test_lengths_without_a_sample_are_refused(setting: dict, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"(window|seconds).*0\.001"):
        ExtractConfig.parse({"data": tmp_path, "out": tmp_path / "shards", **setting}, "settings")
