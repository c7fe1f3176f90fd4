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
# a taxonomy `class_name` is that of all birds, and `category` may be one of kinds.
NAME_COLUMNS = (
    "name display_name common_name primary_com_name com_name english english_name scientific_name sci_name "
    "species class_name label_name label class category"
).split()
# Those of columns that have the classes only if these have names already.
_ONLY_NAMES = set(NAME_COLUMNS) - {"species", "label", "class", "category"}
# Headers of a column of codes, the first of which is taken if several columns have as many classes.
CODE_COLUMNS = (
    "code class_code label_code species_code ebird_code primary_label mid class_id classid label_id target "
    "class_index id"
).split()
# Headers of a column that numbers the rows, as pandas writes one.
_ROW_NUMBERS = re.compile(r"|index|unnamed_0(_\d+)?|(level|index_level)_0")
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
        """Return warnings about classes that become one, and about those that the table `path` lacks."""
        merged: dict[str, list[str]] = {}
        for code, name in sorted(self.by_code.items()):
            merged.setdefault(name, []).append(code)
        warnings = [
            f"{_FLAG} {path} names {shown_list(codes)} {shown(name)}, which become one class"
            for name, codes in merged.items()
            if len(codes) > 1
        ]
        if missing := sorted(set(classes).difference(self.by_code)):
            warnings.append(f"{_FLAG} {path} has no name for {shown_list(missing)}, which stay as they are")
        return warnings


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
    columns = _Columns(source, header, [values for _, values in rows], by_code)
    codes = columns.codes()
    position = columns.names(codes)
    named = [
        (f"{source}{line}: class {shown(code)}", code, values[position])
        for line, values in rows
        if (code := columns.class_of(values[codes])) is not None
    ]
    names: dict[str, str] = {}
    for where, code, name in named:
        if multi_label and SEPARATOR in name:
            raise UserError(f"{where} is named {shown(name)}, but '{SEPARATOR}' separates classes; change it")
        if name and names.setdefault(code, name) != name:
            raise UserError(f"{where} has the names {shown(names[code])} and {shown(name)}; keep one")
    for where, code, _ in named:
        if code not in names:
            raise UserError(
                f"{where} has no name; write one, or remove the line and the class stays as it is"
            )
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
            if isinstance(value, list) and all(isinstance(name, str) for name in value):
                value = dict(zip(map(str, range(len(value))), value, strict=True))
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
    """Also the first line of a CSV, which may be a header."""
    by_code: Mapping[str, str]
    """Classes of the data by their codes."""

    def class_of(self, value: str) -> str | None:
        """Return the class of the data with a code; None if there is none."""
        return self.by_code.get(value) or self.by_code.get(_code(value))

    def codes(self) -> int:
        """Return the position of the column that has most of the classes.

        A column that numbers the rows, or has a header of names, is taken only if no other has any. If
        several have equally many, but not the same in each row, the first of `CODE_COLUMNS` is taken, and of
        a table of two columns the first.
        """
        classes = {i: tuple(self.class_of(row[i]) for row in self.rows) for i in range(len(self.header))}
        found = [i for i, of_column in classes.items() if any(of_column)]
        if not found:
            missing = shown_list(sorted(self.by_code.values()))
            raise UserError(
                f"{self.source}: has none of the classes of the data, {missing}; write each in a line "
                "with its name"
            )
        found = [i for i in found if not self._numbers_rows(i)] or found
        found = [i for i in found if self._name(i) not in _ONLY_NAMES] or found
        counts = {i: len(set(classes[i]) - {None}) for i in found}
        best = [i for i in found if counts[i] == max(counts.values())]
        by_header = [i for name in CODE_COLUMNS for i in best if self._name(i) == name]
        if by_header or len(self.header) == 2 or len({classes[i] for i in best}) == 1:
            return (by_header or best)[0]
        raise UserError(
            f"{self.source}: which of its columns {shown_list([self.header[i] for i in best])} has the "
            "classes of the data? Give it the header 'code'"
        )

    def names(self, codes: int) -> int:
        """Return the position of the column of names: one with a usual header, or the only one with words."""
        others = [i for i in range(len(self.header)) if i != codes]
        found = [i for i in others if self._values(i, codes)] or others
        found = [i for i in found if not self._numbers_rows(i)] or found
        if not found:
            raise UserError(f"{self.source}: has no column of names next to {shown(self.header[codes])}")
        requested = [i for i in found if self._name(i) == "name"]
        if requested:
            return requested[0]
        is_pair = len(found) == 1
        found = [i for i in found if not all(map(_is_code, self._values(i, codes)))] or found
        by_header = [i for name in NAME_COLUMNS for i in found if self._name(i) == name]
        has_words = self._name(codes) not in CODE_COLUMNS and not any(map(_is_code, self.by_code.values()))
        position = by_header[0] if by_header else found[0] if len(found) == 1 else None
        if has_words and (
            position is None
            or not (is_pair or by_header)
            or self._name(codes) in _ONLY_NAMES
            or self._name(position) in CODE_COLUMNS
            or all(map(_is_code, self._values(position, codes)))
        ):
            column = shown(self.header[codes])
            raise UserError(f"{self.source}: its column {column} has the classes of the data: {_ALREADY}")
        if position is None:
            columns = shown_list([self.header[i] for i in found])
            raise UserError(
                f"{self.source}: which of its columns {columns} has the names? Give it the header 'name'"
            )
        return position

    def _name(self, position: int) -> str:
        return plain_name(self.header[position])

    def _numbers_rows(self, position: int) -> bool:
        return _ROW_NUMBERS.fullmatch(self._name(position)) is not None

    def _values(self, position: int, codes: int) -> list[str]:
        """Return the values of a column in the rows of the classes, without empty ones."""
        return [row[position] for row in self.rows if row[position] and self.class_of(row[codes]) is not None]


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
