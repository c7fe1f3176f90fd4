"""Samples that name windows by a file, a start and an end in columns of their own, as opensoundscape does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.classifier.submission.class_names import normal_form
from pipeline.classifier.submission.clip_ids import ClipIndex
from pipeline.classifier.submission.row_ids import RowIdPattern
from pipeline.classifier.submission.sample import CHECKED_ROWS, VALUE_HEADERS, SampleSubmission
from pipeline.data.annotations.annotation import is_seconds
from pipeline.data.annotations.event_columns import start_and_end
from pipeline.data.clips import shown_list
from pipeline.data.sources.column_names import plain_name
from pipeline.io.errors import UserError


def join_time_columns(
    sample: SampleSubmission, files: ClipIndex, class_names: Sequence[str]
) -> tuple[SampleSubmission, RowIdPattern] | None:
    """Return a sample in which files and times are joined to ids, without the columns of times; None if it
    has no such columns.

    Args:
        sample: the sample, with rows.
        files: finds recordings by their names.
        class_names: classes of the model, which are values, also if one is named `stop`.

    Returns:
        The sample and the pattern of its ids.
    """
    times = _time_columns(sample, class_names)
    if not times:
        return None
    table = sample.table.drop(columns=list(times.values()))
    names = tuple(name for name in sample.names if name not in times.values())
    joined = replace(sample, table=table, columns=names)
    id_column = _file_column(joined, files, class_names)
    if id_column is None:
        return None
    ids = table[id_column].str.strip()
    for name in times.values():
        ids = ids + " " + sample.table[name].str.strip()
    pattern = " ".join(f"{{{field}}}" for field in ("stem", *times))
    return replace(joined, table=table.assign(**{id_column: ids})), RowIdPattern(pattern)


def check_no_times(sample: SampleSubmission, class_names: Sequence[str], seconds: float) -> None:
    """Check that a sample whose rows are whole clips has no columns of starts and ends.

    Args:
        sample: the sample.
        class_names: classes of the model.
        seconds: clip length of the model.

    Raises:
        UserError: it has both.
    """
    times = _time_columns(sample, class_names)
    if len(times) == 2:
        raise UserError(
            f"{sample.source}: its rows are windows, by the columns {shown_list(list(times.values()))}; "
            f"add --window {seconds:g}"
        )


def _file_column(sample: SampleSubmission, files: ClipIndex, class_names: Sequence[str]) -> str | None:
    """Return the column with the most names of recordings, of which many windows have the same; None if none
    has any.
    """
    values = VALUE_HEADERS | set(map(normal_form, class_names))
    rows = sample.table.head(CHECKED_ROWS)
    found = {
        name: sum(map(bool, map(files.find, rows[name])))
        for name in rows.columns
        if normal_form(name) not in values
    }
    return max(found, key=lambda name: found[name]) if any(found.values()) else None


def _time_columns(sample: SampleSubmission, class_names: Sequence[str]) -> dict[str, str]:
    """Return the columns of starts and ends by `start` and `end`; one of them may be missing."""
    classes = set(map(normal_form, class_names))
    names = ["" if normal_form(name) in classes else plain_name(name) for name in sample.names]
    found = {}
    for field, position in zip(("start", "end"), start_and_end(names), strict=True):
        if position is None:
            continue
        name = sample.names[position]  # empty for the column in which pandas numbers the rows
        if name in sample.table and all(map(is_seconds, sample.table[name].head(CHECKED_ROWS))):
            found[field] = name
    return found
