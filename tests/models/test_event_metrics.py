"""F1 of events and segments: cases that can be counted by hand, and one computed with sed_eval 0.2.1."""

from __future__ import annotations

import numpy as np
import pytest

from models.event_metrics import EventCounts, add_counts, count_events, count_segments, event_scores

# True and predicted events of three recordings of 30 s.
RECORDINGS = (
    (
        "0.13 5.85 3, 0.29 0.98 0, 0.89 3.44 3, 5.63 6.14 1, 6.96 8.86 1, 11.13 15.0 2, 12.85 15.31 1,"
        "15.31 15.56 0, 15.55 17.13 3, 17.3 18.67 2, 19.93 20.63 3, 22.43 23.67 2, 22.93 23.98 1,"
        "24.89 28.64 2",
        "0.32 1.33 0, 9.49 14.98 0, 12.93 15.03 1, 15.32 17.06 3, 22.48 23.29 2, 24.92 29.46 2",
    ),
    (
        "2.42 4.69 1, 3.29 4.09 1, 3.64 4.23 3, 5.38 7.6 0, 11.01 12.88 0, 13.81 13.96 3, 21.85 25.1 1,"
        "22.1 23.18 2, 22.6 24.2 3",
        "0.36 2.07 3, 3.78 14.45 2, 3.84 4.12 3, 11.15 11.87 0, 11.35 11.83 3, 13.39 14.12 3, 13.88 15.31 3,"
        "21.8 23.52 3, 22.27 25.1 1, 23.07 24.59 1",
    ),
    (
        "6.27 13.6 3, 8.5 10.1 0, 10.67 13.51 1, 10.75 11.54 2, 11.11 13.47 3, 12.89 15.48 3, 16.91 22.37 0,"
        "18.57 19.17 3, 23.07 23.39 1",
        "1.17 1.35 2, 6.45 13.28 3, 8.32 9.6 2, 9.16 9.7 0, 10.12 14.08 1, 11.14 13.92 1, 11.42 13.97 3,"
        "12.19 15.92 3, 17.47 21.5 0, 18.25 18.77 0, 20.05 28.02 3",
    ),
)


def parse(text: str) -> np.ndarray:
    """Return the events of a text such as `0.5 2 0, 1 3 1`."""
    return np.array([[float(value) for value in event.split()] for event in text.split(",") if event.strip()])


def events(text: str) -> np.ndarray:
    """Return the events of a text, also of an empty one."""
    return parse(text).reshape(-1, 3)


def correct(reference: str, predicted: str, **options: float) -> int:
    """Return the number of matching events."""
    return int(count_events(events(reference), events(predicted), 2, **options).correct.sum())


@pytest.mark.parametrize(
    ("predicted", "matches"),
    [
        ("1.5 3 0", 1),
        ("1.51 3 0", 0),
        ("1 3.5 0", 1),
        ("1 3.51 0", 0),
        ("1 3 1", 0),
        ("", 0),
    ],
)
def test_events_match_within_collar_of_class(predicted: str, matches: int) -> None:
    assert correct("1 3 0", predicted) == matches


def test_ends_of_long_events_have_more_tolerance() -> None:
    assert correct("0 10 0", "0 12 0") == 1 and correct("0 10 0", "0 12.01 0") == 0
    # Of the true event's length, not of the predicted one's.
    assert correct("0 5 0", "0 6.05 0") == 0
    assert correct("0 10 0", "0 30 0", length_fraction=np.inf) == 1


def test_matching_finds_most_pairs() -> None:
    # The first true event matches both predictions; if it got the first one, the second true one had none.
    assert correct("1.0 2 0, 1.8 2.4 0", "1.4 2 0, 0.6 2 0") == 2
    assert correct("1 2 0", "1 2 0, 1.1 2 0") == 1


def test_segments_count_classes_once() -> None:
    counts = count_segments(events("0.5 2.2 0, 1 2 0, 5 6 1"), events("1.9 4 0, 5.5 5.6 0"), 2, 6.0)
    assert counts.reference.tolist() == [3, 1]
    assert counts.predicted.tolist() == [4, 0]
    assert counts.correct.tolist() == [2, 0]


def test_segments_end_with_the_recording() -> None:
    counts = count_segments(events("1 9 0"), events("0 9 0"), 1, 2.5)
    assert (counts.reference[0], counts.predicted[0], counts.correct[0]) == (2, 3, 2)


def test_scores_leave_out_classes_without_events() -> None:
    counts = EventCounts(np.array([4, 0, 2]), np.array([2, 2, 0]), np.array([2, 0, 0]))
    scores = event_scores(counts, ["a", "b", "c"])
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert scores["micro_f1"] == pytest.approx(2 * 2 / (6 + 4))
    assert (scores["precision"], scores["recall"]) == (0.5, pytest.approx(1 / 3))
    assert [entry["precision"] for entry in scores["per_class"]] == [1.0, 0.0, 0.0]
    assert event_scores(EventCounts(*np.zeros((3, 1), int)), ["a"])["macro_f1"] is None


def test_scores_equal_those_of_sed_eval() -> None:
    """On 60 random cases of three recordings, all scores differed by at most 1e-15."""
    pairs = [(events(reference), events(predicted)) for reference, predicted in RECORDINGS]
    scores = event_scores(add_counts(count_events(*pair, 4) for pair in pairs), "abcd")
    expected = {"micro_f1": 0.3389830508474576, "precision": 0.37037037037037035, "recall": 0.3125}
    expected |= {"macro_f1": 0.3079004329004329}
    assert {key: scores[key] for key in expected} == pytest.approx(expected, rel=1e-12)
    per_class = [0.16666666666666666, 0.42857142857142855, 0.1818181818181818, 0.45454545454545453]
    assert [entry["f1"] for entry in scores["per_class"]] == pytest.approx(per_class, rel=1e-12)
    scores = event_scores(add_counts(count_segments(*pair, 4, 30.0) for pair in pairs), "abcd")
    expected = {"micro_f1": 0.5263157894736843, "precision": 0.5294117647058824, "recall": 0.5232558139534884}
    expected |= {"macro_f1": 0.5220238095238096}
    assert {key: scores[key] for key in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("point", "segment"), [(3.0, 3), (3.2, 3), (0.0, 0), (30.0, 29)])
def test_point_in_time_is_in_one_segment(point: float, segment: int) -> None:
    detected = events(f"{segment + 0.2} {segment + 0.4} 0")
    counts = count_segments(events(f"{point} {point} 0"), detected, 1, 30.0)
    assert [int(count[0]) for count in counts] == [1, 1, 1]


def test_rounding_of_times_does_not_matter() -> None:
    for start in np.arange(0, 30, 0.1):  # 1.1 - 0.6 is 0.5000000000000001
        assert correct(f"{start} {start + 1} 0", f"{start + 0.5} {start + 1} 0") == 1
    end = 31.000000000000057
    assert count_segments(events(f"30 {end} 0"), events(""), 1, 60.0).reference.tolist() == [1]
