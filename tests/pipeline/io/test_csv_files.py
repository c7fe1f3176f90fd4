"""CSV and text files: separators, encodings, and line numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.io.csv_files import open_csv, open_text
from pipeline.io.errors import UserError


def read(path: Path, content: bytes) -> tuple[list[str], list[tuple[int, list[str]]]]:
    path.write_bytes(content)
    with open_csv(path, "--data") as table:
        return table.header, list(table.rows())


@pytest.mark.parametrize("separator", [b",", b";", b"\t", b"|"])
def test_separator_is_recognized(separator: bytes, tmp_path: Path):
    header, rows = read(tmp_path / "x.csv", b" a ,'b\n1,2\n".replace(b",", separator))
    assert (header, rows) == (["a", "'b"], [(2, ["1", "2"])])


def test_line_numbers_count_blank_and_quoted_lines(tmp_path: Path):
    _, rows = read(tmp_path / "x.csv", b'\n\na,b\n\n1,"x\ny"\n,\n\n2,z\n')
    assert rows == [(5, ["1", "x\ny"]), (9, ["2", "z"])]


AUDIO_SET = """# Segments csv created Sun Mar  5 10:54:25 2017
# num_ytids=20371, num_segs=20371, num_unique_labels=527, num_positive_labels=51804
# YTID, start_seconds, end_seconds, positive_labels
--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/07q6cd_"
"""


@pytest.mark.parametrize(
    ("text", "header", "rows"),
    [
        (
            AUDIO_SET,
            ["YTID", "start_seconds", "end_seconds", "positive_labels"],
            [(4, ["--4gqARaEJE", "0.000", "10.000", "/m/068hy,/m/07q6cd_"])],
        ),
        ("# by Ann, Bob and Eve\na,b\n1,2\n", ["a", "b"], [(3, ["1", "2"])]),
        ("# see a, b\na,b\n1,2\n", ["a", "b"], [(3, ["1", "2"])]),
        ("# version,2\n\nfile.name,b\nx.wav,2\n", ["file.name", "b"], [(4, ["x.wav", "2"])]),
        ("# made,,\npath,label,fold\n", ["path", "label", "fold"], []),
        ("# of birds,path\n\n1,x.wav,\n", ["of birds", "path"], [(3, ["1", "x.wav", ""])]),
        ("# path,note\nx.wav,'two\nlines'\n", ["path", "note"], [(2, ["x.wav", "two\nlines"])]),
        ("# id\nx\n", ["id"], [(2, ["x"])]),
        ("# a,b\n", ["a", "b"], []),
        ("#a,b\n1,2\n", ["#a", "b"], [(2, ["1", "2"])]),
        ("#,a\n1,2\n#3,4\n", ["#", "a"], [(2, ["1", "2"]), (3, ["#3", "4"])]),
        ("#1.wav,dog\n#2.wav,cat\n", ["#1.wav", "dog"], [(2, ["#2.wav", "cat"])]),
    ],
)
def test_comments_come_before_the_header_or_are_it(
    text: str, header: list[str], rows: list[tuple[int, list[str]]], tmp_path: Path
):
    assert read(tmp_path / "x.csv", text.replace("'", '"').encode()) == (header, rows)


def test_row_wider_than_header_raises(tmp_path: Path):
    assert read(tmp_path / "x.csv", b"a,b\n1,2,,\n")[1] == [(2, ["1", "2", "", ""])]
    with pytest.raises(UserError, match=r"--data .*x.csv, line 2: 3 values in 2 columns"):
        read(tmp_path / "x.csv", b"a,b\n1,2,3\n")


@pytest.mark.parametrize("row", [b'"x" y,2', b'"x,2'])
def test_unusable_quotes_name_the_line(row: bytes, tmp_path: Path):
    with pytest.raises(UserError, match=r"--data .*x.csv, line 3: not a CSV .*; a value with quotes is"):
        read(tmp_path / "x.csv", b"a,b\n1,2\n" + row + b"\n3,4\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_encodings_are_read(encoding: str, tmp_path: Path):
    (tmp_path / "x.txt").write_text("grün\nblau\n", encoding)
    with open_text(tmp_path / "x.txt", "--audio") as file:
        assert [line.rstrip() for line in file] == ["grün", "blau"]


def test_invalid_text_late_in_file_raises(tmp_path: Path):
    with pytest.raises(UserError, match="not UTF-8 text"):
        read(tmp_path / "x.csv", b"a,b\n" + b"1,2\n" * 50_000 + b"\xff,2\n")


def test_empty_file_has_no_header(tmp_path: Path):
    assert read(tmp_path / "x.csv", b"") == ([], [])
