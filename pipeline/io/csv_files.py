"""CSV and text files as people have them: any separator, UTF-8 or UTF-16; errors name the line."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.quoted_rows import QuotedRows
from pipeline.io.read_once import open_binary
from pipeline.io.tab_rows import TabRows, unquoted

_SEPARATORS = ",;\t|"
# A number, or the name of an audio file.
_CONTENT = re.compile(r"[+-]?\d+([.,]\d*)?|.*\.(wav|flac|mp3|ogg|opus|m4a|aac|aiff?)", re.IGNORECASE)
_BINARY = {
    b"PK\x03\x04": "an Excel workbook or a ZIP archive; save the sheet as CSV, or unpack the archive",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save the sheet as CSV",
    b"\x1f\x8b": "compressed; unpack it",
    b"BZh": "compressed; unpack it",
    b"7z\xbc\xaf": "an archive; unpack it",
    b"Rar!": "an archive; unpack it",
    b"PAR1": "a Parquet file; write it as CSV",
}


@dataclass
class CsvFile:
    """An open CSV file."""

    name: str
    """Flag and path, for error messages."""
    header: list[str]
    """Values of the first row, without surrounding blanks."""
    header_line: int
    _reader: Iterator[list[str]]
    _lines_before: int
    _has_quotes: bool = True
    """Whether values may be in quotes; otherwise quotes are characters like others."""

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield number of the first line, and values, of each further row that is not blank.

        Raises:
            UserError: a row has more values than the header, or a quote that is not closed.
        """
        line, width = self._line_num + 1, len(self.header)
        try:
            for values in self._reader:
                if "".join(values).strip():
                    if len(values) > width:
                        self._check_width(line, values)
                    yield line, values if self._has_quotes else [unquoted(value) for value in values]
                line = self._line_num + 1
        except csv.Error as error:
            raise UserError(
                f"{self.name}, line {line}: not a CSV ({error}); a value with quotes is written as in "
                '"a ""b"".wav"'
            ) from None

    @property
    def separator(self) -> str:
        """Character between two values."""
        if isinstance(self._reader, TabRows | QuotedRows):
            return self._reader.separator
        return self._reader.dialect.delimiter  # type: ignore[attr-defined]

    @property
    def _line_num(self) -> int:
        return self._lines_before + self._reader.line_num  # type: ignore[attr-defined]

    def _check_width(self, line: int, values: list[str]) -> None:
        if any(value.strip() for value in values[len(self.header) :]):
            raise UserError(
                f"{self.name}, line {line}: {len(values)} values in {len(self.header)} columns; "
                'a value with a separator in it needs quotes, as in "a, b.wav"'
            )


@contextmanager
def open_csv(path: Path, flag: str) -> Iterator[CsvFile]:
    """Open a local or remote CSV file; `flag` is the command-line flag that names it.

    Raises:
        UserError: on entry or while rows are read, if it is not a CSV file in UTF-8 or UTF-16.
    """
    with open_text(path, flag) as file:
        try:
            yield _read_header(f"{flag} {path}", file)
        except csv.Error as error:
            raise UserError(f"{flag} {path}: not a CSV ({error})") from None


@contextmanager
def open_text(path: Path, flag: str) -> Iterator[IO[str]]:
    """Open a local or remote text file; `flag` is the command-line flag that names it.

    Raises:
        UserError: on entry or while lines are read, if it is not text in UTF-8 or UTF-16.
    """
    name = f"{flag} {path}"
    with report_os_errors("reading", name), open_binary(path) as binary:
        encoding = _encoding(name, binary.read(4))
        binary.seek(0)
        try:
            yield io.TextIOWrapper(binary, encoding=encoding, newline="")
        except UnicodeError as error:
            raise UserError(
                f"{name}: not UTF-8 text ({error}); save it as 'CSV UTF-8', or convert it, e.g. "
                f"`iconv -f WINDOWS-1252 -t UTF-8 {path.name}`"
            ) from None


def _encoding(name: str, start: bytes) -> str:
    """Return the encoding of a text file that begins with these bytes.

    Raises:
        UserError: it is not a text file.
    """
    for magic, kind in _BINARY.items():
        if start.startswith(magic):
            raise UserError(f"{name}: not a CSV but {kind}")
    return "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _read_header(name: str, file: IO[str]) -> CsvFile:
    """Read the first line that is neither blank nor a comment; or the last comment, if that is the header."""
    skipped: list[str] = []
    first = file.readline()
    while first and (_is_comment(first) or not first.strip(" \t,;|\r\n")):
        skipped.append(first)
        first = file.readline()
    comments = [number for number, line in enumerate(skipped) if _is_comment(line)]
    if comments and _is_header_of(header := skipped[comments[-1]][1:], first):
        following = [*skipped[comments[-1] + 1 :], first]
        return _csv_file(name, file, [header, *following], _separator(header), comments[-1])
    if first[:4].lower() == "sep=":  # a line that Excel reads and writes
        return _csv_file(name, file, [file.readline()], first[4:5], len(skipped) + 1)
    return _csv_file(name, file, [first], _separator(first), len(skipped))


def _is_comment(line: str) -> bool:
    """Return whether a line begins with `#` and a blank; `#1.wav,dog` and `#,path` are something else."""
    return line.startswith(("# ", "#\t"))


def _is_header_of(comment: str, row: str) -> bool:
    """Return whether a comment is the header of the first row, as in AudioSet, and not that row itself.

    Both have as many values then, and among those of the row is a number or a file, which no header has.
    """
    separator = _separator(comment)
    names, values = (
        next(csv.reader([line.rstrip(f"\r\n{separator} ")], delimiter=separator, skipinitialspace=True), [])
        for line in (comment, row)
    )
    has_content = len(names) == 1 or any(_CONTENT.fullmatch(value.strip()) for value in values)
    return not values or (len(names) == len(values) and has_content)


def _separator(line: str) -> str:
    """Return the separator that splits a line into most values."""
    return max(_SEPARATORS, key=lambda separator: len(next(csv.reader([line], delimiter=separator), [])))


def _csv_file(name: str, file: IO[str], start: list[str], separator: str, lines_before: int) -> CsvFile:
    """Open a table of which the header and maybe further lines, `start`, have been read."""
    first = start[0]
    if "\0" in first:
        raise UserError(f"{name}: not a CSV (NUL characters); save it as 'CSV UTF-8'")

    def lines() -> Iterator[str]:
        yield from start
        yield from file

    has_quotes = not _is_raven(first)
    reader: Iterator[list[str]]
    if not has_quotes:
        reader = csv.reader(lines(), delimiter=separator, quoting=csv.QUOTE_NONE)
    elif separator == TabRows.separator:
        reader = TabRows(lines())
    else:
        reader = QuotedRows(lines(), separator)
    header = [value.strip() for value in next(reader, [])]
    return CsvFile(name, header, lines_before + 1, reader, lines_before, has_quotes)


def _is_raven(header: str) -> bool:
    """Return whether a line is the header of a selection table of Raven, which writes text as it is."""
    return header.lower().startswith("selection\tview\t")
