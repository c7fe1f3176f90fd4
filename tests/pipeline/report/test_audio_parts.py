"""Audio of parts of a recording: events within a size limit, with the samples at their times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from pipeline.report.audio_parts import AudioPart, choose_parts, heard, read_parts
from tests.helpers.sounds import RATE, tone
from tests.pipeline.report.test_clips import decode_audio

# So small that the size of headers does not count.
BYTES_PER_SECOND = 1e9


def choose(spans: list[tuple[float, float]], seconds: float = 100.0) -> list[tuple[float, float]]:
    """Choose parts of a recording of 100 s; there is space for `seconds`."""
    return choose_parts(spans, 100.0, round(seconds * BYTES_PER_SECOND), BYTES_PER_SECOND)


def test_events_have_a_second_before_and_after() -> None:
    assert choose([(50.0, 52.0), (10.0, 11.5)]) == [(9.0, 12.5), (49.0, 53.0)]


def test_parts_end_with_the_recording_and_those_that_meet_are_one() -> None:
    assert choose([(0.5, 2.0), (3.5, 4.0), (99.5, 100.0)]) == [(0.0, 5.0), (98.5, 100.0)]


def test_long_event_has_its_beginning() -> None:
    assert choose([(10.0, 90.0)]) == [(9.0, 41.0)]


def test_first_events_are_chosen_and_smaller_ones_that_still_fit() -> None:
    spans = [(50.0, 52.0), (20.0, 25.0), (51.0, 52.0), (80.0, 80.5)]
    assert choose(spans, 7.0) == [(49.0, 53.0), (79.0, 81.5)]


def test_parts_have_the_samples_of_their_times(tmp_path: Path) -> None:
    samples = np.concatenate([tone(310, 20.0), tone(620, 20.0), tone(1240, 20.0)])
    soundfile.write(tmp_path / "a.flac", samples, RATE)
    spans = [(3.0, 5.0), (18.0, 42.5), (58.0, 60.0)]
    parts = read_parts(str(tmp_path / "a.flac"), spans, RATE, 10**6)
    assert [part[:2] for part in parts] == spans
    for start, end, uri in parts:
        decoded, rate, _ = decode_audio(uri)
        expected = samples[round(start * RATE) : round(end * RATE)]
        assert (decoded.size, rate) == (expected.size, RATE)
        assert np.corrcoef(decoded, expected)[0, 1] > 0.98


def test_parts_beyond_the_limit_are_left_out(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(310, 60.0), RATE)
    all_parts = read_parts(str(tmp_path / "a.wav"), [(0.0, 10.0), (20.0, 30.0)], RATE, 10**6)
    size = sum(len(part.uri) for part in all_parts) * 3 // 4
    assert len(read_parts(str(tmp_path / "a.wav"), [(0.0, 10.0), (20.0, 30.0)], RATE, size - 2000)) == 1


def test_events_in_parts_are_counted() -> None:
    parts = [AudioPart(1.0, 3.0, ""), AudioPart(5.0, 6.0, "")]
    assert heard([0.5, 1.0, 2.9, 3.0, 5.5, 7.0], parts) == 3
    assert heard([1.0], []) == heard([], parts) == 0
