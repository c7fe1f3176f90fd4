"""Columns of a table of clips: which ones are used, by the names that people give them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.audio.file_types import EXTENSIONS, UNSUPPORTED_EXTENSIONS, ending
from pipeline.data.clips import shown, shown_list
from pipeline.data.sources.file_finder import FileFinder
from pipeline.data.sources.one_hot_table import OneHotTable
from pipeline.data.sources.split_names import split_of_flag
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.io.table_files import Table

# Names of columns as by `plain_name`; the first one that a table has is used.
PATH_COLUMNS = (
    "path filepath file_path filename file_name fname file audio audio_path audio_file audio_filepath "
    "audio_file_path wav wav_path wav_file slice_file_name audio_filename audio_file_name mp3_path mp3_file "
    "clip clip_name clip_id recording_id id segment_id itemid uuid ytid"
).split()
LABEL_COLUMNS = "label primary_label class category class_name label_name target scene_label".split()
# What else columns of classes are named, by what the classes are: used if a table has those of one kind only,
# as others may say something else about a clip. The first column of a kind is used.
SUBJECT_COLUMNS = (
    ("species", "common_name", "scientific_name", "species_code", "ebird_code"),
    ("event_label", "sound_event", "event", "sound_type", "annotation"),
    ("emotion",),
    ("genre",),
    ("instrument",),
    ("keyword",),
    ("command",),
)
# Columns of all classes, or of those in addition to the first one: lists of names in one text.
LABEL_LIST_COLUMNS, MORE_LABEL_COLUMNS = ("labels",), ("secondary_labels",)
# The same (DCASE, DESED), used if a table has no other column of classes.
OTHER_LIST_COLUMNS = ("event_labels", "class_labels", "weak_labels", "positive_labels")
# Columns that name the recording a clip was cut from, also in ESC-50 (`src_file`) and UrbanSound8K (`fsID`).
RECORDING_COLUMNS = ("group", "src_file", "fsid")
# Column of the place that clips of acoustic scenes were recorded in (DCASE), next to that of the scenes.
SCENE_COLUMN, PLACE_COLUMN = "scene_label", "identifier"
ID_COLUMNS = ("clip_id", "id")
SPLIT_COLUMNS = ("split", "subset", "set", "partition")


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
    names = _column_names(table)
    found = _first(names, PATH_COLUMNS), _first(names, LABEL_COLUMNS)
    path, label = (
        other if usual is None else usual for usual, other in zip(found, other_columns, strict=True)
    )
    if table.label is not None:
        label = table.label
    elif label_column is not None:
        label = chosen_label_column(table, label_column)
    elif label is None:
        label = _first(names, LABEL_LIST_COLUMNS)
    if label is None:
        label = subject_column(table, names)
    # If one of these is requested as a column of classes, commas are parts of names, as in any other.
    other_list = _first(names, OTHER_LIST_COLUMNS) if label is None else None
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
        _first(names, ("fold",)),
        _first(names, (*RECORDING_COLUMNS, *((PLACE_COLUMN,) if SCENE_COLUMN in names else ()))),
        split_candidates=tuple(
            position for position in _split_candidates(table, names) if position not in (path, label)
        ),
        times=times,
        label_is_list=names[label] in LABEL_LIST_COLUMNS or label == other_list,
        label_name=table.header[label],
        more_labels=_first(names, MORE_LABEL_COLUMNS),
    )


def subject_column(table: Table, names: Sequence[str]) -> int | None:
    """Return the column of classes by one of `SUBJECT_COLUMNS`; None without any.

    `names` are those of the columns as by `plain_name`. Next to `instrument_str` and `instrument_family_str`
    (NSynth), `instrument` has numbers of what may not be the classes.

    Raises:
        UserError: there are columns of several kinds, or with texts of numbers.
    """
    found = [position for kind in SUBJECT_COLUMNS if (position := _first(names, kind)) is not None]
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
    names = _column_names(table)
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
    return _first(_column_names(table), PATH_COLUMNS)


def has_lists(column: str) -> bool:
    """Return whether a column of any number of classes has lists of them, by its name, as `event_labels`."""
    return plain_name(column).split("_")[-1] in LABEL_LIST_COLUMNS


def plain_name(name: str) -> str:
    """Return a name in lower case with `_` for all but letters and digits, such as `begin_time_s`."""
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


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
    names = _column_names(table)
    path = _first(names, PATH_COLUMNS)
    if path is not None:
        clip_id = _first(names, ID_COLUMNS)
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


def _column_names(table: Table) -> list[str]:
    """Return the names of the columns as by `plain_name`, unless another column is named exactly so.

    Raises:
        UserError: two columns that are used have the same name.
    """
    names = ["_".join(name.lower().split()) for name in table.header]
    for position, column in enumerate(table.header):
        if (plain := plain_name(column)) not in names:
            names[position] = plain
    used = {*PATH_COLUMNS, *LABEL_COLUMNS, *SPLIT_COLUMNS, *RECORDING_COLUMNS, "fold"}
    twice = [name for name, count in Counter(names).items() if count > 1 and name in used]
    if twice:
        raise UserError(f"{table.name}: two columns are named '{twice[0]}'; rename or remove one")
    return names


def _first(names: Sequence[str], accepted: Sequence[str]) -> int | None:
    """Return the position of the first accepted name that is there."""
    return next((names.index(name) for name in accepted if name in names), None)
