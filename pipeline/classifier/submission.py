"""`submission.csv`: ids and labels, or the columns, ids and row order of a sample submission.

A plan checks the sample against the list of audio files and the classes of the model, before anything is
predicted; afterwards it is filled with the predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from pipeline.classifier.clip_ids import ClipIndex, plain_id
from pipeline.classifier.sample_submission import SampleSubmission, split_columns
from pipeline.classifier.submission_values import VALUES_FLAG, SubmissionValues, Values, choose_values
from pipeline.io.errors import UserError
from pipeline.io.text import plural


@dataclass(frozen=True)
class SubmissionPlan:
    """A submission of which only the predictions are missing."""

    sample: SampleSubmission
    positions: list[int]
    """Position in the list of clips for each row."""
    values: Values
    warnings: list[str] = field(default_factory=list)

    def fill(self, table: pd.DataFrame, class_names: Sequence[str]) -> pd.DataFrame:
        """Return the submission.

        Args:
            table: predictions with the columns `label` and `p:<class>`, in the order of the list of clips.
            class_names: classes of the model.
        """
        rows = table.iloc[self.positions].reset_index(drop=True)
        submission = self.sample.table.copy()
        for column, values in self.values.fill(rows, class_names).items():
            submission[column] = values
        return submission

    def to_csv(self, table: pd.DataFrame, class_names: Sequence[str]) -> str:
        """Return the submission as text, with the separator of the sample."""
        submission = self.fill(table, class_names)
        return submission.to_csv(index=False, lineterminator="\n", sep=self.sample.separator)


def plan_submission(
    sample: SampleSubmission | None,
    clips: pd.DataFrame,
    class_names: Sequence[str],
    requested: SubmissionValues = "auto",
    positive_class: str | None = None,
) -> SubmissionPlan:
    """Plan a submission.

    Args:
        sample: sample submission to follow; None gives a row for each clip.
        clips: manifest with the columns `clip_id` and `path`.
        class_names: classes of the model.
        requested: values to write; `auto` follows the sample.
        positive_class: class of a single column of probabilities.

    Raises:
        UserError: ids without a file or with several, or values that are unclear or not those of the model.
    """
    if sample is None:
        return _plan_without_sample(clips, class_names, requested, positive_class)
    if sample.table.empty:
        raise UserError(f"{sample.source}: no rows below the header")
    index = ClipIndex(clips["clip_id"].tolist(), clips["path"].tolist())
    id_column, columns = split_columns(sample, index)
    values = choose_values(sample.source, sample.table[columns], class_names, requested, positive_class)
    positions = match_ids(sample.table[id_column].tolist(), index, sample.source)
    warnings = list(values.warnings)
    if omitted := len(clips) - len(set(positions)):
        warnings.append(
            f"{omitted} of {len(clips)} audio files have no row in {sample.source}; "
            "their predictions are only in predictions.parquet"
        )
    return SubmissionPlan(sample, positions, values, warnings)


def _plan_without_sample(
    clips: pd.DataFrame,
    class_names: Sequence[str],
    requested: SubmissionValues,
    positive_class: str | None,
) -> SubmissionPlan:
    """Plan a row for each clip, in the order of the list of clips."""
    if requested == "labels":
        raise UserError(f"{VALUES_FLAG} labels: needs a --sample-submission with several labels in each row")
    columns = ["label"]
    if positive_class is not None:
        columns, requested = ["probability"], "probability"
    elif requested == "probability":
        columns = list(class_names)
    id_column = "clip_id" if "id" in columns else "id"
    table = pd.DataFrame({id_column: clips["clip_id"].tolist()} | dict.fromkeys(columns, ""), dtype=str)
    values = choose_values("the submission", table[columns], class_names, requested, positive_class)
    return SubmissionPlan(SampleSubmission(table, "the submission"), list(range(len(clips))), values)


def match_ids(requested: Sequence[str], clips: ClipIndex, source: str) -> list[int]:
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
        raise UserError(
            f"{source}: id '{text}': {problem}{others}; ids are paths below --audio, or file names"
        )
    positions = [matches[0] for matches in found]
    _check_different_ids(requested, positions, clips, source)
    return positions


def _check_different_ids(
    requested: Sequence[str], positions: Sequence[int], clips: ClipIndex, source: str
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
