"""Rows of tab-separated text: quotes as characters, and as in a CSV."""

from __future__ import annotations

import csv
import io

import pytest

from pipeline.io.tab_rows import TabRows

HEADER = "path\tsentence\tlabel\n"


def read(text: str) -> list[list[str]]:
    return list(TabRows(iter(io.StringIO(HEADER + text, newline=""))))[1:]


@pytest.mark.parametrize("sentence", ['"Hello" he said.', '"Hello', 'Hello"', '"a," he said, "b"', '"', '6"'])
def test_quotes_of_a_complete_line_are_characters(sentence: str) -> None:
    rows = [["a.wav", sentence, "x"], ["b.wav", 'ok"', "y"], ["c.wav", "ok", sentence]]
    for end in ("\n", "\r\n"):
        assert read(end.join(map("\t".join, rows)) + end) == rows


def test_rows_of_the_csv_module_are_read_as_they_were_written() -> None:
    rows = [
        ["a b", 'the "big" one', "x"],
        ["a\tb", '"', "line\nof\n\tthree"],
        ["", '"Hello" he said.', '"x\ny"'],
        ["a", "b", "c"],
    ]
    file = io.StringIO(newline="")
    csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)
    assert read(file.getvalue()) == rows


def test_lines_are_counted() -> None:
    reader = TabRows(iter([HEADER, 'a\t"b\n', 'c"\td\n', '"e"\t"f\tg\n', "h\ti\tj"]))
    assert [(row, reader.line_num) for row in reader] == [
        (["path", "sentence", "label"], 1),
        (["a", "b\nc", "d"], 3),
        (["e", '"f', "g"], 4),
        (["h", "i", "j"], 5),
    ]


def test_quote_that_is_not_closed_raises() -> None:
    with pytest.raises(csv.Error):
        read('a\t"b\n')
