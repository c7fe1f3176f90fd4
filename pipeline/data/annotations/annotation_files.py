"""Annotation files of one recording: Raven selection tables and the like, and Audacity label files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath

from pipeline.audio.file_types import ending
from pipeline.data.annotations.annotation import (
    Annotation,
    is_seconds,
    parse_annotation,
    shift_to_file,
    states_no_event,
)
from pipeline.data.annotations.event_columns import NAME_COLUMNS, EventColumns, event_columns, time_columns
from pipeline.data.clips import normalize_id, shown, shown_list
from pipeline.data.labels import join_labels, split_labels
from pipeline.data.sources.clip_table import open_labeled_table
from pipeline.data.sources.column_names import PATH_COLUMNS, first_column, plain_names
from pipeline.data.sources.row_values import states_classes
from pipeline.io.csv_files import open_csv, open_text
from pipeline.io.errors import UserError
from pipeline.io.table_files import Table
from pipeline.io.text import plural

_FLAG = "--annotations"
ANNOTATION_ENDINGS = ("txt", "tsv", "csv")


def read_annotation_file(path: Path, recording: str, label_column: str | None = None) -> list[Annotation]:
    """Read the events of a recording; an empty file has none.

    Args:
        path: a table with a header, as Raven and BirdNET write it, or Audacity labels.
        recording: path of the audio file, by which its rows are found in a table of several files.
        label_column: column of the classes in tables.

    Raises:
        UserError: it is neither, or a value is invalid; the message names the line.
    """
    with open_text(path, _FLAG) as file:
        first = next((line for line in file if line.strip()), "")
    if not first:
        return []
    if _is_audacity(first):
        events = list(_audacity_events(path))
    else:
        with open_labeled_table(path, _FLAG, label_column) as table:
            events = _table_events(table, event_columns(table, label_column), recording)
    return [event for event in events if not states_no_event(event.label)]


def names_no_recording(path: Path) -> bool:
    """Return whether a file has events, and no column of files: Audacity labels, most tables of Raven.

    Raises:
        UserError: it cannot be read, or has other than one column of starts and one of ends.
    """
    if ending(path.name) not in ANNOTATION_ENDINGS:
        return False
    with open_text(path, _FLAG) as file:
        first = next((line for line in file if line.strip()), "")
    if not first or _is_audacity(first):
        return True
    with open_csv(path, _FLAG) as table:
        names = plain_names(table)
        is_named = first_column(names, (*NAME_COLUMNS, *PATH_COLUMNS)) is not None
        return not is_named and time_columns(table) is not None


def _is_audacity(line: str) -> bool:
    """Return whether a line is one of an Audacity label file."""
    values = line.split("\t")
    return line.startswith("\\") or (len(values) > 1 and is_seconds(values[0]) and is_seconds(values[1]))


def _audacity_events(path: Path) -> Iterator[Annotation]:
    """Yield the events of lines such as `1.5<tab>2.75<tab>dog`; ranges of frequencies begin with a backslash.

    Raises:
        UserError: another line, also one with several numbers such as flags of classes (ICBHI).
    """
    with open_text(path, _FLAG) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip() or line.startswith("\\"):
                continue
            location = f"{_FLAG} {path}, line {number}"
            start, *rest = line.rstrip("\r\n").split("\t")
            if not rest:
                raise UserError(f"{location}: expected start, tab, end, tab, label, not {shown(start)}")
            if len(rest) > 2 and all(map(is_seconds, rest)):
                raise UserError(
                    f"{location}: several numbers after the times ({', '.join(rest[1:])}), none of which is "
                    "the name of a class; write start, tab, end, tab, class in each line"
                )
            # After the label, BirdNET writes its confidence.
            words = rest[1:-1] if len(rest) > 2 and is_seconds(rest[-1]) else rest[1:]
            yield parse_annotation(start, rest[0], normalize_id(" ".join(words)), location)


def _table_events(table: Table, columns: EventColumns, recording: str) -> list[Annotation]:
    """Return the events of a table, once each: Raven lists a selection for each of its views.

    Raises:
        UserError: an invalid value, or rows without a column of classes.
    """
    rows = _rows_of_file(list(table.rows()), columns, recording, table.name)
    if rows and columns.label is None:
        raise UserError(
            f"{table.name}: no column of classes; name it by --label-column, one of "
            f"{shown_list(table.header, 20)}"
        )
    events: dict[tuple, Annotation] = {}
    for line, values in rows:
        if not _value(values, columns.label) and states_classes(values, columns.label):
            continue
        event = _event(values, columns, f"{table.name}, line {line}")
        key = (line,) if columns.selection is None else (_value(values, columns.selection), *event[:2])
        before = split_labels(events[key].label) if key in events else []
        events[key] = event._replace(label=join_labels([*before, *split_labels(event.label)]))
    return list(events.values())


def _event(values: Sequence[str], columns: EventColumns, location: str) -> Annotation:
    start, end = _value(values, columns.times.start), _value(values, columns.times.end)
    label = normalize_id(_value(values, columns.label))
    event = parse_annotation(start, end, label, location, columns.times.is_duration, columns.times.unit)
    return shift_to_file(event, "" if columns.file is None else _value(values, columns.file_offset), location)


def _rows_of_file(
    rows: list[tuple[int, list[str]]], columns: EventColumns, recording: str, name: str
) -> list[tuple[int, list[str]]]:
    """Return the rows of a recording, if the table names several files; otherwise all rows.

    Raises:
        UserError: it names several files, and not the recording, or a row names none of them.
    """
    files = {line: _value(values, columns.file) for line, values in rows}
    stems = {line: _stem(file) for line, file in files.items()}
    named = dict(zip(stems.values(), files.values(), strict=True))
    unnamed = [line for line, stem in stems.items() if not stem]
    named.pop("", None)
    if len(named) < 2:
        return rows if _stem(recording) not in named else _rows_of_folder(rows, files, recording)
    if _stem(recording) not in named:
        raise UserError(
            f"{name}: its events are in {shown_list(list(named.values()))}, none of which is "
            f"{shown(recording)}; correct the names of files in it, or rename it"
        )
    if unnamed:
        raise UserError(
            f"{name}, line {unnamed[0]}: names no file, but other lines name {plural(len(named), 'file')}; "
            "add that of this event"
        )
    rows = [(line, values) for line, values in rows if stems[line] == _stem(recording)]
    return _rows_of_folder(rows, files, recording)


def _rows_of_folder(
    rows: list[tuple[int, list[str]]], files: dict[int, str], recording: str
) -> list[tuple[int, list[str]]]:
    """Return the rows of the files, all named like a recording, whose folders are most like its folders.

    Files without a folder in common with it may be the recording, before it was moved.
    """
    common = {file: _common_folders(file, recording) for file in {files[line] for line, _ in rows}}
    most = max(common.values())
    return [(line, values) for line, values in rows if not files[line] or common[files[line]] == most]


def _common_folders(first: str, second: str) -> int:
    """Return how many folders two paths have in common at their ends."""
    pairs = zip(_folders(first), _folders(second), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _folders(path: str) -> list[str]:
    """Return the folders of a path, which may be one of Windows, the last one first."""
    return [part.casefold() for part in reversed(PureWindowsPath(path).parts[:-1])]


def _stem(name: str) -> str:
    """Return the name of a file without folder and ending, for comparisons; paths may be of Windows."""
    return PureWindowsPath(name).stem.casefold()


def _value(values: Sequence[str], column: int | None) -> str:
    return values[column].strip() if column is not None and column < len(values) else ""
