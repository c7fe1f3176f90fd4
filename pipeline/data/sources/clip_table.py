"""Clips from a CSV file or a list of paths: which columns are used, and which files are meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pipeline.data.sources.audio_location import AudioLocation
from pipeline.data.sources.file_finder import FileFinder
from pipeline.data.sources.missing_header import HeaderlessTable, open_clip_table
from pipeline.data.sources.one_hot_columns import with_one_hot_columns
from pipeline.data.sources.one_hot_table import OneHotTable
from pipeline.data.sources.row_values import SEVERAL_CLASSES_FIX, Row
from pipeline.data.sources.split_column import contradiction_warnings, with_split_column
from pipeline.data.sources.table_columns import (
    Columns,
    describe_columns,
    labeled_columns,
    log_columns,
    unlabeled_columns,
)
from pipeline.data.sources.table_reader import TableReader
from pipeline.io.csv_files import CsvFile, open_text


@dataclass(frozen=True)
class TableClips:
    """Clips of a table."""

    clips: pd.DataFrame
    warnings: list[str]
    columns: str
    """Which columns were used for what."""
    held_out_files: Sequence[str] = field(default_factory=list)
    """Files of the rows of other splits, as the table writes their paths."""


def read_labeled_table(
    path: Path,
    label_column: str | None = None,
    location: AudioLocation | None = None,
    classes_fix: str = SEVERAL_CLASSES_FIX,
) -> TableClips:
    """Read labeled clips from a table with the columns `path,label[,fold][,group]`.

    Paths are relative to the folder of the table, or as `location` states. Rows of other splits than `train`
    are left out, by a column or, without one, by folders of both. The column of the classes may be chosen by
    `label_column`; instead of it, there may be a column of 0 and 1 for each class. `classes_fix` is
    what to do if a row has several classes or none, for messages.

    Raises:
        NoListedFileError: no listed file exists.
        UserError: not a table, a missing column or an invalid value.
    """
    with open_labeled_table(path, "--data", label_column) as table:
        columns = labeled_columns(table, label_column)
        columns = with_split_column(table.name, table.header, columns, rows_again(table, path, "--data"))
        folder = path.parent if location is None else location.folder
        reader = TableReader(table.name, FileFinder(folder), location=location, classes_fix=classes_fix)
        reader.find_split_folder(rows_again(table, path, "--data"), columns)
        clips = reader.read(table.rows(), columns, lambda: rows_again(table, path, "--data"))
        warnings = [*header_note(table), *columns.split_notes, *reader.check_files(path, clips)]
        warnings += contradiction_warnings(table.header, columns, reader.contradictions)
        if location is None:
            log_columns(table, columns)
        return TableClips(clips, warnings, describe_columns(table, columns), reader.held_out_files)


def read_unlabeled_table(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read clips from a table with a column `path`, with the columns `id,path`, or with a single column.

    The header of a CSV can be missing. Paths are relative to the folder of the table.

    Raises:
        UserError: not a table, no column of paths, or no listed file exists.
    """
    with open_clip_table(path, "--audio") as table:
        reader = TableReader(table.name, FileFinder(path.parent))
        columns, has_header = unlabeled_columns(table, reader.finder)

        def rows() -> Iterator[Row]:
            if not has_header and isinstance(table, CsvFile):
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


@contextmanager
def open_labeled_table(path: Path, flag: str, label_column: str | None) -> Iterator[OneHotTable]:
    """Open a table as `open_table`; one column stands for those of a class each, and one for those of splits.

    Raises:
        UserError: as `open_table`, or only some columns can be those of classes.
    """
    with open_clip_table(path, flag) as table:
        yield with_one_hot_columns(table, label_column, table_rows(path, flag))


def header_note(table: OneHotTable) -> list[str]:
    """Return how the columns of a table without header are read; nothing for other tables."""
    return [table.table.note] if isinstance(table.table, HeaderlessTable) else []


def table_rows(path: Path, flag: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table without its header."""
    with open_clip_table(path, flag) as table:
        yield from table.rows()


def rows_again(table: OneHotTable, path: Path, flag: str) -> Iterator[Row]:
    """Yield the rows of an open table another time, from its start."""
    yield from table.converted(table_rows(path, flag))


def _lines(path: Path) -> Iterator[Row]:
    with open_text(path, "--audio") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, [line.rstrip("\r\n")]
