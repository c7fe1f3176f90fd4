"""Annotations of the recordings in a folder, whichever form they have."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd

from pipeline.data.annotations.annotated_folder import (
    AnnotatedClips,
    read_annotated_folder,
    recordings_below,
    union_label,
)
from pipeline.data.annotations.annotation_files import names_no_recording, read_annotation_file
from pipeline.data.annotations.event_table import has_times, read_event_table
from pipeline.io.errors import UserError, report_os_errors

FLAG = "--annotations"


def read_annotations(
    data: Path,
    annotations: Path | Literal["auto"],
    label_column: str | None = None,
    with_times: bool = True,
    data_flag: str = "--data",
    wanted: pd.DataFrame | None = None,
) -> AnnotatedClips:
    """Read the annotated recordings of a folder and their events.

    Args:
        data: folder of the recordings.
        annotations: a table of events, the folder of the annotation files, or `auto`: they are next to the
            recordings.
        label_column: column of the classes in tables.
        with_times: whether events are spans of time; otherwise what a table says is about whole files.
        data_flag: command-line flag of `data`, for messages.
        wanted: recordings whose annotations are of interest, by `clip_id` and `path`, whatever their split
            (default: all of the training split). Those of others may be read too, from a table.

    Raises:
        UserError: a folder or file cannot be read, or no recording is annotated.
    """
    if annotations == "auto":
        return read_annotated_folder(data, annotations, label_column, data_flag, wanted)
    with report_os_errors("reading", f"{FLAG} {annotations}"):
        is_table = annotations.is_file()
    if not is_table:
        return read_annotated_folder(data, annotations, label_column, data_flag, wanted)
    if names_no_recording(annotations):
        recordings = recordings_below(data, data_flag) if wanted is None else wanted
        return _read_unnamed(annotations, recordings, label_column)
    all_splits = wanted is not None
    read = read_event_table(
        annotations, FLAG, data, label_column, with_times, search=True, all_splits=all_splits
    )
    if with_times and not has_times(annotations, FLAG):
        read.warnings.append(
            f"{FLAG} {annotations}: no columns of times such as start,end: all windows of a file have its "
            "classes"
        )
    return read


def _read_unnamed(path: Path, recordings: pd.DataFrame, label_column: str | None) -> AnnotatedClips:
    """Read the events in a file that names no recording, which are those of the only one.

    Raises:
        UserError: there are several recordings, or none, or the file cannot be read.
    """
    if len(recordings) != 1:
        raise UserError(
            f"{FLAG} {path}: names no recording, of which there are {len(recordings)}; give the folder of "
            "such files, each named like its recording, or add a column path"
        )
    clip_id = recordings["clip_id"].iloc[0]
    events = read_annotation_file(path, clip_id, label_column)
    return AnnotatedClips(recordings.assign(label=union_label(events)), {clip_id: events})
