"""Tables without a header."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.annotations.annotation import Annotation
from pipeline.data.manifest import ManifestConfig, read_manifest
from pipeline.data.sources.missing_header import missing_header
from pipeline.data.unlabeled import read_unlabeled
from pipeline.io.errors import UserError
from tests.pipeline.data.test_manifest import labels, touch

ROWS = {"audio/1.wav": "cat", "audio/2.wav": "dog", "audio/3.wav": "cat", "audio/4.wav": "dog"}


def write_table(path: Path, separator: str = ",", end: str = "", swap: bool = False) -> Path:
    touch(path.parent, *ROWS)
    rows = [(label, name) if swap else (name, label) for name, label in ROWS.items()]
    path.write_text("".join(f"{separator.join(row)}{end}\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["list.csv", "list.txt", "list.tsv"])
@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("swap", [False, True])
def test_first_line_is_a_clip(name: str, separator: str, swap: bool, tmp_path: Path):
    table = write_table(tmp_path / name, separator, swap=swap)
    found = read_manifest(table)
    assert labels(found) == ROWS
    columns = "label,path" if swap else "path,label"
    assert found.warnings == [
        f"--data {table}: has no header, and is read as {columns}; write a header to change that"
    ]


def test_text_after_the_class_is_not_used(tmp_path: Path):
    """As in `meta.txt` of DCASE, in which it is the recording of a clip."""
    table = write_table(tmp_path / "meta.txt", "\t", "\tb020")
    found = read_manifest(table)
    assert labels(found) == ROWS
    assert found.warnings == [
        f"--data {table}: has no header, and is read as path,label,column 3; not used: column 3 ('b020', …); "
        "write a header to change that"
    ]


def test_table_in_a_folder_of_audio_is_found(tmp_path: Path):
    write_table(tmp_path / "meta.csv")
    assert labels(read_manifest(tmp_path)) == ROWS


def test_times_are_those_of_events(tmp_path: Path):
    touch(tmp_path, "a.wav")
    (tmp_path / "events.csv").write_text("a.wav,0.5,2.5,dog\na.wav,3,4,cat\n")
    found = read_manifest(tmp_path / "events.csv", ManifestConfig(window=1.0))
    assert found.events is not None
    assert list(found.events["a.wav"]) == [Annotation(0.5, 2.5, "dog"), Annotation(3.0, 4.0, "cat")]


@pytest.mark.parametrize(
    ("row", "header"),
    [
        ("a.wav,dog", "path,label"),
        ("a.wav,7", "path,label"),
        ("dog,sounds/a.flac", "label,path"),
        ("a.wav,0,1.5,dog", "path,start,end,label"),
        ("dog,0,1.5,a.wav", "label,start,end,path"),
        ("path,label", None),
        ("a.wav", None),
        ("a.wav,b.wav", None),
        ("a.wav,3,dog", None),
        ("a.wav,dog,1", None),
        ("a.wav,0,dog,1.5", None),
        ("a.wav,dog,cat,b020", None),
        ("clip.name,dog", None),
        ("", None),
    ],
)
def test_only_clear_columns_are_named(row: str, header: str | None):
    assert missing_header(row.split(",")) == (None if header is None else header.split(","))


def test_unclear_columns_are_an_error(tmp_path: Path):
    touch(tmp_path, "a.wav")
    (tmp_path / "list.csv").write_text("a.wav,3,dog\n")
    message = r"list\.csv: no column 'path'; the first line must be path,label.*, not 'a\.wav,3,dog'"
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path / "list.csv")


def test_such_tables_are_predicted_too(tmp_path: Path):
    table = write_table(tmp_path / "list.csv")
    assert read_unlabeled(table).clips["clip_id"].tolist() == list(ROWS)
