"""Events from constructed probabilities: borders, neighbors, missing windows, and recordings in parts."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.classifier.windows import events as module
from pipeline.classifier.windows.events import Event, EventFinder, merge_events

HALF = np.array([0.5])


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def detector(events: list[tuple[float, float]], starts: np.ndarray, window: float) -> np.ndarray:
    """Return probabilities of a detector that finds an event of which a window has 0.2 seconds."""
    overlap = [max(min(start + window, b) - max(start, a) for a, b in events) for start in starts]
    return np.where(np.array(overlap) >= 0.2, 0.97, 0.02).astype(np.float32)[:, None]


def spans(events: list[Event]) -> list[tuple[float, float]]:
    return [(event.start, event.end) for event in events]


def test_windows_without_overlap_are_merged() -> None:
    events = merge_events([0, 5, 10, 15, 20], 5, column(0.1, 0.5, 0.9, 0.2, 0.7), HALF)
    assert spans(events) == [(5, 15), (20, 25)]
    assert [round(event.probability, 6) for event in events] == [0.9, 0.7]


def test_neighboring_events_of_two_classes_are_separate() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.6], [0.1, 0.7]], np.float32)
    events = merge_events([0, 1, 2], 1, probabilities, np.array([0.5, 0.65]))
    assert [(event.start, event.end, event.label) for event in events] == [(0, 2, 0), (2, 3, 1)]


@pytest.mark.parametrize(("window", "hop"), [(5.0, 0.5), (5.0, 1.0), (3.0, 0.25), (5.0, 2.5)])
def test_borders_are_sharper_than_window(window: float, hop: float) -> None:
    truth = [(10.0, 12.5), (30.0, 35.0), (45.0, 47.5)]
    starts = np.arange(0, 60 - window + hop / 2, hop)
    found = spans(merge_events(starts.tolist(), window, detector(truth, starts, window), HALF))
    assert len(found) == len(truth)
    for (start, end), (true_start, true_end) in zip(found, truth, strict=True):
        assert max(abs(start - true_start), abs(end - true_end)) <= max(hop, window / 6)


def test_dip_does_not_split_event() -> None:
    dip = column(0.01, 0.9, 0.9, 0.25, 0.9, 0.9, 0.01, 0.01, 0.4, 0.4, 0.01)
    # The cells at 3 and 4 have 0.47, as two windows cover each; those of 0.4 do not reach the threshold.
    assert spans(merge_events(list(range(11)), 2, dip, HALF, hop=1)) == [(2.0, 6.0)]
    assert len(merge_events(list(range(11)), 2, dip, np.array([0.7]), hop=1)) == 2
    assert spans(merge_events(list(range(11)), 1, dip, HALF)) == [(1.0, 3.0), (4.0, 6.0)]


def test_unconfirmed_window_counts_by_best_cell() -> None:
    events = merge_events([0, 2.5, 5, 7.5], 5, column(0.01, 0.2, 0.9, 0.02), HALF)
    assert spans(events) == [(5.0, 7.5)]
    assert events[0].probability == pytest.approx(0.9)


def test_equal_probabilities_at_threshold_are_present() -> None:
    for hop in (0.5, 0.7, 1.1, 5.0):
        starts = [round(i * hop, 3) for i in range(9)]
        events = merge_events(starts, 5, np.full((9, 1), 0.7, np.float32), np.array([0.7], np.float32), hop)
        assert spans(events) == [(0.0, round(starts[-1] + 5, 3))]


def test_event_ends_with_recording() -> None:
    assert spans(merge_events([0, 2.5, 5], 5, column(0, 0.9, 0.9), HALF, seconds=8.25)) == [(5.0, 8.25)]
    assert spans(merge_events([0.0], 5, column(0.9), HALF, hop=1, seconds=0.4)) == [(0.0, 0.4)]


def test_missing_windows_interrupt_events() -> None:
    assert spans(merge_events([0, 1, 4, 5], 1, column(0.9, 0.9, 0.9, 0.9), HALF)) == [(0, 2), (4, 6)]
    # A window that is missing is no evidence against those that cover the same time.
    assert spans(merge_events([0, 5, 7.5], 5, column(0.9, 0.9, 0.9), HALF)) == [(0, 12.5)]


def test_recording_without_windows_has_no_events() -> None:
    assert EventFinder(5, 2.5, HALF).finish() == []


@pytest.mark.parametrize("hop", [0.5, 0.7, 1.0, 2.5, 5.0])
@pytest.mark.parametrize("block", [1, 40])
def test_events_do_not_depend_on_parts(hop: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(round(10 * hop))
    kept = np.flatnonzero(rng.random(700) > 0.1)
    starts = np.round(kept * hop, 3)
    probabilities = rng.beta(0.4, 0.6, (len(kept), 3)).astype(np.float32)
    thresholds = np.array([0.3, 0.5, 0.8])
    expected = merge_events(starts.tolist(), 5, probabilities, thresholds, hop)
    assert len(expected) > 100
    monkeypatch.setattr(module, "BLOCK_VALUES", block)
    finder = EventFinder(5, hop, thresholds)
    position = 0
    while position < len(starts):
        part = slice(position, position + int(rng.integers(1, 30)))
        finder.add(starts[part], probabilities[part])
        position = part.stop
    assert finder.finish() == expected
    # Every window above the threshold is part of an event.
    for start, row in zip(starts, probabilities, strict=True):
        for label in np.flatnonzero(row >= thresholds):
            assert any(e.label == label and e.start < start + 5 and start < e.end for e in expected)
