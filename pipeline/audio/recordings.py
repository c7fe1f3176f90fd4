"""Windows of recordings of any length: their samples, read in blocks, and what of them is damaged."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.audio.decode import (
    AudioDecodeError,
    DecodeConfig,
    OnWarning,
    bandwidth_warning,
    ignore_warning,
    level_warning,
)
from pipeline.audio.decoding.frame_reader import count_frames
from pipeline.audio.decoding.timeline import Timeline
from pipeline.audio.features import ClipSource, FeatureConfig, spectrogram
from pipeline.audio.open_recording import KeptRecording, open_recording


class Recording(NamedTuple):
    """Length and sample rate of a recording."""

    seconds: float
    sample_rate: int


def read_recording(source: ClipSource, max_seconds: float = math.inf) -> Recording:
    """Return length and sample rate of a recording, from its header where that has them.

    A file that is cut off has the length that it declares: the windows of the missing part are errors.

    Args:
        source: the recording.
        max_seconds: length from which on counting stops, where the header does not have it.

    Raises:
        AudioDecodeError: no usable audio.
        UserError: the object store cannot be reached.
    """
    with open_recording(source) as opened:
        seconds = 0.0
        for reader in opened.readers:
            limit = (max_seconds - seconds) * reader.sample_rate
            seconds += (reader.declared_frames or count_frames(reader, limit)) / reader.sample_rate
        if not seconds:
            raise AudioDecodeError("no samples")
        return Recording(seconds, opened.readers[0].sample_rate)


def read_windows(
    source: ClipSource,
    starts: Sequence[float],
    seconds: float,
    sample_rate: int,
    min_complete: float = DecodeConfig().min_complete,
    on_warning: OnWarning = ignore_warning,
    kept: KeptRecording | None = None,
) -> Generator[np.ndarray | AudioDecodeError]:
    """Yield the samples of windows of a recording, or why a window cannot be read.

    Memory does not depend on the length of the recording, of which only the blocks of these windows are
    decoded; but files in which seeking is not possible or not exact are decoded from their start.

    Args:
        source: the recording.
        starts: first second of each window, ascending.
        seconds: length of a window.
        sample_rate: rate of the samples in Hz.
        min_complete: a window needs at least this fraction of those samples that the recording declares.
        on_warning: called with each reason why the samples may not be what they should be; with those of the
            whole recording before its first window, with those of a window before it.
        kept: where a recording that can only be read from its start stays open, for its next windows.

    Yields:
        Mono samples, float32 `[shape=(num_samples,)]`; fewer than `seconds` at the end of the recording.

    Raises:
        AudioDecodeError: nothing of the recording can be read; raised before the first window.
        UserError: the object store cannot be reached.
    """
    with open_recording(source, kept) as opened:
        timeline = opened.timeline(sample_rate)
        if timeline.declared == 0:
            raise AudioDecodeError("no samples")
        warnings = [reader.warning for reader in opened.readers]
        warnings += [bandwidth_warning(reader.sample_rate, sample_rate) for reader in opened.readers]
        for text in dict.fromkeys(filter(None, [*warnings, *timeline.mix_reasons])):
            on_warning(text)
        for start in starts:
            if kept is not None:
                opened.approach(start, sample_rate, kept.heartbeat, kept.step)
            window = _Window(round(start * sample_rate), round(seconds * sample_rate), sample_rate)
            try:
                yield window.read(timeline, min_complete, on_warning)
            except AudioDecodeError as error:
                yield error


class WindowSpectrograms(NamedTuple):
    """Spectrograms of those windows of a recording that can be read."""

    mels: np.ndarray
    """In dB, float16 `[shape=(N, n_mels, num_frames)]`."""
    readable: list[int]
    """Index of the window of each."""
    errors: list[AudioDecodeError]
    """Why the other windows cannot be read."""


def window_spectrograms(
    windows: Iterable[np.ndarray | AudioDecodeError], features: FeatureConfig
) -> WindowSpectrograms:
    """Compute the spectrograms of windows as `read_windows` yields them."""
    mels, readable, errors = [], [], []
    for index, samples in enumerate(windows):
        if isinstance(samples, AudioDecodeError):
            errors.append(samples)
        else:
            readable.append(index)
            mels.append(spectrogram(samples, features))
    stacked = np.stack(mels) if mels else np.empty((0, *features.shape), np.float16)
    return WindowSpectrograms(stacked, readable, errors)


def read_each_window(
    source: ClipSource,
    starts: Sequence[float],
    seconds: float,
    sample_rate: int,
    min_complete: float = DecodeConfig().min_complete,
    on_warning: OnWarning = ignore_warning,
    kept: KeptRecording | None = None,
) -> Generator[np.ndarray | AudioDecodeError]:
    """Yield as `read_windows`; if nothing of the recording can be read, the reason for every window.

    Raises:
        UserError: the object store cannot be reached.
    """
    try:
        yield from read_windows(source, starts, seconds, sample_rate, min_complete, on_warning, kept)
    except AudioDecodeError as error:
        yield from itertools.repeat(error, len(starts))


class _Window(NamedTuple):
    """A window, in samples."""

    first: int
    size: int
    sample_rate: int

    def read(self, timeline: Timeline, min_complete: float, on_warning: OnWarning) -> np.ndarray:
        """Return the samples of the window.

        Raises:
            AudioDecodeError: it is beyond the end, damaged, or less complete than `min_complete`.
        """
        part = timeline.read(self.first, self.first + self.size)
        num_samples = part.samples.size
        end = self.first + num_samples
        if not num_samples:
            actual = timeline.end
            raise AudioDecodeError(f"the recording ends at {self._clock(end if actual is None else actual)}")
        damaged = [(start, stop) for start, stop in part.unreadable if start < end and stop > self.first]
        if damaged:
            start, stop = self._clock(damaged[0][0]), self._clock(damaged[-1][1] - 1, math.ceil)
            raise AudioDecodeError(f"unreadable from {start} to {stop}")
        declared = end if timeline.declared is None else timeline.declared
        expected = min(self.size, declared - self.first)
        if num_samples < expected:
            percent = math.floor(1000 * num_samples / expected) / 10
            text = f"truncated: the recording ends at {self._clock(end)}, {percent:.1f} % of the window"
            if num_samples < min_complete * expected:
                raise AudioDecodeError(f"{text}, less than --min-complete {min_complete:g}")
            on_warning(text)
        if text := level_warning(part.samples, constant=False):
            on_warning(text)
        return part.samples

    def _clock(self, sample: int, to_integer: Callable[[float], int] = math.floor) -> str:
        """Return the position of a sample as hours, minutes and seconds."""
        seconds = to_integer(sample / self.sample_rate)
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
