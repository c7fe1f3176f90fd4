"""Clips from a CSV file or a list of paths: which columns are used, and which files are meant."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.data.clips import CHUNK_ROWS, MAX_FOLD, NO_FOLD, clip_record, shown, to_table
from pipeline.data.sources.audio_location import AudioLocation
from pipeline.data.sources.file_finder import FileFinder, FoundFile, is_normal_path
from pipeline.data.sources.split_names import split_of
from pipeline.data.sources.table_columns import (
    RECORDING_COLUMNS,
    Columns,
    describe_columns,
    labeled_columns,
    log_columns,
    unlabeled_columns,
)
from pipeline.io.concurrent import map_concurrently
from pipeline.io.csv_files import open_csv, open_text
from pipeline.io.errors import UserError
from pipeline.io.folder_tree import MISSING
from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import is_store_uri
from pipeline.io.table_files import open_table
from pipeline.io.text import plural

# Empty, or as pandas may write a missing value.
NO_VALUES = ("", "nan")
# Slashes and dots that a path does not need.
_REDUNDANT = re.compile(r"//|/$|(^|/)\.(/|$)|^$")
# Spreadsheets and pandas may write 1.0, or 1,0 with a decimal comma.
_FOLD = re.compile(r"(-?\d+)(?:\.0*|,00?)?")


class NoListedFileError(UserError):
    """No file that a table lists exists."""


# Number and values of a row.
Row = tuple[int, Sequence[str]]


@dataclass
class TableReader:
    """Reads the rows of one table as manifest rows, and notes what is odd."""

    name: str
    """Flag and path, for error messages."""
    finder: FileFinder
    label_is_optional: bool = False
    location: AudioLocation | None = None
    """Where the files are, if not as the table writes their paths."""
    found: int = 0
    missing: int = 0
    first_missing: FoundFile | None = None
    held_out: Counter[str] = field(default_factory=Counter)
    """Number of rows by split, without those of the training split."""
    other_case: dict[str, list[str]] = field(default_factory=dict)
    """Names of files that are written in another case in the table, by path."""

    def read(
        self, rows: Iterable[Row], columns: Columns, read_again: Callable[[], Iterable[Row]]
    ) -> pd.DataFrame:
        """Return the clips of the training split.

        `read_again` returns the rows another time: before objects in object stores are looked up, the
        objects in each folder are counted, unless the table is short.

        Raises:
            UserError: a value is missing or invalid, or a name stands for several files.
        """
        return to_table(self._records(rows, columns, read_again))

    def _records(
        self, rows: Iterable[Row], columns: Columns, read_again: Callable[[], Iterable[Row]]
    ) -> Iterator[tuple]:
        is_planned = False
        for number, chunk in enumerate(_chunks(iter(rows))):
            names = list(filter(self.finder.is_remote, self._names(chunk, columns)))
            if names and not is_planned:
                is_short = number == 0 and len(chunk) < CHUNK_ROWS
                self.finder.plan(names if is_short else self._names(read_again(), columns))
                is_planned = True
            self.finder.prepare(names)
            for line, values in chunk:
                record = self.record(line, values, columns)
                if record is not None:
                    yield record

    def _names(self, rows: Iterable[Row], columns: Columns) -> Iterator[str]:
        """Yield the names of the files of the training split."""
        for _, values in rows:
            if columns.split is None or split_of(row_value(values, columns.split)) != "held out":
                yield self.file_name(values, columns)

    def file_name(self, values: Sequence[str], columns: Columns) -> str:
        """Return the path of the file of a row."""
        path = row_value(values, columns.path, strip=False)
        if self.location is None:
            return path
        label, fold = row_value(values, columns.label), row_value(values, columns.fold)
        return self.location.file_name(path, label, fold)

    def record(self, line: int, values: Sequence[str], columns: Columns) -> tuple | None:
        """Return the manifest row of a table row; None if the row belongs to another split.

        Raises:
            UserError: a value is missing or invalid, or a name stands for several files.
        """
        if columns.split is not None and self._is_held_out(line, row_value(values, columns.split), columns):
            return None
        label = row_value(values, columns.label)
        if not row_value(values, columns.path):
            raise UserError(f"{self.name}, line {line}: path is empty")
        path = self.file_name(values, columns)
        if self.location is not None and self.location.splits_are_folders and self._is_in_held_out(path):
            return None
        if columns.label is not None and label.lower() in NO_VALUES and not self.label_is_optional:
            raise UserError(f"{self.name}, line {line}: label is empty")
        fold = NO_FOLD if columns.fold is None else self._fold(line, row_value(values, columns.fold))
        file = self._find(line, path)
        clip_id = row_value(values, columns.clip_id) or _clip_id(file.name)
        group = row_value(values, columns.group)
        group = "" if group.lower() in NO_VALUES else group
        return clip_record(clip_id, file.path, label, file.status, fold, group)

    def _is_held_out(self, line: int, split: str, columns: Columns) -> bool:
        kind = split_of(split)
        if kind is None and columns.split_is_strict:
            raise UserError(
                f"{self.name}, line {line}: split '{split}' is not train, val or test; "
                "if the column means something else, rename it"
            )
        if kind == "held out":
            self.held_out[split] += 1
        return kind == "held out"

    def _is_in_held_out(self, path: str) -> bool:
        folder = path.strip().replace("\\", "/").partition("/")
        if not folder[1] or split_of(folder[0]) != "held out":
            return False
        self.held_out[folder[0]] += 1
        return True

    def _fold(self, line: int, text: str) -> int:
        """Return a fold number."""
        if text.lower() in NO_VALUES:
            return NO_FOLD
        match = _FOLD.fullmatch(text)
        if match is not None and NO_FOLD <= int(match[1]) <= MAX_FOLD:
            return int(match[1])
        raise UserError(f"{self.name}, line {line}: fold '{text}' is not an integer up to {MAX_FOLD:,}")

    def _find(self, line: int, path: str) -> FoundFile:
        try:
            file = self.finder.find(path)
        except ValueError as error:
            raise UserError(f"{self.name}, line {line}: {error}") from None
        if file.status.size == MISSING:
            self.missing += 1
            self.first_missing = self.first_missing or file
        else:
            self.found += 1
        if not file.same_case:
            self.other_case.setdefault(file.path, []).append(file.name)
        return file

    def check_files(self, path: Path, clips: pd.DataFrame) -> list[str]:
        """Return warnings about rows that were left out and about missing files.

        Raises:
            UserError: none of the files exists, no row belongs to the training split, or one file is listed
                in upper and in lower case.
        """
        self._check_case(clips["path"])
        warnings, example = [], self.first_missing
        if self.held_out:
            counts = ", ".join(f"{shown(split)}: {count}" for split, count in sorted(self.held_out.items()))
            if not self.found + self.missing:
                raise UserError(
                    f"{self.name}: no row belongs to the training split ({counts}); "
                    "remove the column that names the split, or write 'train' in it"
                )
            warnings.append(f"ignoring {plural(self.held_out.total(), 'row')} of other splits ({counts})")
        if example is not None and not self.found:
            raise NoListedFileError(
                f"{self.name}: none of the {self.missing} listed files exists; the first was expected as "
                f"{shown(example.path)}{_neighbor_hint(path, example.name)}"
            )
        if example is not None:
            warnings.append(
                f"{self.missing} of {self.missing + self.found} listed files do not exist, "
                f"e.g. {shown(example.path)}"
            )
        return warnings

    def _check_case(self, paths: pd.Series) -> None:
        """Check that no name such as `A.wav` stands for a file `a.wav` that has a row of its own.

        Raises:
            UserError: it does; a disk that ignores case may have kept only one of two files.
        """
        counts = paths[paths.isin(self.other_case.keys())].value_counts()
        for path, names in self.other_case.items():
            if counts[path] > len(names) or len(set(names)) > 1:
                raise UserError(
                    f"{self.name}: {shown(names[0])} does not exist, only {shown(path)}, which has another "
                    "row; add the missing file, or correct the table"
                )


@dataclass(frozen=True)
class TableClips:
    """Clips of a table."""

    clips: pd.DataFrame
    warnings: list[str]
    columns: str
    """Which columns were used for what."""


def read_labeled_table(
    path: Path, label_column: str | None = None, location: AudioLocation | None = None
) -> TableClips:
    """Read labeled clips from a table with the columns `path,label[,fold][,group]`.

    Paths are relative to the folder of the table, or as `location` states. Rows of other splits than `train`
    are left out. The column of the classes may be chosen by `label_column`.

    Raises:
        NoListedFileError: no listed file exists.
        UserError: not a table, a missing column or an invalid value.
    """
    with open_table(path, "--data") as table:
        columns = labeled_columns(table, label_column, group_columns=group_columns(location))
        if columns.label_is_list:
            raise UserError(
                f"{table.name}: column 'labels' may have several classes in a row: add --multi-label, or "
                "name another column by --label-column"
            )
        folder = path.parent if location is None else location.folder
        reader = TableReader(table.name, FileFinder(folder), location=location)
        clips = reader.read(table.rows(), columns, lambda: table_rows(path, "--data"))
        warnings = reader.check_files(path, clips)
        if location is None:
            log_columns(table, columns)
        return TableClips(clips, warnings, describe_columns(table, columns))


def group_columns(location: AudioLocation | None) -> Sequence[str]:
    """Return the columns that may name recordings: more of them in the tables of published datasets."""
    return ("group",) if location is None else RECORDING_COLUMNS


def read_unlabeled_table(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read clips from a CSV with a column `path`, with the columns `id,path`, or with a single column.

    The header can be missing. Paths are relative to the folder of the CSV.

    Raises:
        UserError: not a CSV, no column of paths, or no listed file exists.
    """
    with open_csv(path, "--audio") as table:
        reader = TableReader(table.name, FileFinder(path.parent))
        columns, has_header = unlabeled_columns(table, reader.finder)

        def rows() -> Iterator[Row]:
            if not has_header:
                yield table.header_line, table.header
            yield from table.rows()

        clips = reader.read(rows(), columns, lambda: table_rows(path, "--audio"))
    return clips, reader.check_files(path, clips)


def read_path_list(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read clips from a text file with one path per line, relative to its folder.

    Raises:
        UserError: not a text file, or no listed file exists.
    """
    reader = TableReader(f"--audio {path}", FileFinder(path.parent))
    clips = reader.read(_lines(path), Columns(0), lambda: _lines(path))
    return clips, reader.check_files(path, clips)


def table_rows(path: Path, flag: str) -> Iterator[Row]:
    """Yield the rows of a table without its header."""
    with open_table(path, flag) as table:
        yield from table.rows()


def _lines(path: Path) -> Iterator[Row]:
    with open_text(path, "--audio") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, [line.rstrip("\r\n")]


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Yield rows in chunks; an error of the table is raised after the rows before it."""
    error: Exception | None = None
    while error is None:
        chunk: list[Row] = []
        try:
            chunk.extend(itertools.islice(rows, CHUNK_ROWS))
        except Exception as table_error:
            error = table_error
        if not chunk:
            break
        yield chunk
    if error is not None:
        raise error


def row_value(values: Sequence[str], column: int | None, strip: bool = True) -> str:
    """Return a value; empty if the column or the rest of the row is missing."""
    if column is None or column >= len(values):
        return ""
    return values[column].strip() if strip else values[column]


def _clip_id(name: str) -> str:
    if is_normal_path(name) or is_store_uri(name) or not _REDUNDANT.search(name):
        return name
    return PurePosixPath(name).as_posix()


def _neighbor_hint(table: Path, name: str) -> str:
    """Return where a missing file is, if it is below a folder next to the table or to the table's folder."""
    for base, prefix in ((table.parent, ""), (table.parent.parent, "../")):
        folders = _folders_in(base)
        found = map_concurrently(lambda folder: FileFinder(folder).exists(name), folders)
        for folder, exists in zip(folders, found, strict=True):
            if exists:
                example = f"{prefix}{folder.name}/{name}"
                return f", but it is in '{folder}': move the CSV there, or write paths like {shown(example)}"
    return "; paths are relative to the folder of the CSV"


def _folders_in(folder: Path) -> list[Path]:
    if isinstance(folder, RemotePath):
        # Of a bucket's root, the folder would be the list of all buckets.
        return [path for path, info in folder.children() if info.is_folder] if folder.is_in_bucket else []
    return sorted(path for path in folder.iterdir() if path.is_dir())
