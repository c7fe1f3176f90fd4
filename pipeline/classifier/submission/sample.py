"""Sample submission: a CSV whose columns, ids and row order a submission follows."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from pipeline.classifier.submission.class_names import normal_form
from pipeline.classifier.submission.values import LABEL_HEADERS, PROBABILITY_HEADERS
from pipeline.data.annotations.event_columns import END_COLUMNS, START_COLUMNS
from pipeline.data.sources.column_names import PATH_COLUMNS, plain_name
from pipeline.io.csv_files import open_csv
from pipeline.io.errors import UserError

FLAG = "--sample-submission"
# Names of a column that numbers the rows, such as the one that pandas writes.
INDEX_NAMES = ("", "unnamed: 0", "index")
# Rows by which the column of ids is recognized.
CHECKED_ROWS = 1000
# Of more columns only those that may hold ids are read completely: thousands of them would fill the memory.
MAX_STORED_COLUMNS = 100
# Columns of values, even if they match files: class 1 is no file `1.wav`.
VALUE_HEADERS = LABEL_HEADERS | PROBABILITY_HEADERS
# Columns of times, of which many windows have the same.
_TIMES = {*START_COLUMNS, *END_COLUMNS}
# Score of a column without ids.
NO_MATCH = (0, 0)


class RowIndex(Protocol):
    """Finds the rows of a prediction, clips or windows, by their ids."""

    @property
    def rows(self) -> str:
        """What the rows are, in the plural."""

    @property
    def elsewhere(self) -> str:
        """File with the predictions of all rows."""

    @property
    def hint(self) -> str:
        """What ids are, for messages."""

    @property
    def clip_ids(self) -> Sequence[str]:
        """Ids of all rows."""

    def __len__(self) -> int: ...

    def find(self, text: str) -> list[int]:
        """Return the positions of the rows that an id can mean: none, one, or several if it is ambiguous."""

    def is_name(self, text: str) -> bool:
        """Return whether an id names a row as it is, but for folder and extension."""


@dataclass(frozen=True)
class SampleSubmission:
    """Table of a sample submission, and what messages and the written file need to know about it."""

    table: pd.DataFrame
    """Columns as text, without blank rows; not those of probabilities in a sample with many columns."""
    source: str
    """Flag and path, for messages."""
    separator: str = ","
    columns: tuple[str, ...] = ()
    """Names of all columns, if `table` lacks some."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns, in order."""
        return self.columns or tuple(self.table.columns)

    def values(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return some columns, without rows if `table` lacks any of them."""
        if set(columns) <= set(self.table.columns):
            return self.table[list(columns)]
        return empty_table(columns)


def empty_table(columns: Sequence[str]) -> pd.DataFrame:
    """Return a table without rows; made column by column, thousands of columns would take seconds."""
    return pd.DataFrame(np.empty((0, len(columns)), object), columns=list(columns))


def read_sample(path: Path) -> SampleSubmission:
    """Read a sample submission.

    Raises:
        UserError: no such file, not a CSV, or fewer than two columns.
    """
    source = f"{FLAG} {path}"
    if not path.is_file():
        raise UserError(f"{source}: no such file")
    with open_csv(path, FLAG) as file:
        names, separator = file.header, file.separator
        rows = ([*values, *[""] * len(names)][: len(names)] for _, values in file.rows())
        first = list(itertools.islice(rows, CHECKED_ROWS))
        stored = _stored_columns(names, first)
        texts = [[row[index] for index in stored] for row in itertools.chain(first, rows)]
    repeated = next((name for name, count in Counter(names).items() if name and count > 1), None)
    if repeated is not None:
        raise UserError(f"{source}: two columns are named '{repeated}'")
    table = pd.DataFrame(texts, columns=stored, dtype=str)
    # Without the columns of separators at the end of all lines.
    kept = [index for index, name in enumerate(names) if name or table[index].str.strip().any()]
    if len(kept) < 2:
        raise UserError(
            f"{source}: expected at least two columns, such as id,label; got {', '.join(names) or 'none'}"
        )
    table = table[[index for index in kept if index in table]].rename(columns=dict(enumerate(names)))
    return SampleSubmission(table, source, separator, tuple(names[index] for index in kept))


def _stored_columns(names: Sequence[str], first: Sequence[Sequence[str]]) -> list[int]:
    """Return the columns whose values are read: all, or of many those that may hold ids or row numbers, and
    those of times.

    In a column of ids most values differ, where one of probabilities has placeholders.

    Args:
        names: names of the columns.
        first: values of the first rows.
    """
    if len(names) <= MAX_STORED_COLUMNS:
        return list(range(len(names)))
    return [
        index
        for index, name in enumerate(names)
        if index < 2
        or name.lower() in INDEX_NAMES
        or plain_name(name) in _TIMES
        or 2 * len({values[index] for values in first}) > len(first)
    ]


def split_columns(sample: SampleSubmission, clips: RowIndex) -> tuple[str, list[str]]:
    """Return the column of ids, in doubt the first one, and the columns to fill.

    Raises:
        UserError: the header is a row.
    """
    rows = sample.table.head(CHECKED_ROWS)
    scores = {name: _matches(rows[name], clips) for name in rows.columns}
    columns = _columns_with_content(sample)
    stored = [name for name in columns if name in scores] or list(scores)
    candidates = [name for name in stored if normal_form(name) not in VALUE_HEADERS] or stored
    if not any(scores[name] > NO_MATCH for name in candidates):
        # Files may be numbered as well: then the column that numbers the rows has their ids.
        candidates = [
            name for name in scores if name not in columns and scores[name] > NO_MATCH
        ] or candidates
    id_column = max(candidates, key=lambda name: scores[name])
    if id_column.lower() not in PATH_COLUMNS and clips.find(id_column):
        raise UserError(
            f"{sample.source}: '{id_column}' in the first line is an audio file; "
            "expected names of columns there, such as id,label"
        )
    return id_column, [name for name in columns if name != id_column]


def _columns_with_content(sample: SampleSubmission) -> list[str]:
    """Return the columns other than one that numbers the rows, or all if fewer than two would remain."""
    table = sample.table
    columns = [name for name in sample.names if name not in table or not _numbers_rows(name, table[name])]
    return columns if len(columns) > 1 else list(sample.names)


def _numbers_rows(name: str, values: pd.Series) -> bool:
    if name.lower() not in INDEX_NAMES:
        return False
    numbers = [str(number) for number in range(len(values) + 1)]
    return values.tolist() in (numbers[:-1], numbers[1:])


def _matches(values: pd.Series, clips: RowIndex) -> tuple[int, int]:
    """Return how many values match a clip, and how many clips they match.

    Repeated values, such as 0 in every row, are placeholders even if there is a file `0.wav`.
    """
    found = [positions for positions in map(clips.find, values) if positions]
    distinct = len({position for positions in found for position in positions})
    return (len(found), distinct) if len(found) == 1 or 2 * distinct > len(found) else NO_MATCH
