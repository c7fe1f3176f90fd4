"""Datasets with the audio inside Parquet files as manifests: splits, configurations, classes, names, ids."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.manifest import Manifest, ManifestConfig, read_manifest
from pipeline.data.unlabeled import read_unlabeled
from pipeline.io.errors import UserError
from pipeline.io.row_location import RowLocation, parse_row
from tests.helpers.parquet_audio import LABELS, clip, labeled_rows, write_parquet
from tests.helpers.sounds import write_shards, write_tones

TRAIN = "data/train-00000-of-00001.parquet"
AUDIO = {"_type": "Audio"}
LISTED = {"labels": pa.list_(pa.int64())}


def read(data: Path, **settings: Any) -> Manifest:
    return read_manifest(data, ManifestConfig(**settings))


def write_files(folder: Path, *names: str) -> Path:
    """Write Parquet files with four clips each."""
    for name in names:
        write_parquet(folder / name, labeled_rows(4))
    return folder


def ids(manifest: Manifest) -> list[str]:
    return manifest.clips["clip_id"].tolist()


def test_rows_are_clips_with_names_of_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_parquet(tmp_path / TRAIN, labeled_rows(5))
    with caplog.at_level(logging.INFO):
        manifest = read(tmp_path)
    assert ids(manifest) == [f"{TRAIN}#00000{row}/{row}.wav" for row in range(5)]
    assert manifest.clips["label"].tolist() == ["dog", "rain", "dog", "rain", "dog"]
    assert manifest.warnings == [] and not manifest.multi_label
    paths = manifest.clips["path"].tolist()
    assert paths == [f"{tmp_path}/{clip_id}" for clip_id in ids(manifest)]
    assert [parse_row(path) for path in paths] == [RowLocation(str(file), row) for row in range(5)]
    # Sizes are means over a row group, with what Parquet adds; the time is that of the file.
    assert manifest.clips["size"].between(len(clip(0)), 4 * len(clip(0))).all()
    assert set(manifest.clips["mtime_ns"]) == {file.stat().st_mtime_ns}
    line = f"data: audio in 1 Parquet file (e.g. {TRAIN}; column 'audio' = audio, 'label' = label; 5 clips)"
    assert line in caplog.messages


@pytest.mark.parametrize(
    ("names", "used"),
    [
        (("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"), 2),
        (("data/train-00000-of-00001-a1b2c3.parquet", "data/test-00000-of-00001-d4e5f6.parquet"), 1),
        (("train/0000.parquet", "test/0000.parquet"), 1),
        (("default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"), 2),
        (("default/partial-train/0000.parquet", "default/validation/0000.parquet"), 1),
        (("data/en/train.parquet", "data/en/dev.parquet"), 1),
        (("clean/train.100/0000.parquet", "clean/train.360/0000.parquet", "clean/test/0000.parquet"), 2),
        (("all/train.clean-00000-of-00001.parquet", "all/dev.clean-00000-of-00001.parquet"), 1),
        (("train_audio/0000.parquet", "test_audio/0000.parquet"), 1),
        (("birds-train.parquet", "birds-valid.parquet"), 1),
        (("0000.parquet", "0001.parquet"), 2),
        (("a.parquet", "test.parquet"), 1),
        (("test-00000-of-00002.parquet", "test-00001-of-00002.parquet"), 2),
    ],
)
def test_training_split_or_only_split_is_read(names: tuple[str, ...], used: int, tmp_path: Path) -> None:
    manifest = read(write_files(tmp_path, *names))
    assert sorted({name.partition("#")[0] for name in ids(manifest)}) == sorted(names[:used])
    assert len(ids(manifest)) == 4 * used
    ignored = len(names) - used
    assert len(manifest.warnings) == (ignored > 0)
    if ignored:
        assert f"ignoring {ignored} Parquet file of other splits ('" in manifest.warnings[0]
    # Without labels, all of them; and each file alone, whatever its split.
    assert len(ids(read_unlabeled(tmp_path))) == 4 * len(names)
    for name in names:
        one = read(tmp_path / name)
        assert ids(one)[0] == f"{Path(name).name}#000000/0.wav" and len(one.clips) == 4


def test_several_held_out_splits_are_refused(tmp_path: Path) -> None:
    write_files(tmp_path, "data/test-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"no training split next to 'test', 'validation'; to read one"):
        read(tmp_path)
    assert len(ids(read_unlabeled(tmp_path))) == 8


def test_several_configurations_are_asked_for(tmp_path: Path) -> None:
    write_files(tmp_path, "data/en/train.parquet", "data/de/train.parquet", "data/de/test.parquet")
    for flag, reader in (("--data", read), ("--audio", read_unlabeled)):
        with pytest.raises(UserError) as error:
            reader(tmp_path)
        assert str(error.value) == (
            f"{flag} {tmp_path}: has 2 configurations ('de', 'en'): pass the folder of one, such as "
            f"{flag} {tmp_path}/data/en"
        )
    assert ids(read(tmp_path / "data/en")) == [f"train.parquet#00000{row}/{row}.wav" for row in range(4)]


def test_one_row_is_read_by_its_location(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / TRAIN, labeled_rows(3))
    all_rows = read_unlabeled(file).clips
    one = read_unlabeled(Path(f"{file}#000001/1.wav")).clips
    assert one[["clip_id", "path"]].values.tolist() == all_rows[["clip_id", "path"]].values[1:2].tolist()
    (path,) = read_unlabeled(Path(f"{file}#1")).clips["path"]  # the name and zeros may be left out
    assert parse_row(path) == RowLocation(str(file), 1)


def write_card(folder: Path, front_matter: str) -> None:
    (folder / "README.md").write_text(f"---\nlicense: mit\n{front_matter}---\n# Sounds\n", encoding="utf-8")


def test_default_configuration_of_the_card_is_read(tmp_path: Path) -> None:
    write_files(tmp_path, "no/a-0.parquet", "no/b-0.parquet", "de/train.parquet")
    write_card(
        tmp_path,
        """configs:
- config_name: de
  data_files: de/*.parquet
- config_name: no
  default: true
  data_files:
  - {split: train, path: ["no/a-*"]}
  - {split: test, path: "**/b-?.parquet"}
""",
    )
    manifest = read(tmp_path)
    assert ids(manifest) == [f"no/a-0.parquet#00000{row}/{row}.wav" for row in range(4)]
    assert manifest.warnings[:2] == [
        "reading configuration 'no', the default in README.md, not 'de'; --data-config reads another",
        "ignoring 1 Parquet file of other splits ('test')",
    ]
    assert len(ids(read_unlabeled(tmp_path))) == 8  # both splits, without labels
    chosen = read(tmp_path, data_config="de")
    assert ids(chosen) == [f"de/train.parquet#00000{row}/{row}.wav" for row in range(4)]
    assert not [warning for warning in chosen.warnings if "configuration" in warning]
    assert ids(read_unlabeled(tmp_path, "de")) == ids(chosen)


@pytest.mark.parametrize(
    "front_matter", ["configs: 5\n", "configs: [\n", "configs: [{config_name: x, data_files: y}]\n"]
)
def test_card_without_usable_configurations_is_ignored(tmp_path: Path, front_matter: str) -> None:
    write_files(tmp_path, TRAIN)
    write_card(tmp_path, front_matter)
    assert len(ids(read(tmp_path))) == 4


def splits_card(train: str) -> str:
    files = f"{{train: '{train}', test: 'data/test-*.parquet'}}"
    return f"configs:\n- {{config_name: default, data_files: {files}}}\n"


def test_training_split_in_brackets_is_read(tmp_path: Path) -> None:
    write_files(tmp_path, "data/train-0.parquet", "data/train-x.parquet", "data/test-0.parquet")
    write_card(tmp_path, splits_card("data/train-[0-9]*.parquet"))
    assert {name.partition("#")[0] for name in ids(read(tmp_path))} == {"data/train-0.parquet"}


def test_held_out_split_is_not_read_for_a_training_split_without_files(tmp_path: Path) -> None:
    write_files(tmp_path, "data/train-0.parquet", "data/test-0.parquet")
    write_card(tmp_path, splits_card("data/{train,valid}-*.parquet"))
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value) == (
        f"--data {tmp_path}: README.md lists 'data/{{train,valid}}-*.parquet' for split 'train', but no "
        "Parquet file belongs to it: add its files, or correct or remove the split in README.md"
    )
    write_card(tmp_path, "configs:\n- {config_name: default, data_files: {test: data/test-*}}\n")
    with pytest.raises(UserError, match=r"lists only split 'test', but 'data/train-0.parquet' is named as a"):
        read(tmp_path)
    (tmp_path / "data/train-0.parquet").unlink()
    assert {name.partition("#")[0] for name in ids(read(tmp_path))} == {"data/test-0.parquet"}


def test_configurations_without_a_default_are_listed(tmp_path: Path) -> None:
    write_files(tmp_path, "data/en/x.parquet", "data/de/x.parquet")
    write_card(
        tmp_path,
        "configs:\n- {config_name: en, data_dir: data/en}\n"
        "- {config_name: german, data_files: {train: data/de/*}}\n",
    )
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value) == (
        f"--data {tmp_path}: README.md lists 2 configurations ('en', 'german'), none of them as the default: "
        "choose one, such as --data-config en"
    )
    assert ids(read(tmp_path, data_config="german"))[0].startswith("data/de/x.parquet#")


def test_configuration_that_is_not_in_the_card_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, "en/x.parquet", "de/x.parquet")
    with pytest.raises(UserError) as error:
        read(tmp_path, data_config="fr")
    assert str(error.value) == (
        f"--data {tmp_path}: --data-config fr needs a dataset card (README.md with `configs`), and this "
        "folder has none: leave it out"
    )
    write_card(
        tmp_path,
        "configs:\n- {config_name: en, data_files: en/*}\n- {config_name: de, data_files: de/*}\n"
        "- {config_name: texts, data_files: '*.txt'}\n",
    )
    with pytest.raises(UserError) as error:
        read_unlabeled(tmp_path, "fr")
    assert str(error.value) == (
        f"--audio {tmp_path}: --data-config fr: README.md lists 3 configurations ('en', 'de', 'texts'); "
        "choose one of these"
    )
    with pytest.raises(UserError) as error:
        read(tmp_path, data_config="texts")
    assert str(error.value) == (
        f"--data {tmp_path}: --data-config texts: no audio files that README.md lists for it; choose one of "
        "2 configurations ('en', 'de')"
    )
    with pytest.raises(UserError, match=r"x.parquet: --data-config en is for a folder with a dataset card"):
        read(tmp_path / "en/x.parquet", data_config="en")


@pytest.mark.parametrize(
    ("label", "features", "settings", "classes"),
    [
        ("label", {"label": LABELS}, {}, ["dog", "rain"]),
        ("genre", {"genre": LABELS}, {}, ["dog", "rain"]),
        ("genre", {}, {"label_column": "Genre"}, ["0", "1"]),
        ("category", {}, {}, ["0", "1"]),
    ],
)
def test_column_of_classes_is_found(
    label: str, features: dict[str, Any], settings: dict[str, str], classes: list[str], tmp_path: Path
) -> None:
    rows = [{"audio": row["audio"], "speaker": 7, label: row["label"]} for row in labeled_rows(4)]
    write_parquet(tmp_path / TRAIN, rows, {"audio": AUDIO} | features)
    assert read(tmp_path, **settings).class_names == classes


def test_classes_as_texts_with_folds_and_recordings(tmp_path: Path) -> None:
    columns = [("Éa", 1, "r1"), ("b", 2, ""), ("b", 2, "r1")]
    rows = [
        {"audio": {"bytes": clip(0), "path": None}, "category": label, "fold": fold, "src_file": group}
        for label, fold, group in columns
    ]
    write_parquet(tmp_path / TRAIN, rows)
    manifest = read(tmp_path)
    assert ids(manifest) == [f"{TRAIN}#00000{row}" for row in range(3)]
    assert manifest.clips["label"].tolist() == ["Éa", "b", "b"]
    assert manifest.clips["fold"].tolist() == [1, 2, 2]
    assert manifest.clips["group"].tolist() == ["r1", f"{TRAIN}#000001", "r1"]


def test_patterns_apply_to_names_of_audio(tmp_path: Path) -> None:
    rows = labeled_rows(4)
    for number, row in enumerate(rows):
        row["audio"]["path"] = f"/cache/x/{number + 1}-rec{number // 2}.wav"
    write_parquet(tmp_path / TRAIN, rows)
    manifest = read(tmp_path, fold_pattern=r"^(\d)-", group_pattern=r"-(rec\d)")
    assert manifest.clips["fold"].tolist() == [1, 2, 3, 4]
    assert manifest.clips["group"].tolist() == ["rec0", "rec0", "rec1", "rec1"]


def test_equal_names_are_different_clips_and_never_opened(tmp_path: Path) -> None:
    rows = labeled_rows(3)
    for row in rows:
        row["audio"]["path"] = "/etc/passwd"
    write_parquet(tmp_path / TRAIN, rows)
    assert ids(read(tmp_path)) == [f"{TRAIN}#00000{row}/passwd" for row in range(3)]


def test_name_may_be_in_a_column(tmp_path: Path) -> None:
    rows = [
        {"audio": {"bytes": clip(0), "path": None}, "file": f"clips/{number}.wav", "label": number % 2}
        for number in range(2)
    ]
    write_parquet(tmp_path / TRAIN, rows)
    expected = [f"{TRAIN}#00000{row}/{row}.wav" for row in range(2)]
    assert ids(read(tmp_path)) == expected == ids(read_unlabeled(tmp_path))


def test_rows_of_other_splits_are_left_out(tmp_path: Path) -> None:
    splits = ["train", "test", "train", "val"]
    rows = [row | {"split": split} for row, split in zip(labeled_rows(4), splits, strict=True)]
    path = write_parquet(tmp_path / "x.parquet", rows)
    manifest = read(tmp_path)
    assert ids(manifest) == ["x.parquet#000000/0.wav", "x.parquet#000002/2.wav"]
    assert "ignoring 2 rows of other splits ('test': 1, 'val': 1)" in manifest.warnings
    write_parquet(path, [row | {"split": "odd"} for row in rows])
    with pytest.raises(
        UserError, match=r"x.parquet: column 'split' has values \('odd': 4\), none of which is"
    ):
        read(tmp_path)


def write_column(file: Path, column: str, values: Sequence[Any], **options: Any) -> None:
    """Write clips of alternating classes with another column."""
    rows = labeled_rows(len(values))
    write_parquet(file, [row | {column: value} for row, value in zip(rows, values, strict=True)], **options)


@pytest.mark.parametrize("column", ["phase", "Usage"])
def test_column_of_any_name_divides_by_its_values_in_all_files(column: str, tmp_path: Path) -> None:
    write_column(tmp_path / "a.parquet", column, ["train", "train"])
    write_column(tmp_path / "b.parquet", column, ["train", "Private" if column == "Usage" else "test"])
    # Held-out rows need no label.
    rows = [row | {column: "val", "label": None} for row in labeled_rows(2)]
    features = {"audio": AUDIO, "label": LABELS}
    write_parquet(tmp_path / "c.parquet", rows, features, types={"label": pa.int64()})
    manifest = read(tmp_path)
    assert [name.partition("/")[0] for name in ids(manifest)] == [
        "a.parquet#000000", "a.parquet#000001", "b.parquet#000000",
    ]  # fmt: skip
    assert "ignoring 3 rows of other splits" in manifest.warnings[0]
    # Training rows need one.
    rows = [row | {column: "train"} for row in rows]
    write_parquet(tmp_path / "c.parquet", rows, features, types={"label": pa.int64()})
    with pytest.raises(UserError, match=r"c\.parquet, row 0: label is empty"):
        read(tmp_path)
    # A value that is no split in one of the files.
    write_column(tmp_path / "c.parquet", column, ["bus", "train"])
    assert len(ids(read(tmp_path))) == 6


def test_splits_may_be_class_labels(tmp_path: Path) -> None:
    names = {"names": ["train", "test"], "_type": "ClassLabel"}
    features = {"audio": AUDIO, "label": LABELS, "phase": names}
    write_column(tmp_path / "a.parquet", "phase", [0, 1, 0], features=features)
    manifest = read(tmp_path)
    assert ids(manifest) == ["a.parquet#000000/0.wav", "a.parquet#000002/2.wav"]


def test_columns_with_different_splits_are_named(tmp_path: Path) -> None:
    for number, marks in enumerate([(1, 1), (0, 1)]):
        rows = [
            row | {"split": split, "is_test": mark}
            for row, split, mark in zip(labeled_rows(2), ("train", "val"), marks, strict=True)
        ]
        write_parquet(tmp_path / f"{number}.parquet", rows)
    manifest = read(tmp_path)
    assert ids(manifest) == ["0.parquet#000000/0.wav", "1.parquet#000000/0.wav"]
    assert manifest.warnings[0].startswith(
        "columns 'split' and 'is_test' contradict each other: 1 row of the training split by the first"
    )


def test_split_is_the_column_that_is_1(tmp_path: Path) -> None:
    for number, splits in enumerate([(1, 0, 0), (0, 1, 0), (0, 0, 1)]):
        marks = dict(zip(("train", "val", "test"), splits, strict=True))
        write_parquet(tmp_path / f"{number}.parquet", [row | marks for row in labeled_rows(2)])
    manifest = read(tmp_path)
    assert ids(manifest) == ["0.parquet#000000/0.wav", "0.parquet#000001/1.wav"]
    assert "ignoring 4 rows of other splits ('test': 2, 'val': 2)" in manifest.warnings


def one_hot(*classes: str) -> list[dict[str, Any]]:
    """Return rows with the columns dog, rain and cat, of which those of the classes in a text are 1."""
    return [
        {"audio": row["audio"], **{name: int(name in text.split()) for name in ("dog", "rain", "cat")}}
        for row, text in zip(labeled_rows(len(classes)), classes, strict=True)
    ]


def test_classes_may_have_a_column_each(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", one_hot("rain", "dog"), row_group_size=1)
    write_parquet(tmp_path / "b.parquet", one_hot("cat"))
    assert read(tmp_path).clips["label"].tolist() == ["rain", "dog", "cat"]
    write_parquet(tmp_path / "b.parquet", one_hot("cat dog", ""))
    manifest = read(tmp_path, multi_label=True)
    assert manifest.clips["label"].tolist() == ["rain", "dog", "cat;dog", ""] and manifest.multi_label
    with pytest.raises(
        UserError, match=r"b.parquet: .* several classes .*: add --multi-label, .*; row 0 has"
    ):
        read(tmp_path)
    write_parquet(tmp_path / "b.parquet", one_hot(""))
    with pytest.raises(UserError, match=r"b\.parquet, row 0: label is empty: add --multi-label"):
        read(tmp_path)


def test_columns_of_classes_are_those_of_all_files(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [row | {"take": "x"} for row in one_hot("rain", "dog")])
    with pytest.raises(
        UserError, match=r"a.parquet: no column 'label'; if columns of 0 and 1 .* remove 'take'"
    ):
        read(tmp_path)
    named = {"label_column": "dog,rain,cat"}
    assert read(tmp_path, **named).clips["label"].tolist() == ["rain", "dog"]
    write_parquet(tmp_path / "a.parquet", one_hot("rain", "dog"))
    write_parquet(tmp_path / "b.parquet", [row | {"loud": 1} for row in one_hot("dog")])
    message = (
        "b.parquet: columns of 0 and 1 for classes are .*'loud', in another file 'dog', 'rain', 'cat': name"
    )
    with pytest.raises(UserError, match=message):
        read(tmp_path, multi_label=True)
    assert read(tmp_path, **named).clips["label"].tolist() == ["rain", "dog", "dog"]


def test_rows_marked_as_test_by_true_and_false_are_left_out(tmp_path: Path) -> None:
    for number, is_test in enumerate([(False, True, False), (None, False), (True, True)]):
        rows = [
            row | {"is_test": value} for row, value in zip(labeled_rows(len(is_test)), is_test, strict=True)
        ]
        write_parquet(tmp_path / f"{number}.parquet", rows)
    manifest = read(tmp_path)
    assert [clip_id.partition(".")[0] for clip_id in ids(manifest)] == ["0", "0", "1", "1"]
    assert manifest.warnings[:2] == [
        "column 'is_test': 3 rows ('True': 3) held out", "ignoring 3 rows of other splits ('True': 3)",
    ]  # fmt: skip


def test_splits_in_other_words_are_left_out_or_refused(tmp_path: Path) -> None:
    def write_splits(name: str, *splits: str | None) -> None:
        rows = labeled_rows(len(splits))
        write_parquet(
            tmp_path / name, [row | {"subset": value} for row, value in zip(rows, splits, strict=True)]
        )

    write_splits("a.parquet", "train-clean-100", "dev-clean", "test1", "train")
    assert [name.partition("#")[2][:6] for name in ids(read(tmp_path))] == ["000000", "000003"]
    write_splits("a.parquet", "train", "test", "odd", None)
    with pytest.raises(
        UserError, match=r"a\.parquet: column 'subset' names splits .* \(no value: 1, 'odd': 1\): write train"
    ):
        read(tmp_path)
    # The split of a row does not depend on the other rows of its file.
    write_splits("a.parquet", "train", "train")
    write_splits("b.parquet", "dev", None, "test")
    assert ids(read(tmp_path)) == ["a.parquet#000000/0.wav", "a.parquet#000001/1.wav"]
    write_splits("a.parquet", "dev", "test")
    write_splits("b.parquet", "dev", "test")
    manifest = read(tmp_path)
    assert [name.partition("/")[0] for name in ids(manifest)] == ["a.parquet#000000", "b.parquet#000000"]
    assert "column 'subset': 2 rows ('dev': 2) are read as the training split, as no value is train" in (
        manifest.warnings
    )
    (tmp_path / "b.parquet").unlink()
    # In one file none of the values is the name of a split, in another all are.
    write_splits("a.parquet", "odd", "odd")
    assert len(ids(read(tmp_path))) == 2
    write_splits("b.parquet", "train", "test")
    with pytest.raises(
        UserError, match=rf"--data {tmp_path}: column 'subset' names splits .* \('odd': 2\): write train"
    ):
        read(tmp_path)


@pytest.mark.parametrize("label", [None, -1])
def test_row_without_label_is_named(label: int | None, tmp_path: Path) -> None:
    rows = labeled_rows(6)
    rows[5]["label"] = label
    path = write_parquet(tmp_path / TRAIN, rows)
    with pytest.raises(UserError, match=rf"^--data {path}, row 5: label is empty$"):
        read(tmp_path)
    manifest = read(tmp_path, multi_label=True)
    assert manifest.multi_label and manifest.clips["label"].tolist()[5] == ""


def several_classes(kind: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return rows of three clips, of two classes, of one and of none, and arguments of `write_parquet`."""
    values: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "numbers": (
            [[1, 0], [1], []],
            {"types": LISTED, "features": {"audio": AUDIO, "labels": {"feature": LABELS}}},
        ),
        "old form": ([[1, 0], [1], []], {"types": LISTED, "features": {"audio": AUDIO, "labels": [LABELS]}}),
        "texts": ([["rain", "dog"], ["rain"], None], {"types": {"labels": pa.list_(pa.string())}}),
        "text of a list": (["['rain', 'dog']", "rain", ""], {}),
    }
    labels, arguments = values[kind]
    rows = [{"audio": {"bytes": clip(0), "path": None}, "labels": label} for label in labels]
    return rows, arguments


@pytest.mark.parametrize("kind", ["numbers", "old form", "texts", "text of a list"])
def test_lists_of_classes_need_multi_label(kind: str, tmp_path: Path) -> None:
    rows, arguments = several_classes(kind)
    write_parquet(tmp_path / TRAIN, rows, **arguments)
    with pytest.raises(
        UserError, match=r"column 'labels' may have several classes in a row: add --multi-label"
    ):
        read(tmp_path)
    manifest = read(tmp_path, multi_label=True)
    assert manifest.clips["label"].tolist() == ["dog;rain", "rain", ""]
    assert manifest.class_counts == {"dog": 1, "rain": 2}


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("is_text", [False, True])
def test_column_labels_may_have_one_class_in_each_row(
    is_text: bool, multi_label: bool, tmp_path: Path
) -> None:
    """As classifiers of Hugging Face `transformers` name it; class labels may have commas."""
    names = ["Dog", "Rain"] if is_text else ["Dog", "Child speech, kid speaking"]
    rows = [
        {"audio": {"bytes": clip(0), "path": None}, "labels": name if is_text else number}
        for number, name in enumerate(names)
    ]
    features = {"audio": AUDIO, "labels": {"_type": "ClassLabel", "names": names}}
    write_parquet(tmp_path / TRAIN, rows, **({} if is_text else {"features": features}))
    assert read(tmp_path, multi_label=multi_label).clips["label"].tolist() == names


def test_columns_of_labels_have_lists(tmp_path: Path) -> None:
    rows = [row | {"event_labels": text} for row, text in zip(labeled_rows(2), ["b,a", "c"], strict=True)]
    file = write_parquet(tmp_path / "a.parquet", rows)
    clips = read(file, multi_label=True, label_column="event_labels").clips
    assert clips["label"].tolist() == ["a;b", "c"]


def test_class_with_comma_in_a_list_is_one(tmp_path: Path) -> None:
    rows = [{"audio": {"bytes": clip(0), "path": None}, "labels": ["Cello, plucked"]}]
    write_parquet(tmp_path / TRAIN, rows)
    assert read(tmp_path, multi_label=True).class_names == ["Cello, plucked"]


def test_texts_of_lists_are_lists_in_every_column_of_classes(tmp_path: Path) -> None:
    texts = ["['rain', 'dog']", "['dog']", "rain"]
    rows = [{"audio": {"bytes": clip(0), "path": None}, "label": text} for text in texts]
    write_parquet(tmp_path / TRAIN, rows)
    assert read(tmp_path, multi_label=True).clips["label"].tolist() == ["dog;rain", "dog", "rain"]
    with pytest.raises(
        UserError, match=r"column 'label' may have several .*: add --multi-label, .*; row 0 has"
    ):
        read(tmp_path)
    write_parquet(tmp_path / TRAIN, rows[1:])
    assert read(tmp_path).clips["label"].tolist() == ["dog", "rain"]


def test_missing_column_of_classes_is_one_line(tmp_path: Path) -> None:
    rows = [{"audio": row["audio"], "text": "hello"} for row in labeled_rows(2)]
    path = write_parquet(tmp_path / TRAIN, rows)
    with pytest.raises(UserError, match=r"name it by --label-column; its columns are 'text'$"):
        read(tmp_path)
    with pytest.raises(UserError, match=rf"^--data {path}: no column 'kind', as --label-column requests"):
        read(tmp_path, label_column="kind")
    write_parquet(path, [row | {"genre": "jazz", "instrument": "piano"} for row in rows])
    with pytest.raises(UserError, match=r"'genre', 'instrument' can be the classes"):
        read(tmp_path)


@pytest.mark.parametrize("settings", [{"annotations": "auto", "window": 1.0}, {"birdnet_folders": True}])
def test_annotations_need_audio_files(settings: dict[str, Any], tmp_path: Path) -> None:
    write_files(tmp_path, TRAIN)
    flag = "--annotations" if "annotations" in settings else "--birdnet-folders"
    for data in (tmp_path, tmp_path / TRAIN):
        with pytest.raises(
            UserError, match=rf"inside Parquet files, but {flag} needs a folder of audio files"
        ):
            read(data, **settings)


def write_bytes_column(path: Path, contents: list[bytes | None]) -> Path:
    return write_parquet(path, [{"sound": value, "label": "a"} for value in contents], {})


def test_column_of_plain_bytes_is_looked_at(tmp_path: Path) -> None:
    write_bytes_column(tmp_path / "a/x.parquet", [None, clip(0)])
    assert ids(read(tmp_path / "a")) == ["x.parquet#000000", "x.parquet#000001"]
    write_bytes_column(tmp_path / "b/x.parquet", [b"\x89PNG\r\n\x1a\n0123456789"])
    write_bytes_column(tmp_path / "c/x.parquet", [None, None])
    for folder in ("b", "c"):
        with pytest.raises(UserError, match=r"no audio files found"):
            read(tmp_path / folder)


def without_bytes(*names: str) -> list[dict[str, Any]]:
    """Return rows of two classes whose audio files have paths only."""
    return [
        {"audio": {"bytes": None, "path": name}, "label": number % 2} for number, name in enumerate(names)
    ]


@pytest.mark.parametrize("features", [None, {}])
@pytest.mark.parametrize("write_statistics", [True, False])
def test_files_at_paths_are_read_where_bytes_are_missing(
    features: dict[str, Any] | None, write_statistics: bool, tmp_path: Path
) -> None:
    rows = without_bytes("sounds/0.wav", "sounds/1.wav", "sounds/2.wav")
    options = {"features": features, "write_statistics": write_statistics, "row_group_size": 2}
    table = write_parquet(tmp_path / "train.parquet", rows, **options)
    (tmp_path / "sounds").mkdir()
    for number in (0, 1):
        (tmp_path / f"sounds/{number}.wav").write_bytes(clip(number))
    manifest = read(table)
    paths = [f"{tmp_path}/sounds/{number}.wav" for number in range(3)]
    assert ids(manifest) == ["sounds/0.wav", "sounds/1.wav", "sounds/2.wav"]
    assert manifest.clips["path"].tolist() == read_unlabeled(table).clips["path"].tolist() == paths
    names = ["dog", "rain", "dog"] if features is None else ["0", "1", "0"]
    assert manifest.clips["label"].tolist() == names
    assert manifest.warnings[0] == f"1 of 3 listed files do not exist, e.g. '{paths[2]}'"


@pytest.mark.parametrize("features", [None, {}])
def test_missing_bytes_are_named(features: dict[str, Any] | None, tmp_path: Path) -> None:
    table = write_parquet(
        tmp_path / "set/train.parquet", without_bytes("a.wav", "/x/b.wav"), features=features
    )
    message = (
        r"train.parquet \(column 'audio' has paths of files, but not their bytes\): none of the 2 listed"
    )
    for reader in (read, read_unlabeled):
        with pytest.raises(UserError, match=message):
            reader(table)
        with pytest.raises(
            UserError, match=r"paths of audio files, but not their bytes, .* pass --.*train.parq"
        ):
            reader(tmp_path / "set")


def test_rows_without_bytes_next_to_others_are_rejected_later(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", labeled_rows(2))
    write_parquet(tmp_path / "b.parquet", without_bytes("x.wav", "y.wav"))
    write_parquet(tmp_path / "c.parquet", [*labeled_rows(1), *without_bytes("z.wav")])
    names = ["a.parquet#000000/0.wav", "a.parquet#000001/1.wav", "b.parquet#000000/x.wav"]
    names += ["b.parquet#000001/y.wav", "c.parquet#000000/0.wav", "c.parquet#000001/z.wav"]
    assert ids(read(tmp_path)) == names


def test_files_without_audio_are_named(tmp_path: Path) -> None:
    write_files(tmp_path, "train-0.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "train-1.parquet")
    manifest = read(tmp_path)
    assert manifest.warnings == [
        "ignoring 1 Parquet file without a column of audio files ('train-1.parquet')"
    ]


def test_other_parquet_files_are_no_data(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, classes=2, clips=2)
    (tmp_path / "tables").mkdir()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "tables/x.parquet")
    (tmp_path / "tables/y.parquet").write_bytes(b"no Parquet")
    for folder in (shards, tmp_path / "tables"):
        with pytest.raises(UserError, match=r"no audio files found"):
            read_manifest(folder)


@pytest.mark.parametrize("reader", [read, read_unlabeled])
def test_audio_files_are_preferred(reader: Callable[[Path], Manifest], tmp_path: Path) -> None:
    write_files(write_tones(tmp_path, classes=2, clips=2), TRAIN)
    manifest = reader(tmp_path)
    assert len(manifest.clips) == 4 and not any("#" in clip_id for clip_id in ids(manifest))


def test_file_without_rows_is_one_line(tmp_path: Path) -> None:
    table = pq.read_table(write_parquet(tmp_path / "x.parquet", labeled_rows(1)))
    pq.write_table(table.slice(0, 0), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"have a column of audio files, but no rows$"):
        read(tmp_path)
