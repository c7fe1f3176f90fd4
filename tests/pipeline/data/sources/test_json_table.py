"""Tables of JSON lines: optional keys, and lists of classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.manifest import ManifestConfig, read_manifest
from pipeline.data.unlabeled import read_unlabeled
from pipeline.io.errors import UserError
from tests.pipeline.data.test_manifest import touch

MULTI_LABEL = ManifestConfig(multi_label=True)


def write(root: Path, *rows: dict[str, Any]) -> Path:
    """Write rows of the files 1.wav, 2.wav, …, which exist."""
    names = [f"{number}.wav" for number in range(1, len(rows) + 1)]
    touch(root, *names)
    lines = [json.dumps({"file_name": name} | row) for name, row in zip(names, rows, strict=True)]
    (root / "metadata.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return root


def test_keys_that_begin_in_a_later_line_count(tmp_path: Path) -> None:
    rows = ({}, {"group": "rec"}, {"group": "rec", "fold": 2}, {"group": None, "fold": None})
    root = write(tmp_path, *({"label": "dog"} | row for row in rows))
    for data in (root, root / "metadata.jsonl"):
        clips = read_manifest(data).clips[["clip_id", "fold", "group"]].values.tolist()
        none = [[name, -1, name] for name in ("1.wav", "4.wav")]
        assert clips == [none[0], ["2.wav", -1, "rec"], ["3.wav", 2, "rec"], none[1]]


def test_split_that_begins_in_a_later_line_is_not_trained_on(tmp_path: Path) -> None:
    root = write(tmp_path, {"label": "dog"}, {"label": "rain"}, {"label": "rain", "split": "test"})
    manifest = read_manifest(root)
    assert manifest.clips["clip_id"].tolist() == ["1.wav", "2.wav"]
    assert "ignoring 1 row of other splits ('test': 1)" in manifest.warnings


def test_list_of_classes_needs_multi_label(tmp_path: Path) -> None:
    root = write(tmp_path, {"label": ["dog"]}, {"label": ["rain", "dog"]}, {"label": "rain"})
    with pytest.raises(UserError) as error:
        read_manifest(root)
    assert str(error.value) == (
        f"--data {root}/metadata.jsonl, line 2: has several classes ('rain;dog'): add --multi-label, or name "
        "another column by --label-column"
    )
    labels = read_manifest(root, MULTI_LABEL).clips["label"].tolist()
    assert labels == ["dog", "dog;rain", "rain"]


@pytest.mark.parametrize("column", ["label", "tags"])
def test_texts_of_lists_are_lists(column: str, tmp_path: Path) -> None:
    """As pandas writes them into a CSV."""
    touch(tmp_path, "1.wav", "2.wav", "3.wav")
    table = tmp_path / "clips.csv"
    table.write_text(f"path,{column}\n1.wav,\"['dog', 'cat']\"\n2.wav,['rain' 'dog']\n3.wav,rain\n")
    one = ManifestConfig(label_column="tags") if column == "tags" else ManifestConfig()
    with pytest.raises(UserError, match=r"line 2: has several classes \(.*\): add --multi-label"):
        read_manifest(table, one)
    several = one.model_copy(update={"multi_label": True})
    assert read_manifest(table, several).clips["label"].tolist() == ["cat;dog", "dog;rain", "rain"]
    table.write_text(
        f"path,{column}\n1.wav,['dog']\n2.wav,('rain',)\n3.wav,rain\n".replace("('rain',)", "\"('rain',)\"")
    )
    assert read_manifest(table, one).clips["label"].tolist() == ["dog", "rain", "rain"]


def test_list_of_one_class_is_that_class(tmp_path: Path) -> None:
    root = write(tmp_path, {"label": ["dog"]}, {"label": ["rain"]}, {"label": "rain"})
    assert read_manifest(root).clips["label"].tolist() == ["dog", "rain", "rain"]
    assert read_manifest(root).class_names == ["dog", "rain"]


@pytest.mark.parametrize("name", ["test.jsonl", "test.ndjson", "test.json", "list.json", "test.parquet"])
def test_files_to_predict_may_be_in_json_and_parquet(name: str, tmp_path: Path) -> None:
    touch(tmp_path, "1.wav", "2.wav", "3.wav")
    rows = [{"id": 8, "file_name": "2.wav"}, {"id": 7, "file_name": "1.wav", "label": ["dog"]}]
    if name == "test.parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    else:
        text = json.dumps(rows) if name == "list.json" else "\n".join(map(json.dumps, rows))
        (tmp_path / name).write_text(text)
    clips = read_unlabeled(tmp_path / name).clips
    assert clips["clip_id"].tolist() == ["7", "8"]
    assert clips["path"].tolist() == [str(tmp_path / "1.wav"), str(tmp_path / "2.wav")]


ROWS = {"1.wav": "dog", "2.wav": "rain"}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    "content",
    [
        # Lists of AudioSet, also with information about the dataset.
        {"data": [{"wav": name, "label": label} for name, label in ROWS.items()]},
        {
            "info": {"year": 2020},
            "classes": ["dog"],
            "files": [{"path": n, "label": c} for n, c in ROWS.items()],
        },
        # NSynth: names of files without ending are the keys.
        {name: {"label": label, "pitch": 60} for name, label in ROWS.items()},
        {name.removesuffix(".wav"): {"label": label} for name, label in ROWS.items()},
        {f"key {name}": {"file": name, "label": label} for name, label in ROWS.items()},
        # As pandas writes tables: to_json(), and to_dict("list").
        {"file": dict(enumerate(ROWS)), "label": dict(enumerate(ROWS.values()))},
        {"file": list(ROWS), "label": list(ROWS.values())},
        [{"file": name, "label": label} for name, label in ROWS.items()],
    ],
)
def test_one_json_object_has_rows_in_several_forms(content: Any, indent: int | None, tmp_path: Path) -> None:
    touch(tmp_path, *ROWS)
    table = tmp_path / "clips.json"
    table.write_text(json.dumps(content, indent=indent) + "\n")
    clips = read_manifest(table).clips
    assert [Path(path).name for path in clips["path"]] == list(ROWS)
    assert clips["label"].tolist() == list(ROWS.values())
    assert [Path(path).name for path in read_unlabeled(table).clips["path"]] == list(ROWS)


@pytest.mark.parametrize("indent", [None, 1])
def test_one_json_object_may_be_one_row(indent: int | None, tmp_path: Path) -> None:
    touch(tmp_path, "1.wav")
    (tmp_path / "clips.json").write_text(json.dumps({"file": "1.wav", "label": ["dog"]}, indent=indent))
    assert read_manifest(tmp_path / "clips.json").clips["label"].tolist() == ["dog"]


def test_broken_json_lines_are_named(tmp_path: Path) -> None:
    root = write(tmp_path, {"label": "dog"}, {"label": "rain"})
    table = root / "metadata.jsonl"
    for text, line in (
        (table.read_text() + '{"file_name": ', 3),
        ('{"file_name": \n' + table.read_text(), 1),
    ):
        table.write_text(text)
        with pytest.raises(UserError, match=rf"metadata.jsonl, line {line}: not JSON"):
            read_manifest(table)


@pytest.mark.parametrize("texts", [["dog", "rain"], ["['dog']", "('rain',)"], ["0", "1"]])
@pytest.mark.parametrize("label_column", [None, "labels"])
def test_column_labels_may_have_one_class_in_each_row(
    label_column: str | None, texts: list[str], tmp_path: Path
) -> None:
    config, names = ManifestConfig(label_column=label_column), ["0", "1"] if "0" in texts else ["dog", "rain"]
    root = write(tmp_path, *({"labels": text} for text in texts))
    assert read_manifest(root, config).clips["label"].tolist() == names
    root = write(tmp_path, *({"labels": [text.strip("[](),'")]} for text in texts))
    assert read_manifest(root, config).clips["label"].tolist() == names
    for text, message in (("dog;rain", "line 2 has 'dog;rain'"), ("['dog'", "line 2: .* is not a list")):
        root = write(tmp_path, {"labels": "dog"}, {"labels": text})
        with pytest.raises(UserError, match=message):
            read_manifest(root, config)


def test_class_with_a_comma_in_a_list_is_one(tmp_path: Path) -> None:
    """As in AudioSet, whatever the number of classes in the list; a text is divided at its commas."""
    speech = "Child speech, kid speaking"
    rows = [{"labels": [speech]}, {"labels": [speech, "Dog"]}, {"labels": []}, {"labels": "Dog,Cat"}]
    root = write(tmp_path, *rows)
    labels = [speech, f"{speech};Dog", "", "Cat;Dog"]
    assert read_manifest(root, MULTI_LABEL).clips["label"].tolist() == labels
    table = pa.table(
        {"file_name": ["1.wav", "2.wav", "3.wav"], "labels": [row["labels"] for row in rows[:3]]}
    )
    pq.write_table(table, tmp_path / "clips.parquet")
    assert read_manifest(tmp_path / "clips.parquet", MULTI_LABEL).clips["label"].tolist() == labels[:3]
    root = write(tmp_path, {"label": "Cat", "secondary_labels": [speech]}, {"label": [speech]})
    assert read_manifest(root, MULTI_LABEL).clips["label"].tolist() == [f"Cat;{speech}", speech]
    root = write(tmp_path, {"label": [speech]}, {"label": "Dog"})
    assert read_manifest(root).clips["label"].tolist() == [speech, "Dog"]


def test_list_of_classes_of_another_split_does_not_matter(tmp_path: Path) -> None:
    labels = {"dog": "train", "rain": "train"}
    rows = [{"label": label, "split": split} for label, split in labels.items()]
    root = write(tmp_path, *rows, {"label": ["dog", "rain"], "split": "test"})
    assert read_manifest(root).clips["label"].tolist() == ["dog", "rain"]


def test_list_of_classes_in_parquet_metadata_needs_multi_label(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav", "2.wav")
    table = pa.table({"file_name": ["1.wav", "2.wav"], "label": [["dog"], ["rain", "dog"]]})
    pq.write_table(table, tmp_path / "metadata.parquet")
    with pytest.raises(UserError, match=r"metadata.parquet, line 2: has several classes \('rain;dog'\): add"):
        read_manifest(tmp_path)
    assert read_manifest(tmp_path, MULTI_LABEL).clips["label"].tolist() == ["dog", "dog;rain"]


REGIONS = [{"start": 0.1, "end": 0.4, "channel": 0, "labels": ["dog"]}]


@pytest.mark.parametrize("config", [ManifestConfig(), MULTI_LABEL, ManifestConfig(window=0.1)])
@pytest.mark.parametrize("value", [REGIONS, REGIONS[0], json.dumps(REGIONS)])
def test_objects_are_no_classes(value: Any, config: ManifestConfig, tmp_path: Path) -> None:
    """Label Studio exports all annotated regions of a file into one value."""
    root = write(tmp_path, {"label": "rain"}, {"label": value})
    with pytest.raises(UserError, match=r"line 2: .* is a JSON object, not the name of a class: write a row"):
        read_manifest(root)
    with pytest.raises(UserError, match=r"columns path,start,end,label$"):
        read_manifest(root / "metadata.jsonl", config)


def test_answers_of_label_studio_are_a_list(tmp_path: Path) -> None:
    root = write(tmp_path, {"label": {"choices": ["rain", "dog"]}}, {"label": "rain"})
    assert read_manifest(root, MULTI_LABEL).clips["label"].tolist() == ["dog;rain", "rain"]
    with pytest.raises(UserError, match=r"line 1: has several classes .*: add --multi-label"):
        read_manifest(root)


def test_numbers_of_instruments_are_no_classes_next_to_their_texts(tmp_path: Path) -> None:
    """NSynth numbers 1,006 instruments of eleven families."""
    note = {"instrument": 656, "instrument_str": "bass_synthetic_068", "instrument_family_str": "bass"}
    root = write(tmp_path, note, note | {"instrument_family_str": "flute"})
    with pytest.raises(UserError) as error:
        read_manifest(root / "metadata.jsonl")
    assert str(error.value) == (
        f"--data {root}/metadata.jsonl: 'instrument', 'instrument_str', 'instrument_family_str' "
        "can be the classes; name the column by --label-column"
    )
    config = ManifestConfig(label_column="instrument_family_str")
    assert read_manifest(root, config).clips["label"].tolist() == ["bass", "flute"]
