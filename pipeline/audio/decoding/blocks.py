"""A stream as mono samples at another rate, in blocks that begin at fixed positions of the stream.

A block has the same samples whatever was read before, so windows do not depend on each other. It is
resampled with as much of its neighbors as the filter needs, from a frame that falls on a sample of the target
rate: only the rounding of float32 differs from resampling the whole stream at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.audio.decoding.channels import ChannelStatistics, Mix, mix_down
from pipeline.audio.decoding.frame_reader import FrameReader, find_end, read_section
from pipeline.audio.waveform import resample

# Length of a block in seconds, and its maximum number of values (frames x channels).
BLOCK_SECONDS, _MAX_BLOCK_VALUES = 10, 1 << 23
# Neighboring samples that a sample depends on, in periods of the lower rate: twice those of soxr HQ.
_MARGIN_PERIODS = 256
# Which channels are used is decided by evenly spaced samples of the stream.
_NUM_SAMPLES, _SAMPLE_SECONDS = 8, 1.0


@dataclass(frozen=True)
class Block:
    """Samples of a block, and which of them could not be read."""

    samples: np.ndarray
    """Float32 `[shape=(num_samples,)]` at the target rate."""
    unreadable: list[tuple[int, int]]
    """First sample of each unreadable part, and the first one after it, from the start of the stream on."""


class StreamBlocks:
    """The blocks of a stream."""

    def __init__(self, reader: FrameReader, sample_rate: int) -> None:
        """Use a stream at `sample_rate` Hz."""
        self.reader, self._sample_rate = reader, sample_rate
        rate = reader.sample_rate
        max_seconds = _MAX_BLOCK_VALUES // (rate * reader.channels)
        self._block_seconds = min(max(1, max_seconds), BLOCK_SECONDS)
        # Frames and samples coincide every `unit` frames.
        unit = rate // math.gcd(rate, sample_rate)
        needed = 0 if rate == sample_rate else _MARGIN_PERIODS * max(1.0, rate / sample_rate)
        self._margin = math.ceil(needed / unit) * unit
        self._end = reader.num_frames
        self._end_is_known = False

    @property
    def block_samples(self) -> int:
        """Number of samples of a block; the last one has fewer."""
        return self._block_seconds * self._sample_rate

    @property
    def expected(self) -> int | None:
        """Number of samples that there should be; None: unknown."""
        if self._end is None:
            return None
        missing = self.reader.declared_frames - self._end
        return self.to_samples(self._end + (missing if missing > self.reader.tolerance else 0))

    @property
    def end(self) -> int | None:
        """Number of samples up to the end, as far as that is known; None: unknown."""
        return None if self._end is None else self.to_samples(self._end)

    def to_samples(self, frames: int) -> int:
        """Return the number of samples of that many frames, as the resampler rounds it."""
        return math.floor(frames * self._sample_rate / self.reader.sample_rate + 0.5)

    def block(self, index: int) -> Block:
        """Read a block; it has no samples after the end of the stream."""
        frames = self._block_seconds * self.reader.sample_rate
        return self._read(index * frames, (index + 1) * frames)

    def _read(self, first: int, last: int) -> Block:
        mix = self.mix  # first, as a stream that is read from its start cannot go back
        start, stop = max(0, first - self._margin), self._limit(last + self._margin)
        if self._limit(last) <= first:
            return Block(np.zeros(0, np.float32), [])
        section = read_section(self.reader, start, stop - start)
        if section.unreadable and section.unreadable[-1][1] == stop and not self._end_is_known:
            self._find_end(section.unreadable[-1][0])
            return self._read(first, last)
        rows = np.ascontiguousarray(section.frames.T)
        mono = mix_down(rows, _mix_of_section(rows, mix))
        skipped = self.to_samples(first - start)
        count = self.to_samples(self._limit(last)) - self.to_samples(first)
        samples = resample(mono, self.reader.sample_rate, self._sample_rate)[skipped : skipped + count]
        if samples.size == count - 1:  # the resampler rounds down at the end of some lengths
            samples = np.pad(samples, (0, 1))
        return Block(samples, [self._sample_range(part) for part in section.unreadable])

    def _limit(self, frame: int) -> int:
        return frame if self._end is None else min(frame, self._end)

    def _find_end(self, unreadable: int) -> None:
        """Find the end, after frames from `unreadable` on were missing at the end of a section."""
        self._end_is_known = True
        if self.reader.num_frames is None or not self.reader.is_seekable:
            self._end = unreadable
        else:
            self._end = find_end(self.reader, self.reader.num_frames)

    def _sample_range(self, part: tuple[int, int]) -> tuple[int, int]:
        """Return the samples that depend on a part: also its neighbors, by the filter of the resampler."""
        ratio, (first, last) = self._sample_rate / self.reader.sample_rate, part
        return max(0, math.floor((first - self._margin) * ratio)), math.ceil((last + self._margin) * ratio)

    @cached_property
    def mix(self) -> Mix | None:
        """Channels whose mean is used, by samples of the whole stream; None: all of them.

        Of a stream that can only be read from its start, the first block decides.
        """
        statistics = ChannelStatistics()
        if self.reader.channels > 1:
            for frames in self._sample_frames():
                statistics.add(np.ascontiguousarray(frames.T))
        return statistics.mix()

    def _sample_frames(self) -> list[np.ndarray]:
        rate, end = self.reader.sample_rate, self._end
        block = self._block_seconds * rate
        if end is None or end <= block or not self.reader.is_seekable:
            return [_readable(self.reader, 0, self._limit(block))]
        size = round(min(_SAMPLE_SECONDS, self._block_seconds) * rate)
        step = (end - size) // (_NUM_SAMPLES - 1)
        return [_readable(self.reader, i * step, size) for i in range(_NUM_SAMPLES)]


def _mix_of_section(rows: np.ndarray, mix: Mix | None) -> Mix | None:
    """Return the channels to use of a section: those of the stream, unless a silent one sounds in it.

    A channel that is silent in all samples of the stream may still have a single event.
    """
    if mix is None or mix.silent_power is None:
        return mix
    others = [row for channel, row in enumerate(rows) if channel not in mix.channels]
    with np.errstate(over="ignore", invalid="ignore"):
        if not any(row.size and row.var() > mix.silent_power for row in others):
            return mix
    statistics = ChannelStatistics()
    statistics.add(rows)
    return statistics.mix()


def _readable(reader: FrameReader, start: int, count: int) -> np.ndarray:
    """Return the frames of a section up to the first one that cannot be read."""
    section = read_section(reader, start, count)
    return section.frames[: section.unreadable[0][0] - start] if section.unreadable else section.frames
