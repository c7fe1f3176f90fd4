"""Rows of a CSV: quotes as the csv module writes and reads them, and after blanks."""

from __future__ import annotations

import csv
import io

import pytest

from pipeline.io.quoted_rows import QuotedRows


def read(text: str, separator: str = ",") -> list[list[str]]:
    return list(QuotedRows(iter(io.StringIO(text, newline="")), separator))


@pytest.mark.parametrize("separator", [",", ";", "|"])
def test_values_in_quotes_may_follow_blanks(separator: str) -> None:
    text = '--4gq, 0.000, "/m/068hy, /m/07q6cd_"\n a.wav,b,  "x ""y"""\n "c",d,"e, f"\n'
    rows = [["--4gq", "0.000", "/m/068hy, /m/07q6cd_"], ["a.wav", "b", 'x "y"'], ["c", "d", "e, f"]]
    in_form = [[value.replace(",", separator) for value in row] for row in rows]
    assert read(text.replace(",", separator), separator) == in_form


def test_rows_of_the_csv_module_are_read_as_they_were_written() -> None:
    rows = [
        [' "a"', 'say, "hi"', "x"],
        [" lead.wav", "b ", 'six "inches'],
        ["x\n, y", '"', ""],
        ["", "a,b", " "],
    ]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    assert read(text.getvalue()) == rows


def test_lines_are_counted_and_quotes_over_lines_read() -> None:
    rows = QuotedRows(iter(["a,b\n", 'x, "y\n', 'z"\n', '"1\n', '2",3\n']), ",")
    assert [(values, rows.line_num) for values in rows] == [
        (["a", "b"], 1),
        (["x", "y\nz"], 3),
        (["1\n2", "3"], 5),
    ]


@pytest.mark.parametrize("text", ['a, "b\n', 'a, "b" c\n', 'a,"b\n'])
def test_quote_that_is_not_closed_or_followed_by_text_raises(text: str) -> None:
    with pytest.raises(csv.Error):
        read(text)
