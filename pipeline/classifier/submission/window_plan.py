"""Submissions of windows: rows for windows or for whole recordings, as a pattern of ids or a sample says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from pipeline.classifier.prediction.recording_list import RecordingList
from pipeline.classifier.submission.clip_ids import ClipIndex, plain_id
from pipeline.classifier.submission.plan import SubmissionPlan, plan_submission
from pipeline.classifier.submission.row_ids import FLAG, RowIdPattern, WindowIndex
from pipeline.classifier.submission.sample import CHECKED_ROWS, SampleSubmission, split_columns
from pipeline.classifier.submission.settings import SubmissionValues
from pipeline.classifier.submission.time_columns import join_time_columns
from pipeline.data.clips import shown
from pipeline.io.errors import UserError

_SEPARATORS = ("_", "-", "@", ":", "/", "|", "#", " ", "_t", "_s")
_TIMES = ("{start}", "{end}", "{start}_{end}", "{start}-{end}", "{start}:{end}")


def plan_window_submission(
    sample: SampleSubmission | None,
    recordings: RecordingList,
    class_names: Sequence[str],
    requested: SubmissionValues = "auto",
    positive_class: str | None = None,
    row_id: str | None = None,
    multi_label: bool = False,
) -> tuple[SubmissionPlan, bool]:
    """Plan a submission; return it, and whether its rows are windows rather than recordings.

    Args:
        sample: sample submission to follow.
        recordings: recordings with their windows.
        class_names: classes of the model.
        requested: values to write; `auto` follows the sample.
        positive_class: class of a single column of probabilities.
        row_id: pattern of the ids of windows; None finds it in the sample.
        multi_label: as for `plan_submission`.

    Raises:
        UserError: as `plan_submission`; also an unusable pattern, or a sample whose ids follow none, or
            several.
    """
    arguments = (class_names, requested, positive_class)
    if sample is None and row_id is not None:
        rows = pd.DataFrame({"clip_id": RowIdPattern(row_id).ids(recordings)}, dtype=str)
        return plan_submission(None, rows, *arguments, multi_label=multi_label), True
    if sample is None or sample.table.empty:
        plan = plan_submission(sample, recordings.clips, *arguments, multi_label=multi_label)
        return plan, False
    files = ClipIndex(recordings.clips["clip_id"].tolist(), recordings.clips["path"].tolist())
    asked = sample
    index: ClipIndex | WindowIndex
    if row_id is not None:
        index = WindowIndex(recordings, RowIdPattern(row_id), files)
    elif (joined := join_time_columns(sample, files, class_names)) is not None:
        asked, pattern = joined
        index = WindowIndex(recordings, pattern, files)
    else:
        index = _sample_index(sample, recordings, files)
    plan = plan_submission(asked, recordings.clips, *arguments, index=index, multi_label=multi_label)
    return replace(plan, sample=sample), isinstance(index, WindowIndex)


def check_no_window_ids(sample: SampleSubmission, files: ClipIndex, seconds: float) -> None:
    """Check that the ids of a sample whose rows are whole clips are not those of windows.

    Args:
        sample: the sample.
        files: finds clips by their ids.
        seconds: clip length of the model.

    Raises:
        UserError: the first id is a recording and a time.
    """
    if sample.table.empty:
        return
    text = sample.table[split_columns(sample, files)[0]].iloc[0]
    matches = (pattern.regex.fullmatch(plain_id(text)) for pattern in _patterns(sample))
    if not files.find(text) and any(match is not None and files.find(match[1]) for match in matches):
        raise UserError(
            f"{sample.source}: its rows are windows, as id {shown(text)} is a recording and a time; "
            f"add --window {seconds:g}"
        )


def _sample_index(
    sample: SampleSubmission, recordings: RecordingList, files: ClipIndex
) -> ClipIndex | WindowIndex:
    """Return what finds the rows of a sample: windows by a pattern, or recordings.

    Raises:
        UserError: the ids are those of neither, or follow several patterns.
    """
    patterns = [WindowIndex(recordings, pattern, files) for pattern in _patterns(sample)]
    scores = [_score(sample, index) for index in patterns]
    as_files, best = _score(sample, files), max(scores, default=0)
    if not as_files and not best:
        text = sample.table[split_columns(sample, files)[0]].iloc[0]
        raise UserError(
            f"{sample.source}: id {shown(text)} is neither a recording nor one of its windows; name the "
            f"pattern of the ids, such as {FLAG} {{stem}}_{{end}}"
        )
    if as_files >= best:
        return files
    fitting = [index for index, score in zip(patterns, scores, strict=True) if score == best]
    complete = [index for index in fitting if _fits(sample, index)] or fitting[:1]
    if len({tuple(_windows_of_first_ids(sample, index)) for index in complete}) > 1:
        texts = " and ".join(index.pattern.text for index in complete)
        raise UserError(
            f"{sample.source}: ids follow the patterns {texts}; choose one, such as {FLAG} "
            f"{complete[-1].pattern.text}"
        )
    return complete[0]


def _patterns(sample: SampleSubmission) -> Iterator[RowIdPattern]:
    """Yield the patterns that a value of the first row may follow; in most samples these are few."""
    values = list(map(plain_id, sample.table.iloc[0]))
    for separator, time in itertools.product(_SEPARATORS, _TIMES):
        pattern = RowIdPattern(f"{{stem}}{separator}{time}")
        if any(map(pattern.regex.fullmatch, values)):
            yield pattern


def _ids(sample: SampleSubmission, index: ClipIndex | WindowIndex) -> list[str]:
    return sample.table[split_columns(sample, index)[0]].tolist()


def _score(sample: SampleSubmission, index: ClipIndex | WindowIndex) -> int:
    """Return how many of the first ids are those of rows."""
    return sum(bool(index.find(text)) for text in _ids(sample, index)[:CHECKED_ROWS])


def _fits(sample: SampleSubmission, index: WindowIndex) -> bool:
    return all(index.find(text) for text in _ids(sample, index))


def _windows_of_first_ids(sample: SampleSubmission, index: WindowIndex) -> Iterator[int]:
    return (position for text in _ids(sample, index)[:CHECKED_ROWS] for position in index.find(text))
