"""Annotated events of one recording, for comparison with detected ones."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pipeline.audio.file_types import ending
from pipeline.data.annotations.annotation import Annotation, class_events
from pipeline.data.annotations.annotation_files import read_annotation_file
from pipeline.data.annotations.event_table import read_event_table
from pipeline.data.sources.column_names import plain_names
from pipeline.data.sources.listed_files import NoListedFileError
from pipeline.io.csv_files import open_csv
from pipeline.io.errors import UserError
from pipeline.report.recording import Span

_FLAG = "--annotations"


def read_true_events(path: Path, recording: Path, seconds: float) -> list[Span]:
    """Return the annotated events of a recording, one for each of their classes, sorted by start.

    Args:
        path: a Raven selection table, Audacity labels, or a CSV with the columns path,label,start,end.
        recording: the audio file.
        seconds: its length; events end there, and later ones are left out.

    Raises:
        UserError: not such a file, an invalid value, or a CSV that does not name the recording.
    """
    events = (
        _listed_events(path, recording) if _names_files(path) else read_annotation_file(path, str(recording))
    )
    return sorted(Span(*event) for event in class_events(events, seconds))


def _names_files(path: Path) -> bool:
    """Return whether a table has a column of audio files."""
    if ending(path.name) not in ("csv", "tsv"):
        return False
    with open_csv(path, _FLAG) as table:
        return "path" in plain_names(table)


def _listed_events(path: Path, recording: Path) -> list[Annotation]:
    """Return the events of a recording in a table: by its path from the table, or else by its name."""
    for folder, search in ((path.parent, False), (recording.parent, True)):
        with suppress(NoListedFileError):
            listed = read_event_table(
                path, _FLAG, folder, None, with_times=True, search=search, all_splits=True
            )
            ids = listed.clips["clip_id"][listed.clips["path"] == str(recording)]
            if not ids.empty:
                return listed.events[ids.iloc[0]]
    raise UserError(
        f"{_FLAG} {path}: has no row of {recording}; its paths are relative to its folder, or names of files"
    )
