"""Sample submission: a CSV whose columns, ids and row order a submission follows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.classifier.class_names import normal_form
from pipeline.classifier.clip_ids import ClipIndex
from pipeline.classifier.submission_values import LABEL_HEADERS, PROBABILITY_HEADERS
from pipeline.data.sources.table_columns import PATH_COLUMNS
from pipeline.io.csv_files import open_csv
from pipeline.io.errors import UserError

FLAG = "--sample-submission"
# Names of a column that numbers the rows, such as the one that pandas writes.
INDEX_NAMES = ("", "unnamed: 0", "index")
# Rows by which the column of ids is recognized.
CHECKED_ROWS = 1000
# Columns of values, even if they match files: class 1 is no file `1.wav`.
VALUE_HEADERS = LABEL_HEADERS | PROBABILITY_HEADERS
# Score of a column without ids.
NO_MATCH = (0, 0)


@dataclass(frozen=True)
class SampleSubmission:
    """Table of a sample submission, and what messages and the written file need to know about it."""

    table: pd.DataFrame
    """All columns as text, without blank rows."""
    source: str
    """Flag and path, for messages."""
    separator: str = ","


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
        rows = [[*values, *[""] * len(names)][: len(names)] for _, values in file.rows()]
    repeated = next((name for name in names if name and names.count(name) > 1), None)
    if repeated is not None:
        raise UserError(f"{source}: two columns are named '{repeated}'")
    table = pd.DataFrame(rows, columns=range(len(names)), dtype=str)
    # Without the columns of separators at the end of all lines.
    kept = [index for index, name in enumerate(names) if name or table[index].str.strip().any()]
    if len(kept) < 2:
        raise UserError(
            f"{source}: expected at least two columns, such as id,label; got {', '.join(names) or 'none'}"
        )
    table = table[kept].set_axis([names[index] for index in kept], axis=1)
    return SampleSubmission(table, source, separator)


def split_columns(sample: SampleSubmission, clips: ClipIndex) -> tuple[str, list[str]]:
    """Return the column of ids, in doubt the first one, and the columns to fill.

    Raises:
        UserError: the header is a row.
    """
    rows = sample.table.head(CHECKED_ROWS)
    scores = {name: _matches(rows[name], clips) for name in sample.table.columns}
    columns = _columns_with_content(sample.table)
    candidates = [name for name in columns if normal_form(name) not in VALUE_HEADERS] or columns
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


def _columns_with_content(table: pd.DataFrame) -> list[str]:
    """Return the columns other than one that numbers the rows, or all if fewer than two would remain."""
    columns = [name for name in table.columns if not _numbers_rows(name, table[name])]
    return columns if len(columns) > 1 else list(table.columns)


def _numbers_rows(name: str, values: pd.Series) -> bool:
    numbers = [str(number) for number in range(len(values) + 1)]
    return name.lower() in INDEX_NAMES and values.tolist() in (numbers[:-1], numbers[1:])


def _matches(values: pd.Series, clips: ClipIndex) -> tuple[int, int]:
    """Return how many values match a clip, and how many clips they match.

    Repeated values, such as 0 in every row, are placeholders even if there is a file `0.wav`.
    """
    found = [positions for positions in map(clips.find, values) if positions]
    distinct = len({position for positions in found for position in positions})
    return (len(found), distinct) if len(found) == 1 or 2 * distinct > len(found) else NO_MATCH
