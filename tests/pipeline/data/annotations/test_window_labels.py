"""Labels of windows by events with known overlaps, and the choice of background windows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.data.annotations.annotation import Annotation
from pipeline.data.annotations.window_labels import WindowLabels, choose_background, label_windows
from pipeline.data.windows import parse_overlap, window_starts

# Windows of a recording of 20 s: 0-5, 2.5-7.5, 5-10, 7.5-12.5, 10-15, 12.5-17.5, 15-20.
SECONDS, WINDOW, HOP = 20.0, 5.0, 2.5


def label(*events: tuple[float, float, str], overlap: str = "0.25", seconds: float = SECONDS) -> WindowLabels:
    min_overlap = parse_overlap(overlap)
    assert min_overlap is not None
    annotations = [Annotation(*event) for event in events]
    return label_windows(window_starts(seconds, WINDOW, HOP), WINDOW, seconds, annotations, min_overlap)


@pytest.mark.parametrize(
    ("event", "labeled", "background"),
    [
        ((1.0, 2.0), [0], [1, 2, 3, 4, 5, 6]),
        ((1.0, 2.7), [0], [2, 3, 4, 5, 6]),  # touches window 1 for 0.2 s
        ((1.0, 2.75), [0, 1], [2, 3, 4, 5, 6]),
        ((2.5, 5.0), [0, 1], [2, 3, 4, 5, 6]),  # ends where window 2 begins
        ((6.0, 6.1), [1, 2], [0, 3, 4, 5, 6]),  # shorter than the overlap, inside
        ((4.9, 5.1), [1], [3, 4, 5, 6]),  # of windows 0 and 2, half of it
        ((6.0, 6.0), [1, 2], [0, 3, 4, 5, 6]),  # a point
        ((5.0, 5.0), [1, 2], [0, 3, 4, 5, 6]),  # windows contain their start, not their end
        ((0.0, 0.0), [0], [1, 2, 3, 4, 5, 6]),
        ((19.0, 30.0), [6], [0, 1, 2, 3, 4, 5]),  # ends beyond the recording
        ((-3.0, 1.0), [0], [1, 2, 3, 4, 5, 6]),
        ((0.0, math.inf), [0, 1, 2, 3, 4, 5, 6], []),
    ],
)
def test_event_labels_windows_by_overlap(
    event: tuple[float, float], labeled: list[int], background: list[int]
):
    windows = label((*event, "dog"))
    assert windows.labels == dict.fromkeys(labeled, "dog")
    assert windows.background.tolist() == background
    assert windows.outside == 0


@pytest.mark.parametrize(
    ("overlap", "labeled"), [("0", [0, 1]), ("1", [0]), ("10%", [0, 1]), ("20%", [0]), ("100%", [0])]
)
def test_min_overlap_is_in_seconds_or_percent(overlap: str, labeled: list[int]):
    # A second before window 1 begins, and 0.15 s in it: 13 % of the event.
    assert list(label((1.5, 2.65, "dog"), overlap=overlap).labels) == labeled


@pytest.mark.parametrize(
    ("event", "unused"),
    [
        ((20.1, 20.3, "dog"), 1),  # in the rest after the last window
        ((20.1, 20.3, ""), 0),  # without a class, it could label none
        ((4.0, 20.3, "dog"), 0),
        ((30.0, 31.0, "dog"), 0),  # outside
    ],
)
def test_events_in_no_window_are_counted(event: tuple[float, float, str], unused: int):
    assert label(event, (1.0, 2.0, "cat"), seconds=20.4).unused == unused


def test_percentage_of_long_event_is_of_window():
    # 9 s of 12 in any window of 5 s would be impossible; 75 % of a window are 3.75 s.
    assert list(label((1.0, 13.0, "dog"), overlap="75%").labels) == [0, 1, 2, 3]


def test_event_to_the_end_labels_partial_window():
    # The last window, 10-15, has 1 s of the recording.
    assert list(label((0.0, 11.0, "dog"), overlap="50%", seconds=11.0).labels) == [0, 1, 2, 3]


def test_overlapping_events_give_all_their_classes():
    windows = label((1.0, 4.0, "dog"), (2.0, 3.0, "rain;cat"), (2.0, 3.0, "dog"))
    assert windows.labels == {0: "cat;dog;rain", 1: "cat;dog;rain"}


def test_order_of_events_does_not_matter():
    events = [(1.0, 4.0, "dog"), (11.0, 12.0, "cat"), (3.0, 9.0, "rain")]
    assert label(*events).labels == label(*reversed(events)).labels


def test_event_without_class_is_neither_label_nor_background():
    windows = label((6.0, 7.0, ""))
    assert windows.labels == {} and windows.background.tolist() == [0, 3, 4, 5, 6]


@pytest.mark.parametrize("event", [(20.0, 22.0), (25.0, 26.0), (20.5, 20.5), (-3.0, -1.0), (-1.0, -1.0)])
def test_events_outside_of_recording_are_counted(event: tuple[float, float]):
    windows = label((*event, "dog"))
    assert windows.labels == {} and windows.outside == 1
    assert len(windows.background) == 7


def test_background_is_even_over_recordings():
    available = {name: np.arange(size) for name, size in (("a", 2), ("b", 100), ("c", 50), ("d", 0))}
    chosen = choose_background(available, 20, seed=1)
    assert {name: len(windows) for name, windows in chosen.items()} == {"a": 2, "b": 9, "c": 9, "d": 0}
    assert all(set(chosen[name]) <= set(available[name]) for name in available)
    assert all((np.diff(windows) > 0).all() for windows in chosen.values())


def test_background_follows_the_seed_only():
    available = {name: np.arange(100) for name in "abc"}
    first, again, other = (choose_background(available, 30, seed) for seed in (1, 1, 2))
    reordered = choose_background(dict(reversed(available.items())), 30, 1)
    for name in available:
        assert (first[name] == again[name]).all() and (first[name] == reordered[name]).all()
    assert any((first[name] != other[name]).any() for name in available)


@pytest.mark.parametrize("count", [0, 1, 7, 150, 152, 1000])
def test_background_has_the_requested_number(count: int):
    available = {"a": np.arange(2), "b": np.arange(100), "c": np.arange(50)}
    chosen = choose_background(available, count, seed=0)
    assert sum(map(len, chosen.values())) == min(count, 152)
