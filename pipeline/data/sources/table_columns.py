"""Columns of a table of clips: which ones are used, by the names that people give them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.audio.file_types import EXTENSIONS, UNSUPPORTED_EXTENSIONS, ending
from pipeline.data.clips import shown, shown_list
from pipeline.data.sources.column_names import (
    ID_COLUMNS,
    LABEL_COLUMNS,
    LABEL_LIST_COLUMNS,
    MORE_LABEL_COLUMNS,
    OTHER_LIST_COLUMNS,
    PATH_COLUMNS,
    PLACE_COLUMN,
    RECORDING_COLUMNS,
    SCENE_COLUMN,
    SPLIT_COLUMNS,
    SUBJECT_COLUMNS,
    column_names,
    first_column,
)
from pipeline.data.sources.file_finder import FileFinder
from pipeline.data.sources.one_hot_table import OneHotTable
from pipeline.data.sources.split_names import split_of_flag
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.io.table_files import Table


class NoLabelColumnError(UserError):
    """No column has a usual name of classes."""


class TimeColumns(NamedTuple):
    """Positions of the columns of start and end of an event."""

    start: int
    end: int
    is_duration: bool = False
    """Whether `end` is how long the event lasts."""
    unit: float = 1.0
    """Seconds that a value of 1 stands for."""

    @property
    def roles(self) -> dict[int, str]:
        """What the columns are, by their positions."""
        return {self.start: "start", self.end: "duration" if self.is_duration else "end"}


@dataclass(frozen=True)
class Columns:
    """Positions of the columns that are used; None for a missing one."""

    path: int
    label: int | None = None
    fold: int | None = None
    group: int | None = None
    clip_id: int | None = None
    split: int | None = None
    """Set by `split_column`, as the next two, from the values of the columns."""
    held_out: frozenset[str] = frozenset()
    """Values of the rows of other splits than the training split."""
    split_notes: tuple[str, ...] = ()
    """Warnings about which rows are those of the training split."""
    other_splits: tuple[tuple[int, frozenset[str]], ...] = ()
    """Further columns that name splits, with their values of rows of other splits; they are not followed."""
    split_candidates: tuple[int, ...] = ()
    """Columns that may be that of the splits, by their names: of its values, or of true and false."""
    times: TimeColumns | None = None
    label_is_list: bool = False
    """Whether the label is the text of a list."""
    label_name: str = ""
    """Name of the column of the label."""
    more_labels: int | None = None
    """Further classes, as the text of a list."""

    @property
    def used(self) -> set[int]:
        """Positions of the columns that have another use than that of the splits."""
        columns = (self.path, self.label, self.fold, self.group, self.clip_id, self.more_labels)
        return {column for column in columns if column is not None} | set(
            self.times.roles if self.times else ()
        )


def labeled_columns(
    table: OneHotTable,
    label_column: str | None = None,
    other_columns: tuple[int | None, int | None] = (None, None),
    times: TimeColumns | None = None,
) -> Columns:
    """Return the columns of a table of labeled clips, without that of the splits.

    Args:
        table: the open table.
        label_column: name of the column of the classes (default: the first of `LABEL_COLUMNS`, else that of
            `SUBJECT_COLUMNS`).
        other_columns: positions of paths and classes if the table has no column of the usual names.
        times: columns of start and end of events.

    Raises:
        NoLabelColumnError: no column of classes.
        UserError: no column of paths, or several that can be that of the classes.
    """
    names = column_names(table)
    found = first_column(names, PATH_COLUMNS), first_column(names, LABEL_COLUMNS)
    path, label = (
        other if usual is None else usual for usual, other in zip(found, other_columns, strict=True)
    )
    if table.label is not None:
        label = table.label
    elif label_column is not None:
        label = chosen_label_column(table, label_column)
    elif label is None:
        label = first_column(names, LABEL_LIST_COLUMNS)
    if label is None:
        label = subject_column(table, names)
    # If one of these is requested as a column of classes, commas are parts of names, as in any other.
    other_list = first_column(names, OTHER_LIST_COLUMNS) if label is None else None
    label = other_list if label is None else label
    if path is None or label is None:
        missing, error_type = ("path", UserError) if path is None else ("label", NoLabelColumnError)
        form = "path,label[,fold][,group]" if times is None else "path,start,end,label"
        raise error_type(
            f"{table.name}: no column '{missing}'; the first line must be {form}, "
            f"not {shown(','.join(table.header))}; "
            + (
                "if another column has the classes, name it by --label-column"
                if label is None
                else "file, filename or filepath are also read as path"
            )
        )
    return Columns(
        path,
        label,
        first_column(names, ("fold",)),
        first_column(names, (*RECORDING_COLUMNS, *((PLACE_COLUMN,) if SCENE_COLUMN in names else ()))),
        split_candidates=tuple(
            position for position in _split_candidates(table, names) if position not in (path, label)
        ),
        times=times,
        label_is_list=names[label] in LABEL_LIST_COLUMNS or label == other_list,
        label_name=table.header[label],
        more_labels=first_column(names, MORE_LABEL_COLUMNS),
    )


def subject_column(table: Table, names: Sequence[str]) -> int | None:
    """Return the column of classes by one of `SUBJECT_COLUMNS`; None without any.

    `names` are those of the columns as by `plain_name`. Next to `instrument_str` and `instrument_family_str`
    (NSynth), `instrument` has numbers of what may not be the classes.

    Raises:
        UserError: there are columns of several kinds, or with texts of numbers.
    """
    found = [position for kind in SUBJECT_COLUMNS if (position := first_column(names, kind)) is not None]
    if len(found) == 1:
        start = f"{names[found[0]]}_"
        found += [
            position
            for position, name in enumerate(names)
            if name.startswith(start) and name.endswith("_str")
        ]
    if len(found) > 1:
        raise UserError(
            f"{table.name}: {shown_list([table.header[position] for position in found])} can be the classes; "
            "name the column by --label-column"
        )
    return found[0] if found else None


def _split_candidates(table: OneHotTable, names: Sequence[str]) -> list[int]:
    """Return the columns that may name splits, then those that may mark training rows, and held-out rows."""
    flags: dict[str, list[int]] = {"train": [], "held out": []}
    for position, column in enumerate(table.header):
        if position not in table.replaced and (split := split_of_flag(column)) is not None:
            flags[split].append(position)
    named = [names.index(name) for name in SPLIT_COLUMNS if name in names]
    named += [] if table.split is None else [table.split]
    return named + flags["train"] + flags["held out"]


def log_columns(table: OneHotTable, columns: Columns, others: Collection[int | None] = ()) -> None:
    """Log which columns are used, unless the table has exactly those that are documented.

    Args:
        table: the open table.
        columns: columns that are used.
        others: positions of further ones, which are not ignored either.
    """
    names = column_names(table)
    used = {getattr(columns, role): role for role in ("path", "label", "fold", "group", "split")}
    used |= columns.times.roles if columns.times else {}
    ignored = [
        name
        for position, name in enumerate(table.header)
        if name and position not in used and position not in others and position not in table.replaced
    ]
    renamed = [
        f"{name} as {used[position]}"
        for position, name in enumerate(table.header)
        if position in (columns.path, columns.label)
        or (position == columns.group and names[position] != "group")
    ]
    if ignored or {"path", "label"} - set(names):
        note = f"; ignored: {', '.join(map(shown, ignored[:12]))}" if ignored else ""
        logger.info("%s: columns %s%s", table.name, ", ".join(renamed), note)


def describe_columns(table: Table, columns: Columns) -> str:
    """Return which columns are used for what, such as `column 'fname' = path, 'category' = label`."""
    roles = {"path": columns.path, "label": columns.label, "further labels": columns.more_labels}
    roles |= {"fold": columns.fold, "group": columns.group, "split": columns.split}
    roles |= {role: column for column, role in columns.times.roles.items()} if columns.times else {}
    texts = [
        f"{shown(table.header[column])} = {role}" for role, column in roles.items() if column is not None
    ]
    return f"column {', '.join(texts)}"


def path_column(table: Table) -> int | None:
    """Return the position of the column of paths; None if there is none."""
    return first_column(column_names(table), PATH_COLUMNS)


def chosen_label_column(table: Table, label_column: str) -> int:
    """Return the position of the column that `--label-column` names, in any case.

    Raises:
        UserError: there is no such column.
    """
    names = [name.casefold() for name in table.header]
    if label_column.strip().casefold() not in names:
        raise UserError(
            f"{table.name}: no column {shown(label_column)}, as --label-column requests; its columns are "
            f"{shown_list(table.header, 20)}"
        )
    return names.index(label_column.strip().casefold())


def unlabeled_columns(table: Table, finder: FileFinder) -> tuple[Columns, bool]:
    """Return the columns, and whether the first line is a header and not a clip."""
    names = column_names(table)
    path = first_column(names, PATH_COLUMNS)
    if path is not None:
        clip_id = first_column(names, ID_COLUMNS)
        return Columns(path, clip_id=None if clip_id == path else clip_id), True
    for column, value in enumerate(table.header):
        if value and (ending(value) in EXTENSIONS | UNSUPPORTED_EXTENSIONS or finder.exists(value)):
            return Columns(column), False
    if len(names) == 1:
        return Columns(0), True
    raise UserError(
        f"{table.name}: no column 'path'; the first line must be path or id,path, "
        f"not {shown(','.join(table.header))}; file, filename or filepath are also read as path"
    )
