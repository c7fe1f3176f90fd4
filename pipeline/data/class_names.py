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
from pipeline.data.sources.row_values import row_value
from pipeline.data.sources.table_columns import plain_name
from pipeline.io.csv_files import CsvFile, open_text
from pipeline.io.errors import UserError
from pipeline.io.storage import PathOrURI
from pipeline.io.table_files import open_table, value_text

_FLAG = "--class-names"
# Headers of a column of names, the first of which is taken if there are several columns besides the codes.
NAME_COLUMNS = "name display_name class_name label_name common_name english label class category".split()
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

    Numbers may have zeros before them in the data only: spreadsheets drop these.

    Args:
        path: the table. Its first line may be a header.
        classes: the classes of the data.
        multi_label: whether labels are texts with any number of classes.

    Raises:
        UserError: an unreadable table without any of the classes, or with none or several columns that may be
            their names; a class without a name, with several, or with one that names several classes.
    """
    source, header, lines = _read_lines(path)
    rows = [
        (number, [normalize_id(row_value(values, i).strip()) for i in range(len(header))])
        for number, values in lines
    ]
    by_code = {_code(name): name for name in classes}
    if len(by_code) < len(classes):
        by_code = {name: name for name in classes}
    codes = _column_of_codes(source, [values for _, values in rows], by_code)
    position = _column_of_names(source, header, codes)
    names: dict[str, str] = {}
    for number, values in rows:
        code, name = by_code.get(values[codes]) or by_code.get(_code(values[codes])), values[position]
        if code is None:
            continue
        where = f"{source}, line {number}: class {shown(code)}"
        if not name:
            raise UserError(f"{where} has no name; write it in column {shown(header[position])}")
        if multi_label and SEPARATOR in name:
            raise UserError(f"{where} is named {shown(name)}, but '{SEPARATOR}' separates classes; change it")
        if names.setdefault(code, name) != name:
            raise UserError(f"{where} has the names {shown(names[code])} and {shown(name)}; keep one")
    return ClassNames(names, multi_label)


def _read_lines(path: Path) -> tuple[str, list[str], list[tuple[int, list[str]]]]:
    """Return the name of a table for messages, its columns, and its lines with their numbers.

    The first line of a CSV is one of them, as it may be no header. An object such as `{"05": "angry"}` has a
    line for each of its keys.
    """
    if ending(path.name) == "json":
        with open_text(path, _FLAG) as file, suppress(ValueError):
            value = json.load(file)
            if isinstance(value, dict) and not any(isinstance(name, dict | list) for name in value.values()):
                lines = [(i, [code, value_text(name)]) for i, (code, name) in enumerate(value.items(), 1)]
                return f"{_FLAG} {path}", ["key", "value"], lines
    with open_table(path, _FLAG) as table:
        header = list(table.header)
        first = [(1, header)] if isinstance(table, CsvFile) else []
        return table.name, header, [*first, *table.rows()]


def _code(text: str) -> str:
    """Return a code without zeros before a number."""
    return str(int(text)) if text.isdecimal() else text


def _column_of_codes(source: str, rows: Sequence[Sequence[str]], classes: Mapping[str, str]) -> int:
    """Return the position of the column that has most of the classes, the first one of equals.

    Classes as they are count more than those that differ by zeros before a number, as in a column that
    numbers the rows.
    """
    columns = [set(column) for column in zip(*rows, strict=True)]
    found = [
        (len(column.intersection(classes.values())), len(classes.keys() & {*map(_code, column)}))
        for column in columns
    ]
    if not max(map(max, found), default=0):
        raise UserError(
            f"{source}: has none of the classes of the data, {shown_list(sorted(classes.values()))}; write "
            "each in a line with its name"
        )
    return found.index(max(found))


def _column_of_names(source: str, header: Sequence[str], codes: int) -> int:
    """Return the position of the column of names: the only other one, or the one with a usual header."""
    others = {plain_name(name): i for i, name in reversed(list(enumerate(header))) if i != codes}
    if len(others) == 1:
        return next(iter(others.values()))
    for name in NAME_COLUMNS:
        if name in others:
            return others[name]
    if not others:
        raise UserError(f"{source}: has no column of names next to {shown(header[codes])}")
    raise UserError(
        f"{source}: which of its columns {shown_list([header[i] for i in sorted(others.values())])} has the "
        "names? Give it the header 'name'"
    )


def code_warnings(classes: Collection[str]) -> list[str]:
    """Return a warning if classes are identifiers for which AudioSet has names."""
    codes = [name for name in sorted(classes) if _IDENTIFIER.fullmatch(name)]
    if not codes:
        return []
    return [
        f"names of classes such as {shown(codes[0])} are codes: add --class-names FILE for words, such as "
        "AudioSet's class_labels_indices.csv"
    ]
