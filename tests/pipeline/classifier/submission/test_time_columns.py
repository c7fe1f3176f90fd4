"""Columns of times in a sample submission: a column that numbers the rows is none of them."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.classifier.submission.clip_ids import ClipIndex
from pipeline.classifier.submission.sample import SampleSubmission
from pipeline.classifier.submission.time_columns import check_no_times, join_time_columns
from pipeline.io.errors import UserError

CLASSES = ("dog", "rain")


def sample(**columns: list[str]) -> SampleSubmission:
    """Return a sample submission with the index that pandas writes by default."""
    numbers = [str(number) for number in range(len(next(iter(columns.values()))))]
    return SampleSubmission(pd.DataFrame({"": numbers, **columns}, dtype=str), "--sample-submission s.csv")


def test_index_without_a_name_is_no_column_of_times() -> None:
    requested = sample(id=["a.wav", "b.wav"], label=["", ""])
    check_no_times(requested, CLASSES, seconds=5.0)
    assert join_time_columns(requested, ClipIndex(["a.wav", "b.wav"], ["a.wav", "b.wav"]), CLASSES) is None


def test_times_next_to_an_index_without_a_name_are_found() -> None:
    requested = sample(file=["a.wav", "a.wav"], end=["5", "10"], dog=["", ""], rain=["", ""])
    joined = join_time_columns(requested, ClipIndex(["a.wav"], ["a.wav"]), CLASSES)
    assert joined is not None
    assert joined[1].text == "{stem} {end}" and joined[0].table["file"].tolist() == ["a.wav 5", "a.wav 10"]
    windows = sample(file=["a.wav"], start=["0"], end=["5"], dog=[""], rain=[""])
    with pytest.raises(UserError, match=r"are windows, by the columns 'start', 'end'; add --window 5"):
        check_no_times(windows, CLASSES, seconds=5.0)
