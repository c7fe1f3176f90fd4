"""Names that a table gives to the classes of the data, where these are codes such as `05` or `/m/068hy`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from models.config import Config
from pipeline.audio.file_types import ending
from pipeline.data.clips import normalize_id, shown, shown_list
from pipeline.data.labels import SEPARATOR, join_labels, split_labels
from pipeline.data.sources.column_names import plain_name
from pipeline.data.sources.row_values import row_value
from pipeline.io.csv_files import CsvFile, open_text
from pipeline.io.errors import UserError
from pipeline.io.storage import PathOrURI
from pipeline.io.table_files import open_table, value_text

_FLAG = "--class-names"
# Headers of a column of names, the first of which is taken if there are several columns besides the codes. In
# a taxonomy `class_name` is that of all birds.
NAME_COLUMNS = (
    "name display_name common_name english scientific_name species class_name label_name label class category"
).split()
# Those that no column of codes has.
_ONLY_NAMES = "name display_name common_name english scientific_name class_name label_name".split()
# Headers of a column that numbers the rows, as pandas writes one.
_ROW_NUMBERS = ("", "index", "unnamed_0")
_ALREADY = (
    "they have names already; leave out --class-names, or give the column of new names the header 'name'"
)
_NUMBER = re.compile(r"(\d+)(?:\.0+)?")
# Identifiers of Freebase, as in AudioSet.
_IDENTIFIER = re.compile(r"/[a-z]/\w+")


class ClassNamesConfig(Config):
    """Names of classes."""

    class_names: PathOrURI | None = None
    """Table (CSV, JSON or Parquet) of names for classes that are codes in the data: a column of the codes and
    one of the names, as in class_labels_indices.csv of AudioSet. Codes of the same name become one class."""


@dataclass(frozen=True)
class ClassNames:
    """Names of the classes of the data."""

    by_code: dict[str, str]
    """Those that a table has, by the class as the data state it; other classes keep theirs."""
    multi_label: bool
    """Whether labels are texts with any number of classes, as in `labels.py`."""

    def label(self, label: str) -> str:
        """Return a label with the names of its classes."""
        if not self.multi_label:
            return self.by_code.get(label, label)
        return join_labels(self.by_code.get(code, code) for code in split_labels(label))

    def warnings(self, path: Path, classes: Collection[str]) -> list[str]:
        """Return a warning if the table `path` lacks some of the classes of the data."""
        if not (missing := sorted(set(classes).difference(self.by_code))):
            return []
        return [f"{_FLAG} {path} has no name for {shown_list(missing)}, which stay as they are"]


def read_class_names(path: Path, classes: Collection[str], multi_label: bool) -> ClassNames:
    """Read the names of the classes of the data, whose codes are the column that has most of them.

    Numbers may have lost zeros before them, or have become `5.0`: spreadsheets and pandas do that.

    Args:
        path: the table. Its first line may be a header.
        classes: the classes of the data, at least one.
        multi_label: whether labels are texts with any number of classes.

    Raises:
        UserError: an unreadable table, one without any of the classes, or one in which the columns of the
            classes and of their names are not clear; classes that have their names already; a class without
            a name, with several, or with one that names several classes.
    """
    header, rows = _read_rows(path)
    by_code = {_code(name): name for name in classes}
    if len(by_code) < len(classes):
        by_code = {name: name for name in classes}
    source = f"{_FLAG} {path}"
    columns = _Columns(source, header, [values for _, values in rows])
    codes = columns.codes(by_code)
    position = columns.names(codes)
    found = [
        (where, by_code.get(values[codes]) or by_code.get(_code(values[codes])), values[position])
        for where, values in rows
    ]
    named = [(where, code, name) for where, code, name in found if code is not None]
    if plain_name(header[position]) not in NAME_COLUMNS:
        _check_direction(source, [(code, name) for _, code, name in named])
    names: dict[str, str] = {}
    for line, code, name in named:
        where = f"{source}{line}: class {shown(code)}"
        if not name:
            raise UserError(
                f"{where} has no name; write one, or remove the line and the class stays as it is"
            )
        if multi_label and SEPARATOR in name:
            raise UserError(f"{where} is named {shown(name)}, but '{SEPARATOR}' separates classes; change it")
        if names.setdefault(code, name) != name:
            raise UserError(f"{where} has the names {shown(names[code])} and {shown(name)}; keep one")
    return ClassNames(names, multi_label)


def _read_rows(path: Path) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the columns of a table, and its rows, each with its line for messages.

    The first line of a CSV is one of them, as it may be no header. An object such as `{"05": "angry"}` has a
    row for each of its keys.
    """
    if ending(path.name) == "json":
        with open_text(path, _FLAG) as file, suppress(ValueError):
            value = json.load(file)
            if isinstance(value, dict):
                value = value.get("id2label", value)  # of a model of Hugging Face
            if isinstance(value, dict) and not any(isinstance(name, dict | list) for name in value.values()):
                pairs = [(code.strip(), value_text(name).strip()) for code, name in value.items()]
                return ["key", "value"], [("", list(map(normalize_id, pair))) for pair in pairs]
    with open_table(path, _FLAG) as table:
        header = list(table.header)
        first = [(table.header_line, header)] if isinstance(table, CsvFile) else []
        return header, [
            (f", line {line}", [normalize_id(row_value(values, i).strip()) for i in range(len(header))])
            for line, values in [*first, *table.rows()]
        ]


def _code(text: str) -> str:
    """Return a code without zeros before a number, and without `.0` after it."""
    number = _NUMBER.fullmatch(text)
    return str(int(number[1])) if number else text


@dataclass(frozen=True)
class _Columns:
    """Columns of a table of names."""

    source: str
    """Flag and path, for error messages."""
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def codes(self, classes: Mapping[str, str]) -> int:
        """Return the position of the column that has most of the classes.

        Classes as they are count more than those that differ in how a number is written, as in a column that
        numbers the rows. A column with a header of names is taken only if no other column has any class. If
        both columns of a table have equally many, the first has the codes.

        Args:
            classes: the classes of the data by their codes.
        """
        found = {i: self._count(i, classes) for i in range(len(self.header))}
        found = {i: count for i, count in found.items() if max(count)}
        if not found:
            missing = shown_list(sorted(classes.values()))
            raise UserError(
                f"{self.source}: has none of the classes of the data, {missing}; write each in a line "
                "with its name"
            )
        headers = {i: plain_name(self.header[i]) for i in found}
        found = {i: count for i, count in found.items() if headers[i] not in _ONLY_NAMES} or found
        best = [i for i, count in found.items() if count == max(found.values())]
        best = [i for i in best if headers[i] not in _ROW_NUMBERS] or best
        different = {tuple(row[i] for row in self.rows[1:]): i for i in reversed(best)}
        if len(different) > 1 and len(self.header) > 2:
            raise UserError(
                f"{self.source}: which of its columns {shown_list([self.header[i] for i in best])} has the "
                "classes of the data? Remove the others"
            )
        return best[0]

    def _count(self, position: int, classes: Mapping[str, str]) -> tuple[int, int]:
        """Return how many of the classes are in a column as they are, and as codes."""
        column = {row[position] for row in self.rows}
        return len(column.intersection(classes.values())), len(classes.keys() & set(map(_code, column)))

    def names(self, codes: int) -> int:
        """Return the position of the column of names: the only other one, or the one with a usual header."""
        others = {plain_name(name): i for i, name in reversed(list(enumerate(self.header))) if i != codes}
        for name in NAME_COLUMNS:
            if name in others:
                return others[name]
        if plain_name(self.header[codes]) in _ONLY_NAMES:
            column = shown(self.header[codes])
            raise UserError(f"{self.source}: its column {column} has the classes of the data: {_ALREADY}")
        if len(others) == 1:
            return next(iter(others.values()))
        if not others:
            raise UserError(f"{self.source}: has no column of names next to {shown(self.header[codes])}")
        columns = shown_list([self.header[i] for i in sorted(others.values())])
        raise UserError(
            f"{self.source}: which of its columns {columns} has the names? Give it the header 'name'"
        )


def _check_direction(source: str, names: Sequence[tuple[str, str]]) -> None:
    """Raise `UserError` if classes that are words would be named by codes, of pairs of class and name."""
    if all(_is_code(name) and not _is_code(code) for code, name in names):
        code, name = names[0]
        raise UserError(f"{source}: would name class {shown(code)} {shown(name)}: {_ALREADY}")


def _is_code(name: str) -> bool:
    return bool(_NUMBER.fullmatch(name) or _IDENTIFIER.fullmatch(name))


def code_warnings(classes: Collection[str]) -> list[str]:
    """Return a warning if classes are identifiers for which AudioSet has names."""
    codes = [name for name in sorted(classes) if _IDENTIFIER.fullmatch(name)]
    if not codes:
        return []
    return [
        f"names of classes such as {shown(codes[0])} are codes: add --class-names FILE for words, such as "
        "AudioSet's class_labels_indices.csv"
    ]
