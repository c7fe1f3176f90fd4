"""Columns of times and classes in tables of events, by the names that people and programs give them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.data.clips import shown
from pipeline.data.sources.column_names import (
    LABEL_COLUMNS,
    first_column,
    plain_names,
)
from pipeline.data.sources.one_hot_table import OneHotTable
from pipeline.data.sources.table_columns import TimeColumns, chosen_label_column, subject_column
from pipeline.io.errors import UserError
from pipeline.io.table_files import Table

_MILLISECONDS = ("_ms", "_msec", "_msecs", "_millis", "_milliseconds")
_UNITS = ("", "_s", "_sec", "_secs", "_seconds", *_MILLISECONDS)
# Of starts in units whose length in seconds is not known, or that are not usual for events.
_OTHER_START = re.compile(r"(start|begin|onset)(_?time)?_(samples?|frames?|idx|index|min|minutes?|h|hours?)")


def _with_units(names: str) -> tuple[str, ...]:
    return tuple(name + unit for name in names.split() for unit in _UNITS)


# Names of columns as `plain_names` returns them; the first one that a table has is used.
START_COLUMNS = _with_units(
    "start begin onset start_time begin_time onset_time starttime begintime t_min tmin"
)
END_COLUMNS = _with_units("end stop end_time stop_time endtime stoptime t_max tmax offset offset_time")
# Columns of ends that belong to a column of starts, without their units.
_ENDS = {
    **dict.fromkeys(("start", "begin"), ("end", "stop")),
    **dict.fromkeys(("start_time", "begin_time"), ("end_time", "stop_time")),
    **dict.fromkeys(("starttime", "begintime"), ("endtime", "stoptime")),
    **{"onset": ("offset",), "onset_time": ("offset_time",), "t_min": ("t_max",), "tmin": ("tmax",)},
}
# Used if there is no column of ends, or if `offset` is not that of ends, but of starts (Kaleidoscope).
DURATION_COLUMNS = _with_units("duration event_duration length event_length delta_time")
_OFFSETS = _with_units("offset offset_time")
# Of Raven and BirdNET: file in which an event begins, and its start in that file.
FILE_COLUMNS, OFFSET_COLUMNS = ("begin_path", "begin_file"), _with_units("file_offset")
# Of Kaleidoscope: a file, and the folder that it is in.
KALEIDOSCOPE_FILE, KALEIDOSCOPE_FOLDER = "in_file", "folder"
# The same in tables of other programs; columns such as `id` may number the events.
NAME_COLUMNS = (
    *FILE_COLUMNS,
    KALEIDOSCOPE_FILE,
    *"path filepath file_path filename file_name fname file audio_path audio_file recording".split(),
)
# Of a slice that is a file of its own (UrbanSound8K); times are those of the recording it was cut from.
SLICE_COLUMN = "slice_file_name"
# In events a column of one kind may come with those of others, as species and call type: the first one is
# used. Without any, those of `SUBJECT_COLUMNS` are.
EVENT_LABEL_COLUMNS = (
    *LABEL_COLUMNS,
    *"species annotation annotations common_name event_label event sound_type call_type".split(),
    *"scientific_name species_code code tag tags type".split(),
    *"manual_id auto_id top1match".split(),  # Kaleidoscope
)


@dataclass(frozen=True)
class EventColumns:
    """Positions of the columns of an event; None for a missing one."""

    times: TimeColumns
    label: int | None
    selection: int | None = None
    """Number of a selection in Raven, which has a row for each view that shows it."""
    file: int | None = None
    """File in which the event begins."""
    file_offset: int | None = None
    """Start of the event in that file; the other times are those of a sequence of files."""


def start_and_end(names: Sequence[str]) -> tuple[int | None, int | None]:
    """Return the positions of the columns of starts and ends, by names as `plain_name` returns them.

    The first column of starts with an end that belongs to it, as `start_time` and `end_time`, is preferred.
    """
    for start in (name for name in START_COLUMNS if name in names):
        if (end := first_column(names, _ends_of(start))) is not None:
            return names.index(start), end
    return first_column(names, START_COLUMNS), first_column(names, END_COLUMNS)


def _ends_of(start: str) -> list[str]:
    """Return the columns of ends that belong to one of starts, first that in the same unit."""
    name = next(name for name in _ENDS if start.removeprefix(name) in _UNITS)
    unit = start.removeprefix(name)
    return [end + other for end in _ENDS[name] for other in (unit, *_UNITS)]


def time_columns(table: Table) -> TimeColumns | None:
    """Return the columns of start and end of events; None if the table has neither, or lists slices.

    Raises:
        UserError: it has only one of them, or times in other units than seconds and milliseconds.
    """
    names = plain_names(table)
    if SLICE_COLUMN in names:
        return None
    start, end = start_and_end(names)
    duration = first_column(names, DURATION_COLUMNS)
    if duration is not None and end is not None and names[end] in _OFFSETS:
        if start is None:
            start, end = end, None
        elif names[end] not in _ends_of(names[start]):
            end = None
    if start is None and end is None:
        if other := next((name for name in names if _OTHER_START.fullmatch(name)), None):
            raise UserError(
                f"{table.name}: column {shown(table.header[names.index(other)])}: times are read in seconds "
                "or milliseconds; convert them, and name the columns start,end or start_ms,end_ms"
            )
        return None
    if start is not None and end is None and duration is not None:
        return _same_unit(table, names, TimeColumns(start, duration, is_duration=True))
    if start is None or end is None:
        missing, present = ("start", end) if start is None else ("end", start)
        assert present is not None
        raise UserError(
            f"{table.name}: a column {shown(table.header[present])}, but none '{missing}'; events need a "
            "start, and an end (the same for a point in time) or a duration"
        )
    return _same_unit(table, names, TimeColumns(start, end))


def _same_unit(table: Table, names: Sequence[str], times: TimeColumns) -> TimeColumns:
    """Return the columns with their unit, by their names.

    Raises:
        UserError: one has seconds, the other milliseconds.
    """
    units = [0.001 if names[column].endswith(_MILLISECONDS) else 1.0 for column in (times.start, times.end)]
    if units[0] != units[1]:
        pair = " and ".join(shown(table.header[column]) for column in (times.start, times.end))
        raise UserError(f"{table.name}: columns {pair} have different units; convert one of them")
    return times._replace(unit=units[0])


def event_columns(table: OneHotTable, label_column: str | None) -> EventColumns:
    """Return the columns of a table with the events of one recording.

    Raises:
        UserError: it has no times, not the column that `label_column` names, or several that can be that of
            the classes.
    """
    names, times = plain_names(table), time_columns(table)
    if times is None:
        raise UserError(
            f"{table.name}: neither a table with columns such as 'Begin Time (s)' and 'End Time (s)' nor "
            f"Audacity labels (start, tab, end, tab, label); it begins with {shown(','.join(table.header))}"
        )
    if table.label is not None:
        label: int | None = table.label
    elif label_column is None:
        label = first_column(names, EVENT_LABEL_COLUMNS)
        if label is None:
            label = subject_column(table, names)
    else:
        label = chosen_label_column(table, label_column)
    return EventColumns(
        times,
        label,
        first_column(names, ("selection",)) if "view" in names else None,
        first_column(names, NAME_COLUMNS),
        first_column(names, OFFSET_COLUMNS),
    )
