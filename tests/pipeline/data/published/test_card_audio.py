"""Configurations of a dataset card that list audio files: class folders, tables, splits, refusals."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
import soundfile

from models.config import ConfigError
from pipeline.classifier.predict import read_audio
from pipeline.data.manifest import Manifest, ManifestConfig, read_manifest
from pipeline.data.published.card_audio import find_card_audio
from pipeline.data.unlabeled import read_unlabeled
from pipeline.io.errors import UserError
from pipeline.io.folder_tree import open_tree
from tests.helpers.object_store import upload_folder
from tests.helpers.s3_server import S3Server
from tests.helpers.sounds import RATE, tone
from tests.pipeline.data.test_manifest import labels

TWO_LANGUAGES = """configs:
- config_name: en
  data_files:
  - {split: train, path: en/train/**}
  - {split: test, path: en/test/**}
- config_name: german
  data_dir: ./de
"""
SOUNDS = (
    "en/train/yes/1.wav",
    "en/train/no/2.wav",
    "en/test/yes/3.wav",
    "de/ja/4.wav",
    "de/nein/5.wav",
    "de/nein/6.wav",
)
NAMES = "('en', 'german')"


def write(root: Path, front_matter: str, *sounds: str) -> Path:
    """Write a dataset card and sounds; return their folder."""
    for index, name in enumerate(sounds):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(300 + 50 * index, 0.1), RATE)
    (root / "README.md").write_text(f"---\n{front_matter}---\n# Words\n", encoding="utf-8")
    return root


def read(data: Path, **settings: Any) -> Manifest:
    return read_manifest(data, ManifestConfig(**settings))


def test_chosen_configuration_has_its_class_folders(tmp_path: Path) -> None:
    write(tmp_path, TWO_LANGUAGES, *SOUNDS)
    english = read(tmp_path, data_config="en")
    assert labels(english) == {"yes/1.wav": "yes", "no/2.wav": "no"}
    assert "ignoring 1 audio file of other splits ('test')" in english.warnings
    german = {"ja/4.wav": "ja", "nein/5.wav": "nein", "nein/6.wav": "nein"}
    assert labels(read(tmp_path, data_config="german")) == german
    assert labels(read(tmp_path / "de")) == german  # as by its folder


def test_chosen_configuration_in_object_store_is_read(tmp_path: Path, server: S3Server) -> None:
    write(tmp_path, TWO_LANGUAGES, *SOUNDS)
    data = server.bucket("words") / "data"
    upload_folder(tmp_path, data)
    assert labels(read(data, data_config="en")) == {"yes/1.wav": "yes", "no/2.wav": "no"}


def test_decomposed_names_of_files_match_composed_ones_of_the_card(tmp_path: Path) -> None:
    folder = unicodedata.normalize("NFD", "données/été")  # as written on macOS
    configs = "configs:\n- {config_name: été, data_files: données/été/**}\n- {config_name: x, data_dir: x}\n"
    write(tmp_path, configs, f"{folder}/oui/1.wav", f"{folder}/non/2.wav", "x/a/1.wav")
    assert labels(read(tmp_path, data_config="été")) == {"oui/1.wav": "oui", "non/2.wav": "non"}


def test_default_configuration_is_read_without_a_choice(tmp_path: Path) -> None:
    write(tmp_path, TWO_LANGUAGES.replace("german", "default"), *SOUNDS)
    manifest = read(tmp_path)
    assert labels(manifest) == {"ja/4.wav": "ja", "nein/5.wav": "nein", "nein/6.wav": "nein"}
    warning = (
        "reading configuration 'default', the default in README.md, not 'en'; --data-config reads another"
    )
    assert manifest.warnings[0] == warning


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, f"{NAMES}, none of them as the default: choose one, such as --data-config en"),
        ("French", f"--data-config French: README.md lists 2 configurations {NAMES}; choose one of these"),
    ],
)
def test_missing_or_unknown_choice_lists_the_names(name: str | None, message: str, tmp_path: Path) -> None:
    write(tmp_path, TWO_LANGUAGES, *SOUNDS)
    with pytest.raises(UserError) as error:
        read(tmp_path, data_config=name)
    assert str(error.value).startswith(f"--data {tmp_path}: ") and str(error.value).endswith(message)


def test_table_above_the_files_of_a_configuration_has_the_classes(tmp_path: Path) -> None:
    sounds = ("clips/a_1.wav", "clips/a_2.wav", "clips/b_1.wav", "clips/b_2.wav")
    configs = (
        "configs:\n- {config_name: a, data_files: clips/a_*}\n- {config_name: b, data_files: clips/b_*}\n"
    )
    write(tmp_path, configs, *sounds)
    rows = "".join(f"{name},{label}\n" for name, label in zip(sounds, "xyxz", strict=True))
    (tmp_path / "metadata.csv").write_text(f"file_name,label\n{rows}", encoding="utf-8")
    assert labels(read(tmp_path, data_config="a")) == {"clips/a_1.wav": "x", "clips/a_2.wav": "y"}
    assert labels(read(tmp_path, data_config="b")) == {"clips/b_1.wav": "x", "clips/b_2.wav": "z"}
    config = {"data_config": "b", "multi_label": True}
    assert labels(read(tmp_path, **config)) == {"clips/b_1.wav": "x", "clips/b_2.wav": "z"}


def test_table_of_another_configuration_is_not_read(tmp_path: Path) -> None:
    configs = "configs:\n- {config_name: a, data_dir: a}\n- {config_name: b, data_dir: b}\n"
    write(tmp_path, configs, "a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav")
    for folder, classes in (("a", "xy"), ("b", "vw")):
        rows = "".join(f"{number}.wav,{label}\n" for number, label in enumerate(classes, 1))
        (tmp_path / folder / "metadata.csv").write_text(f"file_name,label\n{rows}", encoding="utf-8")
    assert labels(read(tmp_path, data_config="b")) == {"1.wav": "v", "2.wav": "w"}


def test_prediction_reads_all_splits_of_the_chosen_configuration(tmp_path: Path) -> None:
    write(tmp_path, TWO_LANGUAGES, *SOUNDS)
    chosen = read_unlabeled(tmp_path, "en").clips["clip_id"].tolist()
    assert chosen == ["en/test/yes/3.wav", "en/train/no/2.wav", "en/train/yes/1.wav"]
    assert read_audio((tmp_path,), "en").clips["clip_id"].tolist() == chosen
    # Without a choice every audio file gets a prediction.
    assert read_unlabeled(tmp_path).clips["clip_id"].tolist() == sorted(SOUNDS)


@pytest.mark.parametrize("front_matter", ["license: mit\n", "configs: [{config_name: x, data_files: y/*}]\n"])
def test_card_without_audio_files_changes_nothing(front_matter: str, tmp_path: Path) -> None:
    write(tmp_path, front_matter, "dog/1.wav", "rain/2.wav")
    assert labels(read(tmp_path)) == {"dog/1.wav": "dog", "rain/2.wav": "rain"}


NUMBERED = """configs:
- config_name: x
  data_files:
  - {split: train, path: 'train-[0-9]/**'}
  - {split: test, path: 'test-*/**'}
"""


def test_training_split_in_brackets_is_read(tmp_path: Path) -> None:
    write(tmp_path, NUMBERED, "train-0/dog/1.wav", "train-1/rain/2.wav", "test-0/dog/3.wav")
    chosen = find_card_audio(open_tree(tmp_path), "--data x", None, all_splits=False)
    assert chosen is not None
    assert chosen.paths == {f"{tmp_path}/train-0/dog/1.wav", f"{tmp_path}/train-1/rain/2.wav"}


def test_training_split_of_the_card_without_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path, NUMBERED, "test-0/dog/3.wav", "test-0/rain/4.wav")
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value) == (
        f"--data {tmp_path}: README.md lists 'train-[0-9]/**' for split 'train', but no audio file "
        "belongs to it: add its files, or correct or remove the split in README.md"
    )
    assert len(read_unlabeled(tmp_path, "x").clips) == 2  # all splits are predicted


def test_held_out_split_of_the_card_without_files_is_a_warning(tmp_path: Path) -> None:
    """It may not have been downloaded; or its pattern is wrong, and its files are trained on."""
    write(tmp_path, NUMBERED, "train-0/dog/1.wav", "train-0/rain/2.wav")
    found = read(tmp_path)
    assert len(found.clips) == 2
    assert "README.md lists 'test-*/**' for split 'test', but no audio file belongs to it" in found.warnings


def test_training_split_that_the_card_leaves_out_is_named(tmp_path: Path) -> None:
    config = "configs:\n- config_name: x\n  data_files: [{split: test, path: test/**}]\n"
    sounds = ("test/dog/1.wav", "test/rain/2.wav")
    write(tmp_path, config, *sounds)
    assert len(read(tmp_path).clips) == 2  # the only split
    other = f"{config}- config_name: y\n  data_files: [{{split: train, path: train/**}}]\n"
    write(tmp_path, other, *sounds, "train/dog/3.wav")
    assert len(read(tmp_path, data_config="x").clips) == 2  # that of another configuration
    write(tmp_path, config)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value) == (
        f"--data {tmp_path}: README.md lists only split 'test', but 'train/dog/3.wav' is named as a training "
        "split: add that split to README.md, or pass a folder that has only the files to read"
    )


def test_file_of_two_splits_is_held_out(tmp_path: Path) -> None:
    files = "{train: 'clips/**', test: 'clips/*/test-*'}"
    sounds = ("clips/dog/1.wav", "clips/rain/2.wav", "clips/rain/test-3.wav")
    write(tmp_path, f"configs:\n- {{config_name: x, data_files: {files}}}\n", *sounds)
    manifest = read(tmp_path)
    assert labels(manifest) == {"dog/1.wav": "dog", "rain/2.wav": "rain"}
    assert "ignoring 1 audio file of other splits ('test')" in manifest.warnings


def test_configuration_of_table_or_annotations_is_refused(tmp_path: Path) -> None:
    write(tmp_path, TWO_LANGUAGES, *SOUNDS)
    (tmp_path / "clips.csv").write_text("path,label\nde/ja/4.wav,ja\n", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"clips.csv: --data-config en is for a folder with a dataset card: leave"
    ):
        read(tmp_path / "clips.csv", data_config="en")
    with pytest.raises(
        UserError, match=r"4.wav: --data-config en is for a folder with a dataset card: leave"
    ):
        read_unlabeled(tmp_path / "de/ja/4.wav", "en")
    with pytest.raises(ConfigError, match="--data-config en: not with --annotations: leave it out, and pass"):
        ManifestConfig(annotations="auto", data_config="en")
