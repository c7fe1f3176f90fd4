"""Ids of windows: written by a pattern, and found again in the forms in which people write them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.classifier.prediction.recording_list import RecordingList
from pipeline.classifier.submission.clip_ids import ClipIndex
from pipeline.classifier.submission.row_ids import RowIdPattern, WindowIndex, time_text
from pipeline.io.errors import UserError


def recordings(*ids: str, seconds: float = 10.0, window: float = 5.0, hop: float = 2.5) -> RecordingList:
    clips = pd.DataFrame({"clip_id": list(ids), "path": [f"/data/{name}" for name in ids]})
    return RecordingList(clips, np.full(len(ids), seconds), window, hop)


def index(pattern: str, found: RecordingList) -> WindowIndex:
    files = ClipIndex(found.clips["clip_id"].tolist(), found.clips["path"].tolist())
    return WindowIndex(found, RowIdPattern(pattern), files)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{stem}_{end}", ["x_5", "x_7.5", "x_10"]),
        ("{name}@{start}", ["x.wav@0", "x.wav@2.5", "x.wav@5"]),
        ("{id}|{start}-{end} s", ["a/x.wav|0-5 s", "a/x.wav|2.5-7.5 s", "a/x.wav|5-10 s"]),
        ("{{{stem}}}#{start}", ["{x}#0", "{x}#2.5", "{x}#5"]),
    ],
)
def test_pattern_writes_and_finds_ids(pattern: str, expected: list[str]) -> None:
    found = recordings("a/x.wav")
    assert RowIdPattern(pattern).ids(found) == expected
    assert [index(pattern, found).find(text) for text in expected] == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{file}_{end}", "no field 'file'; fields are {stem}, {name}, {id}, {start}, {end}"),
        ("{stem}_{end:03d}", "no field 'end'"),
        ("{0}_{end}", "no field '0'"),
        ("rows", "no field in it"),
        ("{stem}{end}", "put a character between two fields"),
        ("{stem}_{end", "expected '}'"),
    ],
)
def test_unusable_pattern_raises_with_fields(pattern: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        RowIdPattern(pattern)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_same_ids_of_two_windows_raise() -> None:
    found = recordings("a/x.wav", "b/x.wav")
    with pytest.raises(UserError, match=r"2 windows have the id 'x_5'; use \{id\}"):
        RowIdPattern("{stem}_{end}").ids(found)
    assert len(RowIdPattern("{id}_{end}").ids(found)) == 6
    assert index("{stem}_{end}", found).find("x_5") == [0, 3]
    assert index("{stem}_{end}", found).find("b/x_5") == [3]


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("rec_1_5", [0]),
        ("rec_1_05", [0]),
        ("rec_1_5.0", [0]),
        ("rec_1_7.500", [1]),
        ("REC_1_5", [0]),
        ("rec_1.wav_5", [0]),
        ("data/rec_1_5", [0]),
        ("rec_1_12.5", []),
        ("rec_1_6", []),
        ("rec_1_0", []),
        ("rec_1", []),
        ("rec_2_5", []),
        ("rec_1_-5", []),
    ],
)
def test_ids_are_found_as_people_write_them(text: str, positions: list[int]) -> None:
    assert index("{stem}_{end}", recordings("rec_1.wav")).find(text) == positions


def test_recording_of_unknown_length_has_all_ids() -> None:
    found = recordings("x.wav", "y.wav", seconds=float("nan"))
    ids = index("{stem}_{end}", found)
    assert ids.find("y_5") == ids.find("y_600") == [1] and ids.find("y_6") == []
    assert ids.is_name("y_5") and not ids.is_name("Y_5")


def test_names_of_windows_are_those_of_manifest() -> None:
    found = recordings("x.wav", "ü/y.wav")
    names = index("{stem}_{end}", found).clip_ids
    windows = found.windows()
    assert list(names) == windows["clip_id"].tolist() and len(names) == 6
    assert windows["clip_id"].iloc[4] == "ü/y.wav@000002.500"
    assert windows["group"].tolist() == ["x.wav"] * 3 + ["ü/y.wav"] * 3
    assert windows[["start", "end"]].to_numpy()[:3].tolist() == [[0, 5], [2.5, 7.5], [5, 10]]


def test_times_of_ids_are_integers_where_whole() -> None:
    assert [time_text(value) for value in (0.0, 5.0, 7.5, 43200.0, 0.125, 3.333)] == [
        "0",
        "5",
        "7.5",
        "43200",
        "0.125",
        "3.333",
    ]
