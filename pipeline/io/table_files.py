"""Tables of text in CSV, JSON or Parquet files, read row by row in the same way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.io.csv_files import open_csv, open_text
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.json_rows import rows_of_object
from pipeline.io.storage import pyarrow_source

TEXT_TABLE_EXTENSIONS = ("csv", "tsv", "jsonl", "ndjson", "json")
_JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
# Separator of the values of a list, which becomes one text.
LIST_SEPARATOR = ";"
_BATCH_ROWS = 4096
# Rows that are read at a time of a column that may have large values.
_FEW_ROWS = 16


class Table(Protocol):
    """An open table."""

    name: str
    """Flag and path, for error messages."""
    header: list[str]
    """Names of the columns."""

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield number of the line, and values, of each row.

        Raises:
            UserError: a row cannot be read.
        """


def open_table(path: Path, flag: str) -> AbstractContextManager[Table]:
    """Open a table by the ending of its name: JSON lines or a JSON list, `.parquet`, otherwise CSV.

    `flag` is the command-line flag that names it.

    Raises:
        UserError: on entry or while rows are read, if the file has another content.
    """
    if path.name.lower().endswith(_JSON_ENDINGS):
        return _open_json(path, flag)
    if path.name.lower().endswith(".parquet"):
        return open_parquet(path, flag)
    return open_csv(path, flag)


class ListText(str):
    """The values of a list, joined by `;`; a text that merely has a `;` or a comma in it is none."""

    __slots__ = ()


def value_text(value: Any) -> str:
    """Return a value as text: empty for nothing, `ListText` for the values of a list, JSON for objects."""
    if value is None:
        return ""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value)):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, list):
        return ListText(LIST_SEPARATOR.join(text for text in map(value_text, value) if text))
    return str(value)


@dataclass
class _JsonTable:
    """Objects of JSON lines, of a list or in an object; the columns are the keys of all, in their order."""

    name: str
    _file: IO[str]

    def __post_init__(self) -> None:
        """Collect the keys; the file is read once more for the rows, so that lines need not fit in memory.

        Raises:
            UserError: the first line is no object; other lines are reported with their rows.
        """
        keys: dict[str, None] = {}
        with suppress(UnicodeError):  # reported with the rows too
            for line, text in self._texts():
                try:
                    keys.update(dict.fromkeys(self._parse(line, text)))
                except UserError:
                    if not keys:
                        raise
        self.header = list(keys)

    def _texts(self) -> Iterator[tuple[int, Any]]:
        """Yield number and text of each line that is not blank, or number and value of each of a list."""
        self._file.seek(0)
        first = self._file.readline()
        if first.startswith("["):
            yield from enumerate(self._load(1, first + self._file.read()), start=1)
        elif (rows := self._rows_of_object(first)) is not None:
            yield from enumerate(rows, start=1)
        else:
            self._file.seek(0)
            for line, text in enumerate(iter(self._file.readline, ""), start=1):
                if text.strip():
                    yield line, text

    def _rows_of_object(self, first: str) -> list[dict[str, Any]] | None:
        """Return the rows of a file that is one object, of which `first` is a line; None for JSON lines."""
        if not first.lstrip().startswith("{"):
            return None
        try:
            value = json.loads(first)
            if any(line.strip() for line in iter(self._file.readline, "")):
                return None
        except ValueError:
            try:
                value = json.loads(first + self._file.read())
            except ValueError:  # reported with its line
                return None
        return rows_of_object(value) or [value]

    def _load(self, line: int, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise UserError(f"{self.name}, line {line}: not JSON ({error})") from None

    def _parse(self, line: int, text: Any) -> dict[str, Any]:
        value = self._load(line, text) if isinstance(text, str) else text
        if not isinstance(value, dict):
            raise UserError(f'{self.name}, line {line}: expected an object such as {{"file_name": "a.wav"}}')
        return value

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        for line, text in self._texts():
            values = self._parse(line, text)
            yield line, [value_text(values.get(name)) for name in self.header]


@contextmanager
def _open_json(path: Path, flag: str) -> Iterator[_JsonTable]:
    with open_text(path, flag) as file:
        yield _JsonTable(f"{flag} {path}", file)


@dataclass
class ParquetTable:
    """Columns of a Parquet file that have text, numbers or lists of these; labels by their names.

    A column of files without content, of which only the paths are there, is one of paths.
    """

    name: str
    file: pq.ParquetFile
    class_names: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self._paths = columns_without_content(self.file)
        if self._paths:
            self.name += f" (column '{self._paths[0]}' has paths of files, but not their bytes)"
        self.header = [
            column.name
            for column in self.file.schema_arrow
            if _is_text(column.type) or column.name in self._paths
        ]
        self.class_names = class_names(self.file.schema_arrow)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        line = 0
        for batch in self.file.iter_batches(_BATCH_ROWS, columns=list(map(self.leaf, self.header))):
            columns = [self.texts(batch, name) for name in self.header]
            for values in zip(*columns, strict=True):
                line += 1
                yield line, list(values)

    def leaf(self, name: str) -> str:
        """Return what is read of a column of the header, for `iter_batches`."""
        return f"{name}.path" if name in self._paths else name

    def texts(self, batch: pa.RecordBatch, name: str) -> list[str]:
        """Return the values of a column of the header, as `column_texts`."""
        column = batch.column(name)
        return column_texts(
            column.field("path") if name in self._paths else column, self.class_names.get(name)
        )


def columns_without_content(file: pq.ParquetFile) -> list[str]:
    """Return the columns of files, as Hugging Face `datasets` writes them, that only have paths: no bytes."""
    return [
        column.name
        for column in file.schema_arrow
        if pa.types.is_struct(column.type)
        and {"bytes", "path"} <= {column.type.field(index).name for index in range(column.type.num_fields)}
        and file.metadata.num_rows
        and not _has_values(file, f"{column.name}.bytes")
    ]


def _has_values(file: pq.ParquetFile, leaf: str) -> bool:
    """Return whether a column has a value that is not NULL, by statistics or else by its first values."""
    for number in range(file.metadata.num_row_groups):
        group: Any = file.metadata.row_group(number)
        chunks = (group.column(index) for index in range(group.num_columns))
        chunk = next(chunk for chunk in chunks if chunk.path_in_schema == leaf)
        if chunk.statistics is not None and chunk.statistics.has_null_count:
            if chunk.statistics.null_count < chunk.num_values:
                return True
            continue
        for batch in file.iter_batches(_FEW_ROWS, [number], [leaf]):
            values = batch.column(0).field(0)
            if values.null_count < len(values):
                return True
    return False


def column_texts(column: pa.Array, class_names: list[str] | None) -> list[str]:
    """Return the values of a column as texts, as `value_text`; with `class_names`, labels by their names.

    A label that is a number is a list of one name, as the name is no text of a list.
    """
    values = column.to_pylist()
    if class_names is not None:
        values = [_named(value if isinstance(value, list) else [value], class_names) for value in values]
    return list(map(value_text, values))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _named(value: Any, names: list[str]) -> Any:
    """Return the name of a class by its number, -1 if there is none; of a list, the names of its classes."""
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the class names of the columns of numbers that Hugging Face `datasets` wrote for labels."""
    found = {name: _feature_names(feature) for name, feature in column_features(schema).items()}
    return {name: names for name, names in found.items() if names}


def column_features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return what Hugging Face `datasets` wrote about columns: `_type` and, of labels, `names`."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: _feature(feature) for name, feature in features.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _feature(feature: Any) -> dict[str, Any]:
    if isinstance(feature, list):
        return {"feature": _feature(feature[0])} if feature else {}
    return feature if isinstance(feature, dict) else {}


def _feature_names(feature: Any) -> list[str]:
    """Return the names of a `ClassLabel`, or of those in a list."""
    if not isinstance(feature, dict):
        return []
    return list(feature.get("names") or _feature_names(feature.get("feature")))


@contextmanager
def open_parquet(path: Path, flag: str) -> Iterator[ParquetTable]:
    """Open a Parquet file as a table; arguments and errors as `open_table`."""
    name = f"{flag} {path}"
    with report_os_errors("reading", name):
        try:
            with pq.ParquetFile(pyarrow_source(path, partial=True)) as file:
                yield ParquetTable(name, file)
        except pa.ArrowInvalid as error:
            raise UserError(f"{name}: not a Parquet file ({' '.join(str(error).split())[:200]})") from None
