"""`submission.csv`: ids and labels, or the columns, ids and row order of a sample submission.

A plan checks the sample against the list of audio files and the classes of the model, before anything is
predicted; afterwards it is filled with the predictions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from pipeline.classifier.submission.clip_ids import ClipIndex, plain_id
from pipeline.classifier.submission.filled_values import PredictedClips, Values
from pipeline.classifier.submission.sample import RowIndex, SampleSubmission, empty_table, split_columns
from pipeline.classifier.submission.settings import VALUES_FLAG, SubmissionValues
from pipeline.classifier.submission.values import (
    choose_values,
)
from pipeline.io.errors import UserError
from pipeline.io.text import plural

# Values that are converted to text at a time.
_CHUNK_VALUES = 2**20


@dataclass(frozen=True)
class SubmissionPlan:
    """A submission of which only the predictions are missing."""

    sample: SampleSubmission
    """Sample, or without one a table of the ids, to which the values are added."""
    positions: list[int] | None
    """Position in the list of clips for each row; None: a row for each clip, in that order."""
    values: Values
    warnings: list[str] = field(default_factory=list)

    def csv_chunks(self, parts: Iterable[PredictedClips], class_names: Sequence[str]) -> Iterator[str]:
        """Yield the text of the submission in pieces, with the separator of the sample.

        The arguments are those of `fill`.
        """
        header = True
        for rows in self.fill(parts, class_names):
            yield rows.to_csv(index=False, header=header, lineterminator="\n", sep=self.sample.separator)
            header = False

    def fill(self, parts: Iterable[PredictedClips], class_names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Yield the submission in parts.

        Args:
            parts: predictions of all clips, in the order of their list. One part is in memory at a time; with
                a sample also a value of each clip, but the values of several columns are stored in a file.
            class_names: classes of the model.
        """
        filled = (self.values.fill(part, class_names) for part in parts)
        if self.positions is None:
            end = 0
            for values in filled:
                start, end = end, end + len(values)
                yield from self._rows(self.sample.table[start:end], values, range(len(values)))
            return
        with _stored(filled) if self.values.is_matrix else _concatenated(filled) as values:
            yield from self._rows(self.sample.table, values, self.positions)

    def _rows(
        self, table: pd.DataFrame, values: np.ndarray, positions: Sequence[int]
    ) -> Iterator[pd.DataFrame]:
        """Yield the rows of a part of the sample with their values, which are at `positions`."""
        columns = list(self.values.columns)
        kept = table[[name for name in self.sample.names if name not in self.values.columns]]
        size = max(1, _CHUNK_VALUES // len(columns))
        for start in range(0, len(positions), size):
            rows = kept[start : start + size].reset_index(drop=True)
            filled = pd.DataFrame(values[positions[start : start + size]], columns=columns)
            yield pd.concat([rows, filled], axis=1)[list(self.sample.names)]


@contextmanager
def _stored(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Provide matrices of equal width as one, mapped from a temporary file: they may not fit into memory."""
    with tempfile.TemporaryFile() as file:
        rows, width = 0, 0
        for values in parts:
            file.write(np.ascontiguousarray(values, np.float32).data)
            rows, width = rows + len(values), values.shape[1]
        file.flush()
        yield np.memmap(file, np.float32, "r", shape=(rows, width))


@contextmanager
def _concatenated(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    yield np.concatenate(list(parts))


def plan_submission(
    sample: SampleSubmission | None,
    clips: pd.DataFrame,
    class_names: Sequence[str],
    requested: SubmissionValues = "auto",
    positive_class: str | None = None,
    index: RowIndex | None = None,
    multi_label: bool = False,
) -> SubmissionPlan:
    """Plan a submission.

    Args:
        sample: sample submission to follow; None gives a row for each clip.
        clips: manifest with the columns `clip_id` and `path`.
        class_names: classes of the model.
        requested: values to write; `auto` follows the sample.
        positive_class: class of a single column of probabilities.
        index: finds the rows of the sample (default: clips by their ids).
        multi_label: whether the labels of clips are any number of classes, as in `pipeline/data/labels.py`.

    Raises:
        UserError: ids without a file or with several, or values that are unclear or not those of the model.
    """
    if sample is None:
        return _plan_without_sample(clips, class_names, requested, positive_class, multi_label)
    if sample.table.empty:
        raise UserError(f"{sample.source}: no rows below the header")
    index = index or ClipIndex(clips["clip_id"].tolist(), clips["path"].tolist())
    id_column, columns = split_columns(sample, index)
    values = choose_values(
        sample.source, sample.values(columns), class_names, requested, positive_class, multi_label
    )
    positions = match_ids(sample.table[id_column].tolist(), index, sample.source)
    warnings = list(values.warnings)
    if omitted := len(index) - len(set(positions)):
        warnings.append(
            f"{omitted} of {len(index)} {index.rows} have no row in {sample.source}; "
            f"their predictions are only in {index.elsewhere}"
        )
    return SubmissionPlan(sample, positions, values, warnings)


def _plan_without_sample(
    clips: pd.DataFrame,
    class_names: Sequence[str],
    requested: SubmissionValues,
    positive_class: str | None,
    multi_label: bool,
) -> SubmissionPlan:
    """Plan a row for each clip, in the order of the list of clips."""
    if requested == "labels" and not multi_label:
        raise UserError(f"{VALUES_FLAG} labels: needs a --sample-submission with several labels in each row")
    columns = ["label"]
    if positive_class is not None:
        columns = ["probability"]
    elif requested == "probability":
        columns = list(class_names)
    id_column = "clip_id" if "id" in columns else "id"
    values = choose_values(
        "the submission", empty_table(columns), class_names, requested, positive_class, multi_label
    )
    ids = pd.DataFrame({id_column: clips["clip_id"].tolist()}, dtype=str)
    sample = SampleSubmission(ids, "the submission", columns=(id_column, *columns))
    return SubmissionPlan(sample, None, values)


def match_ids(requested: Sequence[str], clips: RowIndex, source: str) -> list[int]:
    """Return the position of the clip of each requested id.

    Raises:
        UserError: ids that match no clip, or several; or different ids of one clip.
    """
    found = [clips.find(text) for text in requested]
    wrong = [(text, matches) for text, matches in zip(requested, found, strict=True) if len(matches) != 1]
    if wrong:
        text, matches = wrong[0]
        problem = "no match"
        if matches:
            examples = " and ".join(clips.clip_ids[position] for position in matches[:2])
            problem = f"ambiguous ({len(matches)} matches, e.g. {examples})"
        others = f" (and {plural(len(wrong) - 1, 'other id')} of {len(requested)})" if len(wrong) > 1 else ""
        raise UserError(f"{source}: id '{text}': {problem}{others}; {clips.hint}")
    positions = [matches[0] for matches in found]
    _check_different_ids(requested, positions, clips, source)
    return positions


def _check_different_ids(
    requested: Sequence[str], positions: Sequence[int], clips: RowIndex, source: str
) -> None:
    """Check that ids which differ in case or leading zeros, such as `A` and `a`, are not of the same clip.

    Raises:
        UserError: they are, so that the file of one of them is missing.
    """
    first_ids: dict[int, str] = {}
    for text, position in zip(requested, positions, strict=True):
        first = first_ids.setdefault(position, text)
        if plain_id(first) != plain_id(text) and not (clips.is_name(first) and clips.is_name(text)):
            raise UserError(
                f"{source}: ids '{first}' and '{text}' both match only '{clips.clip_ids[position]}'; "
                "add the missing file, or correct the ids"
            )
