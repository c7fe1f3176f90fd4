"""Rows of a table and the values in them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from pipeline.data.clips import CHUNK_ROWS, MAX_FOLD, NO_FOLD, normalize_id, shown
from pipeline.data.labels import parse_label_list, split_labels
from pipeline.data.sources.file_finder import is_normal_path
from pipeline.data.sources.one_hot_table import StatedClasses
from pipeline.data.sources.split_names import split_of_value
from pipeline.io.storage import is_store_uri
from pipeline.io.table_files import ListText

# Number and values of a row.
Row = tuple[int, Sequence[str]]

# Empty, or as pandas may write a missing value.
NO_VALUES = ("", "nan")
# The same where names of classes such as `None` cannot be meant, as programs write it.
MISSING_VALUES = (*NO_VALUES, "na", "n/a", "<na>", "none", "null")
# What to do if a row has several classes.
SEVERAL_CLASSES_FIX = "add --multi-label, or name another column by --label-column"
# Slashes and dots that a path does not need.
_REDUNDANT = re.compile(r"//|/$|(^|/)\.(/|$)|^$")
# Spreadsheets and pandas may write 1.0, or 1,0 with a decimal comma; people also fold1, as folders are named.
_FOLD = re.compile(r"(-?\d+)(?:\.0*|,00?)?|fold[_\- ]?(\d+)", re.IGNORECASE)


def row_chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
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


def listed_classes(values: Sequence[str], column: int | None) -> list[str]:
    """Return the classes in a value that is a list, or the text of one as `parse_label_list` reads it.

    Raises:
        ValueError: brackets without a list in them.
    """
    text = normalize_id(row_value(values, column))
    return split_labels(text) if is_list_value(values, column) else parse_label_list(text)


def is_list_value(values: Sequence[str], column: int | None) -> bool:
    """Return whether a value is a list, rather than the text of one."""
    return column is not None and column < len(values) and isinstance(values[column], ListText)


def states_classes(values: Sequence[str], column: int | None) -> bool:
    """Return whether a row states of each class whether it is there, so that no class is a statement too."""
    return column is not None and column < len(values) and isinstance(values[column], StatedClasses)


def parse_fold(text: str) -> int:
    """Return a fold number, `NO_FOLD` for a missing value.

    Raises:
        ValueError: not a number, or too large.
    """
    if text.lower() in MISSING_VALUES:
        return NO_FOLD
    match = _FOLD.fullmatch(text)
    if match is not None and NO_FOLD <= (fold := int(match[1] or match[2])) <= MAX_FOLD:
        return fold
    fix = (
        "" if split_of_value(text) is None else "; to leave out rows of other splits, name the column 'split'"
    )
    raise ValueError(f"fold {shown(text)} is not an integer up to {MAX_FOLD:,}{fix}")


def file_clip_id(name: str) -> str:
    """Return the id of a clip whose file has a name: without slashes and dots that a path does not need."""
    if is_normal_path(name) or is_store_uri(name) or not _REDUNDANT.search(name):
        return name
    return PurePosixPath(name).as_posix()
