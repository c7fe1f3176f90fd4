"""Samples whose ids name file and time: the pattern is found, asked for, or refused before predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.classifier.prediction.recording_list import RecordingList
from pipeline.classifier.submission.clip_ids import ClipIndex
from pipeline.classifier.submission.filled_values import PredictedClips
from pipeline.classifier.submission.sample import SampleSubmission
from pipeline.classifier.submission.window_plan import check_no_window_ids, plan_window_submission
from pipeline.io.errors import UserError

NAMES = ("asbfly", "ashdro1")
# Minutes of BirdCLEF in windows of five seconds: twelve for each soundscape.
IDS = ["soundscape_1234.ogg", "soundscape_99.ogg"]


def recordings(ids: list[str] = IDS, seconds: float = 60.0) -> RecordingList:
    clips = pd.DataFrame({"clip_id": ids, "path": [f"/data/x/{name}" for name in ids]})
    return RecordingList(clips, np.full(len(ids), seconds), 5.0, 5.0)


def sample(ids: list[str], columns: tuple[str, ...] = NAMES) -> SampleSubmission:
    table = pd.DataFrame({"row_id": ids, **dict.fromkeys(columns, "0.01")}, dtype=str)
    return SampleSubmission(table, "--sample-submission s.csv")


def birdclef_ids(*numbers: int) -> list[str]:
    return [f"soundscape_{number}_{end}" for number in numbers for end in range(5, 61, 5)]


def fill(plan: object, probabilities: np.ndarray) -> pd.DataFrame:
    parts = [PredictedClips([""] * len(part), part) for part in np.array_split(probabilities, 5)]
    return pd.concat(plan.fill(parts, NAMES), ignore_index=True)  # type: ignore[attr-defined]


def test_birdclef_sample_is_filled_by_file_and_time() -> None:
    ids = birdclef_ids(99, 1234)[::-1]
    plan, by_window = plan_window_submission(sample(ids), recordings(), NAMES)
    probabilities = np.linspace(0, 1, 48, dtype=np.float32).reshape(24, 2)
    filled = fill(plan, probabilities)
    assert by_window and list(filled) == ["row_id", *NAMES] and filled["row_id"].tolist() == ids
    assert (filled[list(NAMES)].to_numpy(np.float32)[12:] == probabilities[12:][::-1]).all()
    assert plan.warnings == []


def test_windows_that_are_not_requested_are_left_out() -> None:
    plan, _ = plan_window_submission(sample(birdclef_ids(99)), recordings(), NAMES)
    assert len(fill(plan, np.zeros((24, 2), np.float32))) == 12
    assert plan.warnings == [
        "12 of 24 windows have no row in --sample-submission s.csv; their predictions are only in "
        "windows.parquet"
    ]


def test_ambiguous_pattern_is_asked_for() -> None:
    requested = sample(["soundscape_99_5", "soundscape_99_10"])
    with pytest.raises(UserError) as error:
        plan_window_submission(requested, recordings(), NAMES)
    assert str(error.value) == (
        "--sample-submission s.csv: ids follow the patterns {stem}_{start} and {stem}_{end}; choose one, "
        "such as --row-id {stem}_{end}"
    )
    plan, _ = plan_window_submission(requested, recordings(), NAMES, row_id="{stem}_{end}")
    assert plan.positions == [12, 13]
    plan, _ = plan_window_submission(requested, recordings(), NAMES, row_id="{stem}_{start}")
    assert plan.positions == [13, 14]


@pytest.mark.parametrize("row_id", [None, "{stem}_{end}"])
def test_ids_without_window_are_refused_with_example(row_id: str | None) -> None:
    ids = [*birdclef_ids(1234), "soundscape_1234_65", "soundscape_1234_70", "soundscape_5_5"]
    with pytest.raises(UserError) as error:
        plan_window_submission(sample(ids), recordings(), NAMES, row_id=row_id)
    assert str(error.value) == (
        "--sample-submission s.csv: id 'soundscape_1234_65': no match (and 2 other ids of 15); ids are "
        "{stem}_{end} of windows of 5 s, every 5 s"
    )


def test_ids_of_no_pattern_are_refused() -> None:
    with pytest.raises(UserError, match="id 'other' is neither a recording nor one of its windows"):
        plan_window_submission(sample(["other", "else"]), recordings(), NAMES)


def test_ids_of_recordings_have_clip_level_rows() -> None:
    plan, by_window = plan_window_submission(
        sample(["soundscape_99", "soundscape_1234"]), recordings(), NAMES
    )
    assert not by_window and plan.positions == [1, 0]
    plan, by_window = plan_window_submission(None, recordings(), NAMES)
    assert not by_window and plan.sample.table["id"].tolist() == IDS


@pytest.mark.parametrize("times", ["{0}-{1}", "{0}_{1}", "{0}"])
@pytest.mark.parametrize("separator", ["_", "-", "@", "/"])
def test_pattern_is_found_in_sample(separator: str, times: str) -> None:
    ids = [f"soundscape_99{separator}{times.format(5 * i, 5 * i + 5)}" for i in range(12)]
    plan, by_window = plan_window_submission(sample(ids), recordings(), NAMES)
    assert by_window and plan.positions == list(range(12, 24))


@pytest.mark.parametrize("row_id", [None, "{stem}_{end}"])
def test_same_stems_in_folders_need_their_folder(row_id: str | None) -> None:
    found = recordings(["a/x.ogg", "b/x.ogg"])
    with pytest.raises(UserError, match=r"id 'x_60': ambiguous \(2 matches, e.g. a/x.ogg@000055.000 and b/x"):
        plan_window_submission(sample(["x_60"]), found, NAMES, row_id=row_id)
    plan, _ = plan_window_submission(
        sample([f"{name}/x_{end}" for name in "ba" for end in (5, 60)]), found, NAMES
    )
    assert plan.positions == [12, 23, 0, 11]


def test_numbers_of_rows_are_no_ids() -> None:
    table = sample(birdclef_ids(99)).table
    table.insert(0, "Unnamed: 0", [str(i) for i in range(len(table))])
    plan, _ = plan_window_submission(SampleSubmission(table, "s.csv"), recordings(), NAMES)
    assert plan.positions == list(range(12, 24))


def test_pattern_without_sample_has_all_windows() -> None:
    plan, by_window = plan_window_submission(None, recordings(), NAMES, "probability", row_id="{stem}_{end}")
    filled = fill(plan, np.zeros((24, 2), np.float32))
    assert by_window and list(filled) == ["id", *NAMES] and filled["id"].tolist() == birdclef_ids(1234, 99)


STARTS = range(0, 60, 5)


def times_sample(**columns: list[str]) -> SampleSubmission:
    table = pd.DataFrame(columns | dict.fromkeys(NAMES, "0"), dtype=str)
    return SampleSubmission(table, "--sample-submission s.csv")


@pytest.mark.parametrize(
    "names", [("start_time", "end_time"), ("Start (s)", "End (s)"), ("offset_s",), ("start",)]
)
@pytest.mark.parametrize("file", ["soundscape_99", "x/soundscape_99.ogg", "/x/soundscape_99.ogg"])
def test_times_may_have_columns_of_their_own(names: tuple[str, ...], file: str) -> None:
    times = {"offset_s": [f"{start + 5}.0" for start in STARTS]}
    times |= {name: [str(float(start)) for start in STARTS] for name in ("start", "start_time", "Start (s)")}
    times |= {name: [str(start + 5) for start in STARTS] for name in ("end_time", "End (s)")}
    requested = times_sample(file=[file] * 12, **{name: times[name] for name in names})
    plan, by_window = plan_window_submission(requested, recordings(), NAMES)
    assert by_window and plan.positions == list(range(12, 24))
    probabilities = np.linspace(0, 1, 48, dtype=np.float32).reshape(24, 2)
    filled = fill(plan, probabilities)
    assert list(filled) == ["file", *names, *NAMES]
    assert filled[["file", *names]].equals(requested.table[["file", *names]])
    assert (filled[list(NAMES)].to_numpy(np.float32) == probabilities[12:]).all()


def test_end_column_is_that_of_the_start_column() -> None:
    starts, ends = [str(start) for start in STARTS], [str(start + 5) for start in STARTS]
    requested = times_sample(file=["soundscape_99"] * 12, start_time=starts, end_time=ends, offset=["0"] * 12)
    with pytest.raises(UserError, match=r"'offset': not a model class"):
        plan_window_submission(requested, recordings(), NAMES)


def test_files_may_have_any_column_and_many_windows() -> None:
    starts = {"start": [str(start) for start in STARTS] * 2}
    files = {"file": ["soundscape_99"] * 12 + ["soundscape_1234"] * 12}
    plan, by_window = plan_window_submission(times_sample(**starts, **files), recordings(), NAMES)
    assert by_window and plan.positions == [*range(12, 24), *range(12)]


def test_times_without_window_are_refused_with_example() -> None:
    requested = times_sample(file=["soundscape_99.ogg"] * 2, start=["0", "57"], end=["5", "62"])
    with pytest.raises(
        UserError, match=r"id 'soundscape_99\.ogg 57 62': no match; ids are \{stem\} \{start\} "
    ):
        plan_window_submission(requested, recordings(), NAMES)


def test_a_class_named_like_a_time_is_a_column_of_values() -> None:
    table = pd.DataFrame(
        {"file": ["soundscape_99", "soundscape_1234"], "go": "0.5", "stop": "0.5"}, dtype=str
    )
    plan, by_window = plan_window_submission(SampleSubmission(table, "s.csv"), recordings(), ("go", "stop"))
    assert not by_window and plan.positions == [1, 0] and tuple(plan.values.columns) == ("go", "stop")


@pytest.mark.parametrize(
    "row_id", ["soundscape_99_5", "soundscape_99_0_5", "soundscape_99-57", "soundscape_99.ogg_5"]
)
def test_ids_of_windows_without_window_are_refused(row_id: str) -> None:
    files = ClipIndex(IDS)
    with pytest.raises(UserError) as error:
        check_no_window_ids(sample([row_id, "soundscape_99_10"]), files, 5.0)
    assert str(error.value) == (
        f"--sample-submission s.csv: its rows are windows, as id '{row_id}' is a recording and a time; "
        "add --window 5"
    )
    for other in ("soundscape_99", "soundscape_1234.ogg", "soundscape_7_5", "other"):
        check_no_window_ids(sample([other]), files, 5.0)
    check_no_window_ids(sample(["take_5"]), ClipIndex(["take.wav", "take_5.wav"]), 5.0)
