"""Which columns of a table have 0 and 1 for each class or split: by their values, as names may be any."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pipeline.data.annotations.event_columns import (
    DURATION_COLUMNS,
    END_COLUMNS,
    EVENT_LABEL_COLUMNS,
    KALEIDOSCOPE_FOLDER,
    NAME_COLUMNS,
    OFFSET_COLUMNS,
    START_COLUMNS,
)
from pipeline.data.clips import shown, shown_list
from pipeline.data.sources.column_names import (
    LABEL_LIST_COLUMNS,
    MORE_LABEL_COLUMNS,
    OTHER_LIST_COLUMNS,
    PATH_COLUMNS,
    RECORDING_COLUMNS,
    SPLIT_COLUMNS,
    SUBJECT_COLUMNS,
    plain_name,
    plain_names,
)
from pipeline.data.sources.one_hot_table import OneHotTable
from pipeline.data.sources.row_values import MISSING_VALUES, Row, row_value
from pipeline.data.sources.split_names import Split, split_of_flag, split_of_value, truth_of
from pipeline.io.errors import UserError
from pipeline.io.table_files import Table

# Columns that are no classes, as melray reads them for something else, or programs number rows by them.
_KNOWN = frozenset(
    (
        *PATH_COLUMNS, *NAME_COLUMNS, *RECORDING_COLUMNS, *SPLIT_COLUMNS, *MORE_LABEL_COLUMNS, "fold",
        *START_COLUMNS, *END_COLUMNS, *DURATION_COLUMNS, *OFFSET_COLUMNS, KALEIDOSCOPE_FOLDER,
        "", "index", "unnamed_0", "selection", "view", "channel",
        "low_freq_hz", "high_freq_hz", "low_f", "high_f",
    )
)  # fmt: skip
_LABELS = frozenset((*EVENT_LABEL_COLUMNS, *LABEL_LIST_COLUMNS, *OTHER_LIST_COLUMNS))
# Columns of classes by their names, but of one class, such as `instrument`, if they have nothing but 0 and 1.
_SUBJECTS = frozenset(itertools.chain(*SUBJECT_COLUMNS))
# Words in names of columns of 0 and 1 that say something else about a clip than which classes it has.
_OTHER_WORDS = frozenset(
    "is has in valid validated verified manually checked reviewed confirmed curated annotated labeled "
    "labelled usable used use keep include included exclude excluded ignore ignored discard discarded remove "
    "removed hidden public private augmented synthetic original duplicate duplicated missing corrupt "
    "corrupted broken good bad ok quality rating score confidence probability salience take count num number "
    "channel channels stereo mono esc10 year month day hour weight level".split()
)
# Instead of true or false, for a row without a value.
_MISSING = "missing"
# Names of splits that may be something else in a column of their own, but not among those of other splits.
_SPLIT_NAMES = ("train", "valid", "validate", "eval", "evaluation", "dev", "devel")


@dataclass
class _Values:
    """What the values of some columns are, over all rows."""

    flags: list[int]
    """Columns with nothing but 0 and 1 (or true and false), and missing values, of which none is empty."""
    splits: tuple[int, ...]
    """Columns of which exactly one is 1 in each row, or at most one if none of them is that of the training
    split; none if there is a row of which that is not true."""
    missing: dict[int, int] = field(default_factory=dict)
    """First line that has no value in a column but has one in others, by column."""


def with_one_hot_columns(
    table: Table, label_column: str | None, rows: Iterable[Row], find_classes: bool = True
) -> OneHotTable:
    """Return a table in which one column stands for those of its classes, and one for those of its splits.

    Columns of classes are all columns of which nothing else is known, if there are at least two, all have
    nothing but 0 and 1, and no other column has the classes by its name; or those that `label_column` names,
    separated by commas. Without such columns the table has those that it had.

    Args:
        table: the open table.
        label_column: setting of the column of the classes.
        rows: all of its rows, which are only read if there may be such columns.
        find_classes: whether there is no other column of classes, so that there may be those of one each.

    Raises:
        UserError: only some of the columns can be those of classes.
    """
    named = _named_columns(table, label_column)
    splits = _split_columns(table.header)
    unknown = _unknown_columns(table) if label_column is None and find_classes else []
    if not (splits or len(unknown) > 1):
        return OneHotTable(table, named)
    values = _read(rows, table.header, unknown, splits)
    classes = named or tuple(position for position in unknown if position not in values.splits)
    if not named and (_has_label(table, classes, values) or not _are_classes(table, classes, values)):
        classes = ()
    return OneHotTable(table, classes, values.splits)


def _named_columns(table: Table, label_column: str | None) -> tuple[int, ...]:
    """Return the columns that a text such as `dog,rain` names; none if it names one column, or none."""
    names = [name.casefold() for name in table.header]
    if label_column is None or label_column.strip().casefold() in names:
        return ()
    parts = list(dict.fromkeys(part.strip().casefold() for part in label_column.split(",")))
    return tuple(map(names.index, parts)) if len(parts) > 1 and all(part in names for part in parts) else ()


def _split_columns(header: Sequence[str]) -> tuple[int, ...]:
    """Return the columns that are named as training and held-out splits, or as several held-out ones."""
    if any(plain_name(column) in SPLIT_COLUMNS for column in header):
        return ()
    named = {position: split for position, column in enumerate(header) if (split := _named_split(column))}
    if {"train", "held out"} <= set(named.values()):
        return tuple(named)
    flags = [position for position, column in enumerate(header) if split_of_flag(column) == "held out"]
    return tuple(flags) if len(flags) > 1 else ()


def _named_split(column: str) -> Split | None:
    is_unclear = plain_name(column).removeprefix("is_") in _SPLIT_NAMES
    return split_of_value(column) if is_unclear else split_of_flag(column)


def _unknown_columns(table: Table) -> list[int]:
    """Return the columns of which nothing is known; none if a column has a usual name of classes."""
    names = plain_names(table)
    if not _LABELS.isdisjoint(names):
        return []
    return [
        position
        for position, name in enumerate(names)
        if name not in _KNOWN and split_of_flag(table.header[position]) is None
    ]


def _read(
    rows: Iterable[Row], header: Sequence[str], unknown: Sequence[int], splits: tuple[int, ...]
) -> _Values:
    """Read the values of the columns that may be those of classes and of splits, as long as any may be."""
    read, with_values = _Values(list(unknown), splits), set[int]()
    numbers_true = (1,) if "train" in map(_named_split, (header[one] for one in splits)) else (0, 1)
    for line, values in rows:
        truths = {one: _truth(values, one) for one in (*read.flags, *read.splits)}
        marks = [truths[one] for one in read.splits]
        if marks.count(True) not in numbers_true or None in marks:
            read.splits = ()
        read.flags = [one for one in read.flags if truths[one] is not None]
        stated = [one for one in read.flags if truths[one] is not _MISSING]
        with_values.update(stated)
        for one in read.flags if 0 < len(stated) < len(read.flags) else []:
            if truths[one] is _MISSING:
                read.missing.setdefault(one, line)
        if len(read.flags) < 2 and not read.splits:
            break
    read.flags = [one for one in read.flags if one in with_values]
    return read


def _truth(values: Sequence[str], column: int) -> bool | str | None:
    """Return whether a value is true, `_MISSING` without a value, or None if it is neither true nor false."""
    value = row_value(values, column)
    return _MISSING if value.lower() in MISSING_VALUES else truth_of(value)


def _has_label(table: Table, columns: Sequence[int], values: _Values) -> bool:
    """Return whether one of some columns has the classes, by its name and its values."""
    names = plain_names(table)
    return any(names[position] in _SUBJECTS and position not in values.flags for position in columns)


def _are_classes(table: Table, columns: Sequence[int], values: _Values) -> bool:
    """Return whether some columns are those of classes.

    Raises:
        UserError: some of them may be, and others are not, or have no value in a row.
    """
    flags = [position for position in columns if position in values.flags]
    names = [table.header[position] for position in flags]
    others = [table.header[position] for position in columns if position not in flags]
    unclear = [
        name
        for name in names
        if _named_split(name) is not None or not _OTHER_WORDS.isdisjoint(plain_name(name).split("_"))
    ]
    if len(flags) < 2:
        return False
    missing = next((position for position in flags if position in values.missing), None)
    if not (others or unclear or missing is not None):
        return True
    classes = [name for name in names if name not in unclear] or names
    if unclear or others:
        example = ",".join(classes if len(classes) <= 3 else [*classes[:3], "…"])
        fix = (
            f"remove {shown((unclear or others)[0])}, which seems to be none, or name all that are: "
            f"--label-column {example}"
        )
    else:
        assert missing is not None
        line = values.missing[missing]
        fix = f"write 0 or 1 in each row, also in column {shown(table.header[missing])} of line {line}"
    raise UserError(
        f"{table.name}: no column 'label'; if columns of 0 and 1 ({shown_list(names)}) are the classes, "
        f"{fix}; if another column has the classes, name it by --label-column"
    )
