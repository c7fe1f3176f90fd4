"""Recordings that stay open: one that is read from its start is decoded once for all units of a worker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.open_recording import KeptRecording, OpenRecording
from pipeline.audio.recordings import read_windows
from tests.helpers.audio_formats import noise
from tests.pipeline.audio.test_recordings import encode_long

RATE, WINDOW = 16_000, 5.0
UNITS = [[0.0, 2.5, 5.0], [7.5, 10.0, 12.5], [15.0, 17.5, 20.0, 22.5, 25.0, 27.5]]


class CountedReads:
    """A reader that lists the first frames of the sections that it reads."""

    def __init__(self, opened: OpenRecording):
        self._reader, self.starts = opened.readers[0], list[int]()

    def __getattr__(self, name: str) -> object:
        return getattr(self._reader, name)

    def read(self, start: int, count: int) -> np.ndarray:
        self.starts.append(start)
        return self._reader.read(start, count)


@pytest.fixture
def from_start(tmp_path: Path) -> str:
    """Write a recording that can only be read from its start."""
    path = tmp_path / "a.au"
    path.write_bytes(encode_long(noise(31.0, RATE), "AU", "G721_32"))
    return str(path)


def read(path: str, starts: list[float], kept: KeptRecording | None = None) -> list[np.ndarray]:
    found = list(read_windows(path, starts, WINDOW, RATE, kept=kept))
    assert not any(isinstance(window, AudioDecodeError) for window in found), found
    return found  # type: ignore[return-value]


def test_units_continue_where_the_previous_one_ended(from_start: str):
    kept, opened = KeptRecording(), OpenRecording(from_start)
    counted = CountedReads(opened)
    opened.readers[0] = counted  # type: ignore[call-overload]
    assert kept.keep(from_start, opened)
    windows = [window for starts in UNITS for window in read(from_start, starts, kept)]
    assert len(counted.starts) > len(UNITS)
    assert counted.starts == sorted(set(counted.starts)), "a section was read twice"
    expected = [window for starts in UNITS for window in read(from_start, starts)]
    assert all(map(np.array_equal, windows, expected)) and len(windows) == len(expected)


def test_earlier_windows_are_read_as_well(from_start: str):
    kept = KeptRecording()
    read(from_start, [20.0], kept)
    assert np.array_equal(read(from_start, [0.0], kept), read(from_start, [0.0]))


def test_long_way_to_a_window_has_heartbeats(from_start: str):
    beats: list[int] = []
    kept = KeptRecording(lambda: beats.append(0), step=6.0)
    windows = read(from_start, [1.0, 20.0], kept)
    assert len(beats) == 3  # at 7, 13 and 19 s
    windows += read(from_start, [21.0, 26.0], kept)
    assert len(beats) == 3
    windows += read(from_start, [13.0], kept)  # from the start again
    assert len(beats) == 5
    expected = read(from_start, [1.0, 20.0]) + read(from_start, [21.0, 26.0]) + read(from_start, [13.0])
    assert all(map(np.array_equal, windows, expected))


def test_recording_stays_open_after_the_last_requested_window(from_start: str):
    kept = KeptRecording()
    windows = read_windows(from_start, UNITS[0], WINDOW, RATE, kept=kept)
    next(windows)
    windows.close()
    opened = kept.take(from_start)
    assert opened is not None
    assert kept.take(from_start) is None
    opened.close()


def test_recordings_with_positions_and_other_recordings_are_closed(from_start: str, tmp_path: Path):
    kept = KeptRecording()
    read(from_start, [0.0], kept)
    wave = tmp_path / "b.wav"
    wave.write_bytes(encode_long(noise(6.0, RATE), "WAV", "PCM_16"))
    read(str(wave), [0.0], kept)
    assert kept.take(str(wave)) is None
    assert kept.take(from_start) is None


def test_unreadable_recording_is_not_kept(tmp_path: Path):
    (tmp_path / "a.au").write_bytes(b".snd and nothing else")
    kept = KeptRecording()
    with pytest.raises(AudioDecodeError):
        read(str(tmp_path / "a.au"), [0.0], kept)
    assert kept.take(str(tmp_path / "a.au")) is None
