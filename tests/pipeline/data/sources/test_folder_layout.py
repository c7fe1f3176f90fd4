"""Which folders are classes: splits, folds, and folders that are neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.clips import NO_FOLD
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.data.sources.split_names import split_of
from pipeline.io.errors import UserError
from tests.pipeline.data.test_manifest import touch


def read(root: Path, *folders: str) -> Manifest:
    """Read a data folder that has two clips in each of `folders`."""
    return read_manifest(touch(root, *(f"{folder}/{number}.wav" for folder in folders for number in (1, 2))))


@pytest.mark.parametrize(
    ("folders", "classes", "warnings"),
    [
        (("cat", "dog", "train"), ["cat", "dog", "train"], []),
        (("Train", "dog"), ["Train", "dog"], []),
        (("cat", "dog", "train", "train/sessions"), ["cat", "dog", "train"], []),
        (("train/cat", "train/train"), ["cat", "train"], []),
        (("train/cat", "train/dog", "test"), ["cat", "dog"], []),
        (("train/cat", "train/dog", "test/cat", "test/dog"), ["cat", "dog"], []),
        (
            ("Train/cat", "Train/dog", "Test"),
            ["cat", "dog"],
            ["reading the class folders in 'Train', not 'Test'"],
        ),
        (
            ("training/cat", "training/dog", "validation/cat", "validation/dog"),
            ["cat", "dog"],
            ["reading the class folders in 'training', not 'validation'"],
        ),
        (
            ("train_audio/cat", "train_audio/dog", "train_soundscapes", "test_soundscapes"),
            ["cat", "dog"],
            ["reading the class folders in 'train_audio', not 'test_soundscapes', 'train_soundscapes'"],
        ),
        (
            ("train/cat", "train/dog", "test", "extra"),
            ["cat", "dog"],
            ["reading the class folders in 'train', not 'extra'"],
        ),
        (
            ("cat", "dog", "test"),
            ["cat", "dog"],
            ["ignoring 'test', named like a test or validation split; if it is a class, rename it"],
        ),
        (
            ("cat", "dog", "_background_noise_", ".cache", "__MACOSX"),
            ["cat", "dog"],
            ["ignoring folders that are no classes: '__MACOSX', '_background_noise_', '.cache'"],
        ),
        (
            ("train_short_audio/cat", "train_short_audio/dog", "train_soundscapes"),
            ["cat", "dog"],
            ["reading the class folders in 'train_short_audio', not 'train_soundscapes'"],
        ),
        (
            ("cat/train", "cat/test", "dog/train", "dog/test", "dog/more", "owl", "rain/valid"),
            ["cat", "dog", "owl"],
            ["ignoring 'cat/test', 'dog/test', 'rain/valid', named like held-out splits of their classes"],
        ),
        (("cat/train", "dog/train"), ["cat", "dog"], []),
        (("train horn", "train_whistle"), ["train horn", "train_whistle"], []),
        (("invalid", "valid"), ["invalid", "valid"], []),
    ],
)
def test_class_folders_are_recognized(
    folders: tuple[str, ...], classes: list[str], warnings: list[str], tmp_path: Path
):
    manifest = read(tmp_path, *folders)
    assert manifest.class_names == classes
    assert manifest.warnings == warnings


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (
            ("train/a", "train/b", "cat", "dog"),
            "'train' can be a training split or a class next to 'cat', 'dog'; .*/train",
        ),
        (("train/a", "training/b"), "'train' can be a training split or a class next to 'training'"),
        (("train", "test"), "'train' holds recordings but no class folders; .* CSV"),
        (("train",), "'train' holds recordings but no class folders"),
        (("train_curated", "train_noisy", "test"), "'train_curated' holds recordings but no class folders"),
        (("Set1.audio_train", "Set1.audio_test"), "'Set1.audio_train' holds recordings but no class folders"),
        (("test/a", "val/a"), "no training split or class folder next to 'test', 'val'; .* --data .*/test"),
        (("control", "test"), "'test' can be a split or a class next to 'control'; .* rename it, else move"),
        (("fold1", "fold2"), "'fold1', 'fold2' are folds without class folders .* CSV"),
        (("fold1/a", "fold2/a", "dog"), "'fold1', 'fold2' are named like folds, next to class folders 'dog'"),
    ],
)
def test_ambiguous_folders_raise_with_fix(folders: tuple[str, ...], message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        read(tmp_path, *folders)


def test_fold_folders_give_folds(tmp_path: Path):
    manifest = read(tmp_path, "fold1/cat", "fold1/dog", "Fold_10/dog")
    clips = manifest.clips
    assert clips["label"].tolist() == ["dog", "dog", "cat", "cat", "dog", "dog"]
    assert clips["fold"].tolist() == [10, 10, 1, 1, 1, 1]
    assert clips["clip_id"].tolist()[0] == "Fold_10/dog/1.wav"
    assert manifest.warnings == ["reading 'Fold_10', 'fold1' as folds, and the folders in them as classes"]
    inside_split = read(tmp_path / "x", "train/fold1/cat", "train/fold2/dog", "test")
    assert set(inside_split.clips["fold"]) == {1, 2}


def test_single_fold_name_is_a_class(tmp_path: Path):
    assert set(read(tmp_path, "fold 1", "dog").clips["fold"]) == {NO_FOLD}


@pytest.mark.parametrize(
    "names",
    [
        ["runs/first/config.json", "runs/first/metrics.jsonl", "runs/first/samples/1.wav"],
        ["runs/config.json", "runs/owner.json", "runs/samples/epoch_1/1.wav"],
        ["search/search.json", "search/scores.jsonl", "search/trials/1.wav"],
        ["shards/_manifest.json", "shards/1.wav"],
        ["sounds/generated.csv", "sounds/dog/1.wav"],
        ["answer/submission.csv", "answer/predictions.parquet", "answer/1.wav"],
        ["rain/sounds/generated.csv", "rain/sounds/1.wav"],
    ],
)
def test_output_folders_of_melray_are_ignored(names: list[str], tmp_path: Path):
    manifest = read(touch(tmp_path, *names), "cat", "dog")
    assert manifest.class_names == ["cat", "dog"]
    assert [warning for warning in manifest.warnings if "ignoring output folders of melray" in warning]


def test_tables_of_melray_are_not_suggested_as_labels(tmp_path: Path):
    touch(tmp_path, "predictions/submission.csv", "predictions/predictions.parquet")
    with pytest.raises(UserError, match="no training split or class folder next to 'test'") as error:
        read(tmp_path, "test/a")
    assert "submission.csv" not in str(error.value)


def test_outputs_do_not_make_split_ambiguous(tmp_path: Path):
    touch(tmp_path, "runs/first/config.json", "runs/first/owner.json", "runs/first/samples/1.wav")
    assert read(tmp_path, "train/cat", "train/dog", "test").warnings == []


@pytest.mark.parametrize(
    ("folders", "nested"),
    [
        (("audio/cat", "audio/dog"), "audio"),
        # Speech Commands as Kaggle has it.
        (("train/audio/cat", "train/audio/dog", "train/audio/_background_noise_", "test/audio"), "audio"),
        # Archives whose folder has the name of the dataset, once or twice.
        (("Data/genres/cat", "Data/genres/dog", "Data/genres/dog/more"), "Data/genres"),
        (("archive/train/cat", "archive/train/dog", "archive/test/cat"), "archive/train"),
        (("archive/set/train/cat", "archive/set/train/dog", "archive/set/test"), "archive/set"),
        (("archive/fold1/cat", "archive/fold2/dog"), "archive"),
    ],
)
def test_only_folder_of_class_folders_is_no_class(folders: tuple[str, ...], nested: str, tmp_path: Path):
    manifest = read(tmp_path, *folders)
    assert manifest.class_names == ["cat", "dog"]
    assert (
        f"reading the folders in '{nested}' as classes, as there is no other class folder; if '{nested}' is "
        "one class, put its recordings directly into it"
    ) in manifest.warnings
    assert not [text for text in manifest.warnings if "only one class" in text]


@pytest.mark.parametrize(
    "folders",
    [("dog/sessions",), ("dog", "dog/a", "dog/b"), ("dog/train", "dog/test"), ("dog/all/a", "dog/all")],
)
def test_only_class_with_recordings_is_a_class(folders: tuple[str, ...], tmp_path: Path):
    assert read(tmp_path, *folders).class_names == ["dog"]


def test_table_is_preferred_to_folders_in_the_only_class_folder(tmp_path: Path):
    (tmp_path / "clips.csv").write_text("path,label\naudio/anna/1.wav,yes\naudio/bob/1.wav,no\n")
    assert read(tmp_path, "audio/anna", "audio/bob").class_names == ["no", "yes"]


def test_folder_of_folds_is_suggested(tmp_path: Path):
    warnings = read(tmp_path, "audio/fold1", "audio/fold2").warnings
    assert f"if the folders in 'audio' are the classes, pass --data {tmp_path}/audio" in warnings


def test_classes_named_like_splits_are_reported(tmp_path: Path):
    (warning,) = read(tmp_path, "birds_train/a", "birds_test/a").warnings
    assert "'birds_test', 'birds_train' are read as classes" in warning
    assert f"pass --data {tmp_path}/birds_train" in warning


def test_classes_all_named_like_held_out_splits_are_reported(tmp_path: Path):
    """As VoxCeleb and parts of the test set of IRMAS, without a training split next to them."""
    (warning,) = read(tmp_path, "vox1_dev_wav/wav/id1", "vox1_test_wav/wav/id2").warnings
    assert "'vox1_dev_wav', 'vox1_test_wav' are read as classes; if they are splits" in warning
    assert f"pass --data {tmp_path}/vox1_dev_wav" in warning
    assert not read(tmp_path, "vox1_dev_wav/wav/id1", "vox1_test_wav/wav/id2", "dog").warnings


def test_table_next_to_recordings_is_suggested(tmp_path: Path):
    touch(tmp_path, "1.wav", "2.wav", "train.csv")
    with pytest.raises(UserError, match=r"ignoring 2 audio files outside .* pass --data .*/train.csv"):
        read_manifest(tmp_path)
    touch(tmp_path / "flat", "train/1.wav", "test/2.wav", "train.csv")
    with pytest.raises(UserError, match=r"no class folders; .* pass --data .*/flat/train.csv"):
        read_manifest(tmp_path / "flat")
    touch(tmp_path / "esc50", "audio/1.wav", "audio/2.wav", "meta/esc50.csv")
    hint = f"if 'esc50.csv' has the labels, pass --data {tmp_path}/esc50/meta/esc50.csv"
    assert hint in read_manifest(tmp_path / "esc50").warnings


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("audio_train", "train"),
        ("train_short_audio", "train"),
        ("FSDKaggle2018.audio_test", "held out"),
        ("test-set", "held out"),
        ("VAL", "held out"),
        ("held_out", "held out"),
        ("devel", "held out"),
        # Of a value in a table, more is recognized: a folder may be a class.
        ("test1", None),
        ("dev-clean", None),
        ("train horn", None),
        ("contest", None),
        ("", None),
        ("1", None),
    ],
)
def test_split_names_are_recognized(name: str, split: str | None):
    assert split_of(name) == split
