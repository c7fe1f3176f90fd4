"""Annotations of the recordings in a folder, whichever form they have."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pipeline.data.annotations.annotated_folder import AnnotatedClips, read_annotated_folder
from pipeline.data.annotations.event_table import has_times, read_event_table
from pipeline.io.errors import report_os_errors

FLAG = "--annotations"


def read_annotations(
    data: Path,
    annotations: Path | Literal["auto"],
    label_column: str | None = None,
    with_times: bool = True,
    data_flag: str = "--data",
) -> AnnotatedClips:
    """Read the annotated recordings of a folder and their events.

    Args:
        data: folder of the recordings.
        annotations: a table of events, the folder of the annotation files, or `auto`: they are next to the
            recordings.
        label_column: column of the classes in tables.
        with_times: whether events are spans of time; otherwise what a table says is about whole files.
        data_flag: command-line flag of `data`, for messages.

    Raises:
        UserError: a folder or file cannot be read, or no recording is annotated.
    """
    if annotations == "auto":
        return read_annotated_folder(data, annotations, label_column, data_flag)
    with report_os_errors("reading", f"{FLAG} {annotations}"):
        is_table = annotations.is_file()
    if not is_table:
        return read_annotated_folder(data, annotations, label_column, data_flag)
    read = read_event_table(annotations, FLAG, data, label_column, with_times, search=True)
    if with_times and not has_times(annotations, FLAG):
        read.warnings.append(
            f"{FLAG} {annotations}: no columns of times such as start,end: all windows of a file have its "
            "classes"
        )
    return read
