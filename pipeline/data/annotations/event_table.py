"""Clips and their events from a CSV in which several rows may name one file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from pipeline.data.annotations.annotated_folder import AnnotatedClips, Events, union_label
from pipeline.data.annotations.annotation import (
    Annotation,
    parse_annotation,
    parse_label,
    shift_to_file,
    states_no_event,
)
from pipeline.data.annotations.event_columns import (
    EVENT_LABEL_COLUMNS,
    FILE_COLUMNS,
    KALEIDOSCOPE_FILE,
    KALEIDOSCOPE_FOLDER,
    OFFSET_COLUMNS,
    time_columns,
)
from pipeline.data.annotations.recording_names import RecordingNames
from pipeline.data.clips import normalize_id, shown, shown_list
from pipeline.data.labels import check_no_object, is_list_text, join_labels, split_labels
from pipeline.data.sources.audio_location import AudioLocation
from pipeline.data.sources.clip_table import header_note, open_labeled_table, rows_again
from pipeline.data.sources.column_names import first_column, has_lists, plain_names
from pipeline.data.sources.file_finder import FileFinder, FoundFile
from pipeline.data.sources.missing_header import open_clip_table
from pipeline.data.sources.one_hot_table import OneHotTable
from pipeline.data.sources.row_values import (
    MISSING_VALUES,
    NO_VALUES,
    listed_classes,
    row_value,
    states_classes,
)
from pipeline.data.sources.split_column import contradiction_warnings, with_split_column
from pipeline.data.sources.table_columns import Columns, describe_columns, labeled_columns, log_columns
from pipeline.data.sources.table_reader import TableReader
from pipeline.io.errors import UserError


def has_times(path: Path, flag: str) -> bool:
    """Return whether a CSV has columns of start and end of events.

    Raises:
        UserError: not a CSV, or it has only one of the two.
    """
    with open_clip_table(path, flag) as table:
        return time_columns(table) is not None


def unused_times_warning(
    path: Path,
    flag: str,
    reason: str = " without --window: each clip is of the whole file; add --window SECONDS",
) -> list[str]:
    """Return a warning that the times of a table are not used, by default as they would be with `--window`.

    Tables of slices (UrbanSound8K), whose times are those of other files, have none. `reason` ends the text.

    Raises:
        UserError: not a table.
    """
    with open_clip_table(path, flag) as table:
        try:
            times = time_columns(table)
        except UserError:  # only one of the two columns, which need not be about events
            return []
        if times is None:
            return []
        names = ", ".join(shown(table.header[column]) for column in (times.start, times.end))
    return [f"{flag} {path}: its columns {names} are not used{reason}"]


def read_event_table(
    path: Path,
    flag: str,
    folder: Path,
    label_column: str | None,
    with_times: bool,
    location: AudioLocation | None = None,
    search: bool = False,
    all_splits: bool = False,
) -> AnnotatedClips:
    """Read clips from a CSV with the columns `path,label[,start,end][,fold][,group]`.

    A row without times, or of a table without such columns, is about the whole file. Without a class as well,
    it lists a file in which there may be no event.

    Args:
        path: the CSV.
        flag: command-line flag that names it.
        folder: folder to which paths are relative.
        label_column: column of the classes.
        with_times: whether start and end are read, if the table has them.
        location: where the files are, if not in `folder` as the table writes their paths.
        search: find files below `folder` by their names, if they are not where the table writes them.
        all_splits: whether rows of other splits than the training split are read too.

    Raises:
        NoListedFileError: no listed file exists.
        UserError: not a CSV, a missing column or an invalid value.
    """
    with open_labeled_table(path, flag, label_column) as table:
        names = plain_names(table)
        columns = _event_columns(table, label_column, with_times)
        if not all_splits:
            columns = with_split_column(table.name, table.header, columns, rows_again(table, path, flag))
        offset = (
            first_column(names, OFFSET_COLUMNS) if first_column(names, FILE_COLUMNS) is not None else None
        )
        reader = _EventTableReader(
            table.name,
            FileFinder(folder if location is None else location.folder),
            label_is_optional=True,
            location=location,
            offset_column=offset,
            folder_column=(
                first_column(names, (KALEIDOSCOPE_FOLDER,))
                if names[columns.path] == KALEIDOSCOPE_FILE
                else None
            ),
            recordings=RecordingNames(table.name, folder) if search else None,
        )
        if not all_splits:
            reader.find_split_folder(rows_again(table, path, flag), columns)
        rows = reader.read(table.rows(), columns, lambda: rows_again(table, path, flag))
        clips, events = reader.merge(rows)
        warnings = reader.check_files(path, rows.drop_duplicates(["clip_id", "path"]))
        warnings = [*header_note(table), *columns.split_notes, *warnings]
        warnings += contradiction_warnings(table.header, columns, reader.contradictions)
        if location is None:
            log_columns(table, columns, (reader.offset_column, reader.folder_column))
        described = describe_columns(table, columns)
        return AnnotatedClips(clips, events, warnings, described, reader.held_out_files)


def _event_columns(table: OneHotTable, label_column: str | None, with_times: bool) -> Columns:
    """Return the columns of a table of events, without that of the splits.

    Raises:
        UserError: no column of paths or classes, or one of starts or ends alone.
    """
    names = plain_names(table)
    file = first_column(names, (*FILE_COLUMNS, KALEIDOSCOPE_FILE))
    label = first_column(names, EVENT_LABEL_COLUMNS)
    times = time_columns(table) if with_times else None
    columns = labeled_columns(table, label_column, (file, label), times)
    is_list = columns.label is not None and has_lists(table.header[columns.label])
    return replace(columns, label_is_list=is_list)


@dataclass
class _EventTableReader(TableReader):
    """Reads rows that each have an event."""

    offset_column: int | None = None
    """Column with the start of the event in its file, where its times are those of a sequence of files."""
    folder_column: int | None = None
    """Column with the folder of the file, if its path is a name only."""
    recordings: RecordingNames | None = None
    """Finds files that are not where the table writes them."""
    annotations: list[Annotation | None] = field(default_factory=list)
    """Event of each row that was read; None if it has neither times nor a class, or states
    that no class is there."""
    _files: dict[str, FoundFile] = field(default_factory=dict)
    """Files that were found, by the names in the table."""

    def file_name(self, values: Sequence[str], columns: Columns) -> str:
        name = super().file_name(values, columns)
        if folder := row_value(values, self.folder_column).replace("\\", "/").rstrip("/"):
            name = f"{folder}/{name}"
        return name if self.recordings is None else self.recordings.path_of(name)

    def record(self, line: int, values: Sequence[str], columns: Columns) -> tuple | None:
        record = super().record(line, values, columns)
        if record is not None:
            self.annotations.append(self._annotation(line, values, columns))
        return record

    def _annotation(self, line: int, values: Sequence[str], columns: Columns) -> Annotation | None:
        label = self._classes(line, values, columns)
        if states_no_event(label) or (not label and states_classes(values, columns.label)):
            return None
        if (times := columns.times) is not None and any(
            row_value(values, column).lower() not in NO_VALUES for column in times.roles
        ):
            location = f"{self.name}, line {line}"
            start, end = row_value(values, times.start), row_value(values, times.end)
            event = parse_annotation(start, end, label, location, times.is_duration, times.unit)
            return shift_to_file(event, row_value(values, self.offset_column), location)
        classes = parse_label(label)
        return Annotation.of_recording(classes) if classes else None

    def _classes(self, line: int, values: Sequence[str], columns: Columns) -> str:
        """Return the classes of a row, in one text."""
        label = normalize_id(row_value(values, columns.label))
        more = row_value(values, columns.more_labels)
        try:
            check_no_object(label)
            names = listed_classes(values, columns.more_labels) if more.lower() not in MISSING_VALUES else []
            if is_list_text(label) or (columns.label_is_list and label.lower() not in NO_VALUES):
                label = join_labels(listed_classes(values, columns.label))
        except ValueError as error:
            raise UserError(f"{self.name}, line {line}: {error}") from None
        return join_labels([*split_labels(parse_label(label)), *names]) if names else label

    def _find(self, line: int, path: str) -> FoundFile:
        if path not in self._files:
            self._files[path] = super()._find(line, path)
        return self._files[path]

    def merge(self, rows: pd.DataFrame) -> tuple[pd.DataFrame, Events]:
        """Return the manifest of the files that the rows name, and the events of each, by its id.

        Raises:
            UserError: the rows of a file have different folds or groups.
        """
        rows = _with_one_id_per_file(rows)
        events: Events = {clip_id: [] for clip_id in rows["clip_id"]}
        for clip_id, annotation in zip(rows["clip_id"], self.annotations, strict=True):
            if annotation is not None:
                events[clip_id].append(annotation)
        clips = rows.drop_duplicates(["clip_id", "path", "fold", "group"], ignore_index=True)
        conflicts = clips["clip_id"][clips.duplicated(["clip_id", "path"])].unique()
        if len(conflicts):
            raise UserError(
                f"{self.name}: rows of {shown_list(conflicts)} have different folds or groups; all rows of a "
                "file need the same"
            )
        clips["label"] = [union_label(events[clip_id]) for clip_id in clips["clip_id"]]
        return clips, events


def _with_one_id_per_file(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows that have the same id if their file is the same, as that of the names `a.wav` and `a`."""
    names = rows[["clip_id", "path"]].drop_duplicates()
    names = names[names.duplicated("path", keep=False)]
    if names.empty:
        return rows
    named: defaultdict[str, list[str]] = defaultdict(list)
    for path, name in zip(names["path"], names["clip_id"], strict=True):
        named[path].append(name)
    ids = {path: _best_id(path, clip_ids) for path, clip_ids in named.items()}
    clip_ids = rows["path"].map(ids).fillna(rows["clip_id"])
    # A file without a group is its own group.
    groups = rows["group"].where(rows["group"] != rows["clip_id"], clip_ids)
    return rows.assign(clip_id=clip_ids, group=groups)


def _best_id(path: str, clip_ids: Sequence[str]) -> str:
    """Return the id that is most like the path of a file: with its ending, and not absolute."""
    return min(clip_ids, key=lambda name: (not normalize_id(path).endswith(name), len(name), name))
