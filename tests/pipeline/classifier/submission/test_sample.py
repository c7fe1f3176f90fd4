"""Sample submissions are read as they are found in competitions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.classifier.submission import sample as module
from pipeline.classifier.submission.clip_ids import ClipIndex
from pipeline.classifier.submission.sample import SampleSubmission, read_sample, split_columns
from pipeline.io.errors import UserError

CLIPS = ClipIndex(["0.wav", "1.wav", "2.wav", "id.wav"])


def read(folder: Path, content: str | bytes) -> SampleSubmission:
    path = folder / "sample.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_sample(path)


def test_sample_is_read_as_text(tmp_path: Path):
    sample = read(tmp_path, "\ufeffid,label\n007,NA\nnull,\n日本.wav,1.0\n")
    assert sample.table.to_dict("list") == {"id": ["007", "null", "日本.wav"], "label": ["NA", "", "1.0"]}


@pytest.mark.parametrize(
    ("content", "separator"),
    [
        ("id;label\r\n1;x\r\n\r\n2;x\r\n;;\r\n", ";"),
        ("id\tlabel\n1\tx\n2\tx\n", "\t"),
        ("id,label,\n1,x,\n,,\n2,x,\n", ","),
        ("id, label\n1,x\n2,x", ","),
        ("id,label\n1,x\n2,x\n".encode("utf-16"), ","),
    ],
    ids=["semicolons", "tabs", "trailing commas", "blank in header", "UTF-16"],
)
def test_other_csv_dialects_give_same_table(content: str | bytes, separator: str, tmp_path: Path):
    sample = read(tmp_path, content)
    assert [text.strip() for text in sample.table.columns] == ["id", "label"]
    assert sample.table["id"].tolist() == ["1", "2"] and set(sample.table["label"]) == {"x"}
    assert sample.separator == separator


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"expected at least two columns, such as id,label; got none"),
        (b"id\n1\n", r"expected at least two columns, such as id,label; got id"),
        (b"id,label\n\xff\xfe,1\n", "not UTF-8 text"),
        (b'id,label\n"1,2\n', "not a CSV"),
        (b"id,label\n1,dog,rain\n", "line 2: 3 values in 2 columns"),
        (b"id,a,a\n1,0,0\n", "two columns are named 'a'"),
        (b"PK\x03\x04 ...", "an Excel workbook"),
    ],
)
def test_invalid_sample_raises(content: bytes, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)


def test_missing_sample_raises(tmp_path: Path):
    with pytest.raises(UserError, match="no such file"):
        read_sample(tmp_path / "sample.csv")


@pytest.mark.parametrize(
    ("content", "id_column", "columns"),
    [
        ("id,label\n1,?\n2,?\n", "id", ["label"]),
        ("label,id\n?,1.wav\n?,2.wav\n", "id", ["label"]),
        # All columns may match files: most different ones, then the first column.
        ("label,id\n0,1.wav\n0,2.wav\n", "id", ["label"]),
        ("id,label\n1,0\n2,0\n", "id", ["label"]),
        ("id,a,b\n1,0,0\n", "id", ["a", "b"]),
        # A column that numbers the rows is kept as it is, unless it must be that of the ids.
        (",id,label\n0,1,?\n1,2,?\n", "id", ["label"]),
        ("index,file,label\n1,2.wav,?\n2,1.wav,?\n", "file", ["label"]),
        ("index,label\n0,?\n1,?\n", "index", ["label"]),
        ("index,dog,rain\n0,0,0\n1,0,0\n2,0,0\n", "index", ["dog", "rain"]),
        # No id matches, but a placeholder is the name of a file.
        ("id,label\nx,?\n", "id", ["label"]),
        ("clip,probability\nx,0\ny,0\n", "clip", ["probability"]),
        ("id,dog,rain\nx,0,0\ny,0,0\n", "id", ["dog", "rain"]),
        ("id,label\nx,0\ny,1\n", "id", ["label"]),
        ("Target,id\n0,1\n1,0\n", "id", ["Target"]),
    ],
)
def test_column_of_ids_is_recognized(content: str, id_column: str, columns: list[str], tmp_path: Path):
    assert split_columns(read(tmp_path, content), CLIPS) == (id_column, columns)


def test_sample_without_header_raises(tmp_path: Path):
    with pytest.raises(UserError, match=r"'1.wav' in the first line is an audio file"):
        split_columns(read(tmp_path, "1.wav,dog\n2.wav,dog\n"), CLIPS)


def test_placeholders_of_many_columns_are_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thousands of columns of zeros only names are needed; ids and row numbers are complete."""
    monkeypatch.setattr(module, "CHECKED_ROWS", 4)
    names = [f"class {i}" for i in range(200)]
    ids = [f"{i}.wav" for i in range(10)]
    path = tmp_path / "sample.csv"
    rows = [f"{i},{','.join(['0.0'] * 100)},{name},{','.join(['0.0'] * 100)}" for i, name in enumerate(ids)]
    path.write_text("\n".join([",".join(["", *names[:100], "id", *names[100:]]), *rows]))
    sample = read_sample(path)
    assert sample.names == ("", *names[:100], "id", *names[100:])
    assert sample.table["id"].tolist() == ids and sample.table[""].tolist() == list("0123456789")
    assert len(sample.table.columns) < 5
    assert split_columns(sample, ClipIndex(ids)) == ("id", names)
    assert sample.values(names).columns.tolist() == names
