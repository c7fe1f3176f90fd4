"""Tables with a column of 0 and 1 for each class or split: which are read, and what is asked for else."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.manifest import Manifest, ManifestConfig, read_manifest
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from tests.pipeline.data.test_manifest import labels, touch


def read(root: Path, text: str, **settings: Any) -> Manifest:
    """Read a table of the files 1.wav … 4.wav, which exist."""
    touch(root, "1.wav", "2.wav", "3.wav", "4.wav")
    (root / "clips.csv").write_text(text)
    return read_manifest(root / "clips.csv", ManifestConfig(**settings))


@pytest.mark.parametrize(
    "header",
    [
        "file,{}",
        "Unnamed: 0,filename,{}",
        ",file,{}",
        "fold,path,{}",
        "index,file,group,{}",
        "id,split,file,{}",
    ],
)
@pytest.mark.parametrize(("one", "zero"), [("1", "0"), ("True", "False"), ("1.0", "0.0")])
def test_column_that_is_1_is_the_class(
    header: str, one: str, zero: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    columns = header.format("dog,rain").split(",")
    values = {"fold": "1", "split": "train", "group": "", "dog": zero, "rain": zero}
    rows = [
        values | {"file": "1.wav", "rain": one},
        values | {"file": "2.wav", "dog": one},
        values | {"file": "3.wav", "rain": one},
    ]
    path = next(name for name in ("path", "filename", "file") if name in columns)
    lines = [
        ",".join(row["file"] if name == path else row.get(name, str(number)) for name in columns)
        for number, row in enumerate(rows)
    ]
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, "melray"):
        manifest = read(tmp_path, "\n".join([",".join(columns), *lines, ""]))
    logger.removeHandler(caplog.handler)
    assert labels(manifest) == {"1.wav": "rain", "2.wav": "dog", "3.wav": "rain"}
    assert not manifest.multi_label
    assert f"columns {path} as path, 2 columns of 0 and 1: dog, rain as label" in caplog.text


@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
def test_columns_of_classes_are_read_in_other_tables(form: str, tmp_path: Path):
    touch(tmp_path, "1.wav", "2.wav")
    rows = [
        {"file_name": "1.wav", "dog": True, "rain": False},
        {"file_name": "2.wav", "dog": False, "rain": True},
    ]
    table = tmp_path / f"metadata.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), table)
    else:
        table.write_text(json.dumps(rows) if form == "json" else "\n".join(map(json.dumps, rows)))
    assert labels(read_manifest(table)) == {"1.wav": "dog", "2.wav": "rain"}
    if form != "json":
        assert labels(read_manifest(tmp_path)) == {"1.wav": "dog", "2.wav": "rain"}


MULTI = "file,dog,rain,cat\n1.wav,1,1,0\n2.wav,0,1,0\n3.wav,0,0,0\n"


def test_rows_with_several_classes_and_none_need_multi_label(tmp_path: Path):
    manifest = read(tmp_path, MULTI, multi_label=True)
    assert labels(manifest) == {"1.wav": "dog;rain", "2.wav": "rain", "3.wav": ""} and manifest.multi_label
    with pytest.raises(UserError, match=r"line 2: has several classes \('dog;rain'\): add --multi-label"):
        read(tmp_path, MULTI)
    with pytest.raises(UserError, match="line 4: label is empty: add --multi-label"):
        read(tmp_path, MULTI.replace("1.wav,1,1", "1.wav,1,0"))
    # Several rows of a file: its classes are those of all of them.
    assert labels(read(tmp_path, MULTI + "2.wav,0,0,1\n", multi_label=True))["2.wav"] == "cat;rain"


WINDOWS = "file,start_time,end_time,A,B\n1.wav,0,3,0,0\n1.wav,3,6,1,0\n2.wav,0,3,1,1\n3.wav,0,3,0,0\n"


def test_windows_without_a_class_are_no_events(tmp_path: Path):
    manifest = read(tmp_path, WINDOWS, window=3.0)
    assert manifest.events == {"1.wav": [(3.0, 6.0, "A")], "2.wav": [(0.0, 3.0, "A;B")], "3.wav": []}
    with pytest.raises(UserError, match="line 2: label is empty: add --window SECONDS to read rows with tim"):
        read(tmp_path, WINDOWS)
    with pytest.raises(UserError, match=r"line 2: has several classes \('A;B'\): add --window SECONDS"):
        read(tmp_path, WINDOWS.replace("3,0,0\n", "3,1,1\n", 1))


def test_annotation_file_of_a_recording_has_columns_of_classes(tmp_path: Path):
    touch(tmp_path, "1.wav", "2.wav")
    header = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tA\tB\n"
    (tmp_path / "1.txt").write_text(f"{header}1\tS\t1\t0\t3\t1\t1\n2\tS\t1\t3\t6\t0\t0\n")
    (tmp_path / "2.csv").write_text("start_time,end_time,A,B\n0,3,0,0\n")
    manifest = read_manifest(tmp_path, ManifestConfig(annotations="auto", window=3.0))
    assert manifest.events == {"1.wav": [(0.0, 3.0, "A;B")], "2.wav": []}


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        # Text, a number, flags that say something else: they are named, with what to write.
        (
            "dog,rain,notes",
            ["1,0,x", "0,1,"],
            "remove 'notes', which seems to be none, or name all that are:",
        ),
        ("dog,rain,rank", ["1,0,3", "0,1,1"], "or name all that are: --label-column dog,rain; if another"),
        ("dog,rain,validated", ["1,0,1", "0,1,1"], "remove 'validated', which seems to be none, or name all"),
        (
            "dog,is_clean,rain",
            ["1,0,0", "0,1,1"],
            "remove 'is_clean', which seems .* --label-column dog,rain;",
        ),
        ("a,b,c,d,notes", ["1,0,0,0,x", "0,0,0,1,x"], "--label-column a,b,c,…"),
        # Unknown is not absent.
        ("dog,rain", ["1,0", "0,"], "write 0 or 1 in each row, also in column 'rain' of line 3; if another"),
        # A single column; no such columns.
        ("dog", ["1", "0"], "the first line must be"),
        ("dog,rain", ["1,x", "0,2"], "the first line must be"),
    ],
)
def test_columns_that_may_be_no_classes_are_asked_for(
    columns: str, rows: list[str], message: str, tmp_path: Path
):
    text = "".join(f"{number}.wav,{row}\n" for number, row in enumerate(rows, start=1))
    with pytest.raises(UserError, match=f"no column 'label'; .*{message}"):
        read(tmp_path, f"file,{columns}\n{text}")


def test_columns_of_classes_can_be_named(tmp_path: Path):
    text = "file,label,dog,rain,validated\n1.wav,x,1,0,1\n2.wav,x,0,1,0\n"
    assert labels(read(tmp_path, text, label_column="dog, Rain")) == {"1.wav": "dog", "2.wav": "rain"}
    # A column of classes comes first, whatever else is 0 and 1; and a name with a comma is that of one.
    assert labels(read(tmp_path, text)) == {"1.wav": "x", "2.wav": "x"}
    named = text.replace("label", '"dog,rain"')
    assert labels(read(tmp_path, named, label_column="dog,rain")) == {"1.wav": "x", "2.wav": "x"}
    with pytest.raises(UserError, match="line 3: column 'rain' has '2', but those of classes need 0 or 1"):
        read(tmp_path, text.replace("0,1,0\n", "0,2,0\n"), label_column="dog,rain")
    with pytest.raises(UserError, match="no column 'dog,cat', as --label-column requests"):
        read(tmp_path, text, label_column="dog,cat")


def test_single_column_of_0_and_1_has_a_warning(tmp_path: Path):
    text = "file,target,dog,rain\n1.wav,1,1,0\n2.wav,0,0,1\n"
    manifest = read(tmp_path, text, label_column="dog")
    assert labels(manifest) == {"1.wav": "1", "2.wav": "0"}
    assert "name all such columns, as in --label-column dog,OTHER" in manifest.warnings[0]
    # A class that is there or not.
    assert not any("OTHER" in warning for warning in read(tmp_path, text, label_column="target").warnings)


def test_held_out_rows_need_no_classes(tmp_path: Path):
    text = "file,dog,rain,split\n1.wav,1,0,train\n2.wav,,,test\n3.wav,0,1,train\n"
    assert labels(read(tmp_path, text)) == {"1.wav": "dog", "3.wav": "rain"}


@pytest.mark.parametrize("window", [None, 1.0])
@pytest.mark.parametrize("columns", ["dog,rain", "label"])
@pytest.mark.parametrize("splits", ["train,val,test", "is_train,is_valid,is_test", "Training,dev,eval"])
def test_split_is_the_column_that_is_1(columns: str, splits: str, window: float | None, tmp_path: Path):
    classes = ("1,0", "0,1") if columns == "dog,rain" else ("dog", "rain")
    rows = zip((1, 2, 3, 4), (*classes, *classes), ("1,0,0", "0,1,0", "0,0,1", "1,0,0"), strict=True)
    text = "".join(f"{number}.wav,{label},{split}\n" for number, label, split in rows)
    manifest = read(tmp_path, f"file,{columns},{splits}\n{text}", window=window)
    assert labels(manifest) == {"1.wav": "dog", "4.wav": "rain"}
    _, validation, test = splits.split(",")
    first, second = sorted((validation, test))
    assert manifest.warnings[0] == f"ignoring 2 rows of other splits ('{first}': 1, '{second}': 1)"


@pytest.mark.parametrize("column", ["train", "dev", "valid"])
def test_column_that_may_be_a_split_or_a_class_is_asked_for(column: str, tmp_path: Path):
    text = f"file,bus,car,{column}\n1.wav,1,0,0\n2.wav,0,0,1\n"
    message = f"remove '{column}', which seems to be none, or name all that are: --label-column bus,car;"
    for multi_label in (False, True):
        with pytest.raises(UserError, match=message):
            read(tmp_path, text, multi_label=multi_label)
    named = read(tmp_path, text, label_column=f"bus,car,{column}")
    assert labels(named) == {"1.wav": "bus", "2.wav": column}


def test_column_of_0_and_1_is_a_class_whatever_its_name(tmp_path: Path):
    """`instrument` has the classes in other tables, and may be one class among others."""
    text = "path,speech,instrument,genre\n1.wav,1,0,0\n2.wav,0,1,0\n3.wav,0,0,1\n"
    assert labels(read(tmp_path, text)) == {"1.wav": "speech", "2.wav": "instrument", "3.wav": "genre"}


def test_column_of_classes_is_read_next_to_columns_of_0_and_1(tmp_path: Path):
    text = "path,emotion,loud,indoors\n1.wav,joy,0,1\n2.wav,fear,1,0\n3.wav,joy,1,1\n"
    assert labels(read(tmp_path, text)) == {"1.wav": "joy", "2.wav": "fear", "3.wav": "joy"}


def test_empty_columns_are_no_classes(tmp_path: Path):
    """Common Voice has empty columns, and votes that may all be 0 or 1."""
    text = "path,sentence,down_votes,variant,segment\n1.wav,One,0,,\n2.wav,Two,1,,\n"
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert "if columns of 0 and 1" not in str(error.value)
    assert "no column 'label'; the first line must be path,label[,fold][,group]" in str(error.value)
