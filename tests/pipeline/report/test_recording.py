"""Page of a recording: self-contained and escaped, with events and scores at their times, of limited size."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.report import recording
from pipeline.report.recording import Span, clock_time, event_rows, missed_annotations, shown_classes
from pipeline.report.recording_media import RecordingMedia
from pipeline.report.tiles import MAX_COLUMNS, SpectrogramColumns
from tests.helpers.html_page import EVIL_NAMES, Page, assert_accessible, parse_checked
from tests.pipeline.report.recording_pages import (
    EVENTS,
    HOP,
    WINDOW,
    make_page,
    make_scores,
    read_data,
    write,
)
from tests.pipeline.report.test_clips import decode_audio
from tests.pipeline.report.test_tiles import CONFIG


def test_page_is_self_contained_and_accessible(tmp_path: Path) -> None:
    page = parse_checked(write(tmp_path, annotations=[Span(1.0, 2.0, "owl")]))
    assert os.listdir(tmp_path) == ["show.html"]
    assert page.sections == ["Events", "Annotated, not detected", "Settings"]
    (audio,) = page.find_all("audio")
    samples, _, _ = decode_audio(audio["src"] or "")
    assert samples.size == 240_000


def test_names_are_escaped(tmp_path: Path) -> None:
    names = tuple(EVIL_NAMES)
    events = [Span(float(i), i + 1.0, name, 0.9) for i, name in enumerate(names)]
    text = write(tmp_path, scores=make_scores(names), events=events, title=names[0])
    page = parse_checked(text)
    assert not [attrs for attrs in page.find_all("b") if "x" in attrs]
    rows = page.tables[0][1:]
    assert [row[3] for row in rows] == [*names[:-1], "caf\\udce9"]
    assert [read_data(text)["names"][index] for _, _, index, _ in read_data(text)["events"]] == list(names)


def test_events_and_scores_have_their_times(tmp_path: Path) -> None:
    text = write(tmp_path)
    data = read_data(text)
    names = data["names"]
    assert [(start, end, names[index], p) for start, end, index, p in data["events"]] == [
        tuple(e) for e in EVENTS
    ]
    assert (data["seconds"], data["window"], data["hop"]) == (30.0, WINDOW, HOP)
    scores = make_scores()
    for name, curve in zip(names, data["curves"], strict=True):
        values = scores.probabilities[:, scores.names.index(name)]
        assert curve["scores"][7] is None and curve["threshold"] == 0.5
        shown = np.array([np.nan if value is None else value / 1000 for value in curve["scores"]])
        np.testing.assert_allclose(shown, values, atol=6e-4)
    header, *rows = Page(text).tables[0]
    assert header == ["start", "end", "seconds", "class", "probability"]
    assert rows[0] == ["0:03.0", "0:06.0", "3.0", "dog", "90.0\u202f%"]
    assert [row[0] for row in rows] == ["0:03.0", "0:12.0", "0:13.0"]


def test_spectrogram_data_cover_the_recording(tmp_path: Path) -> None:
    data = read_data(write(tmp_path))
    finest = data["levels"][0]
    assert finest["columns"] * data["columnSeconds"] == pytest.approx(30, abs=data["columnSeconds"])
    assert data["bands"][0] == 0.0 and data["bands"][-1] == CONFIG.sample_rate / 2
    assert [hertz for hertz, _ in data["frequencies"]][-1] == 2000


@pytest.mark.parametrize(("point", "is_found"), [(2.99, False), (3.0, True), (4.0, True), (6.0, False)])
def test_annotated_point_is_found_by_the_event_that_contains_or_begins_with_it(
    point: float, is_found: bool
) -> None:
    page = make_page(annotations=[Span(point, point, "dog")])  # a dog is detected from 3 to 6 s
    assert missed_annotations(page) == ([] if is_found else page.annotations)
    assert event_rows(page, shown_classes(page))[0].is_annotated == is_found


def test_annotations_are_compared_with_events(tmp_path: Path) -> None:
    annotations = [Span(2.0, 3.5, "dog"), Span(12.5, 13.0, "owl"), Span(20.0, 21.0, "dog")]
    page = make_page(annotations=annotations)
    assert missed_annotations(page) == annotations[1:]
    events, missed, _ = Page(write(tmp_path, annotations=annotations)).tables
    assert [row[-1] for row in events[1:]] == ["yes", "no", "no"]
    assert [row[-1] for row in missed[1:]] == ["owl", "dog"]


def test_classes_with_events_get_the_colors() -> None:
    names = tuple(f"species {i:02d}" for i in range(20))
    scores = make_scores(names)
    scores.probabilities[3, 17] = 0.99
    page = make_page(scores=scores, events=[Span(0.0, 1.0, "species 04", 0.6)])
    shown = shown_classes(page)
    assert shown[:2] == ["species 04", "species 17"] and len(shown) == 8


def test_unknown_class_of_an_annotation_is_shown(tmp_path: Path) -> None:
    data = read_data(write(tmp_path, annotations=[Span(1.0, 2.0, "bat")]))
    assert "bat" in data["names"]
    assert data["curves"][data["names"].index("bat")] == {"threshold": None, "scores": []}


def test_page_without_events_says_so(tmp_path: Path) -> None:
    page = parse_checked(write(tmp_path, events=[]))
    assert "No event: no window reaches the threshold of a class." in page.words


def test_table_has_the_most_probable_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_ROWS", 2)
    text = write(tmp_path)
    page = Page(text)
    assert [row[0] for row in page.tables[0][1:]] == ["0:03.0", "0:13.0"]
    assert "2 of 3 events, those with the highest probability." in page.words
    assert len(read_data(text)["events"]) == 3


def test_linked_audio_is_allowed_by_the_policy(tmp_path: Path) -> None:
    media = dataclasses.replace(make_page().media, audio=None)
    page = Page(
        write(tmp_path, media=media, audio_link="../a%20b.wav", audio_note="Plays the file ../a b.wav.")
    )
    assert page.find_all("audio")[0]["src"] == "../a%20b.wav"
    (policy,) = [attrs["content"] for attrs in page.find_all("meta") if "http-equiv" in attrs]
    assert policy is not None and policy.endswith("; media-src data: file: 'self'")


def test_page_without_audio_has_a_note(tmp_path: Path) -> None:
    media = dataclasses.replace(make_page().media, audio=None)
    page = parse_checked(write(tmp_path, media=media, audio_note="No audio: too long."))
    assert_accessible(page)
    assert not page.find_all("audio") and "No audio: too long." in page.text


def test_page_of_twelve_hours_is_small(tmp_path: Path) -> None:
    hours, names = 12, tuple(f"species {i}" for i in range(50))
    columns = SpectrogramColumns(CONFIG.model_copy(update={"n_mels": 128}), hours * 3600 * CONFIG.sample_rate)
    columns.columns[:] = np.random.default_rng(0).normal(-50, 6, columns.columns.shape)
    assert columns.columns.shape[1] <= MAX_COLUMNS
    events = [Span(i * 10.0, i * 10.0 + 5, names[i % 50], 0.5 + i / 10_000) for i in range(hours * 360)]
    text = write(
        tmp_path,
        seconds=hours * 3600.0,
        media=RecordingMedia(columns, None, [(100.0, 200.0)]),
        scores=make_scores(names, hours * 3600),
        events=events,
    )
    assert len(text) < 10_000_000
    assert Page(text).tables[0][-1][0] == "11:59:50.0"
    assert read_data(text)["gaps"] == [[100.0, 200.0]]


@pytest.mark.parametrize(
    ("seconds", "total", "text"),
    [
        (0, 10, "0:00.0"),
        (59.96, 60, "1:00.0"),
        (61.25, 100, "1:01.2"),
        (61, 3600, "0:01:01.0"),
        (7325.5, 0, "2:02:05.5"),
    ],
)
def test_clock_time_has_hours_where_needed(seconds: float, total: float, text: str) -> None:
    assert clock_time(seconds, total) == text
