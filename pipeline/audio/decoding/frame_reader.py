"""Frames of any section of a stream, with a bounded amount of memory.

A frame is one sample of each channel. The same section has the same samples whatever was read before; those
of an MP3 may differ by 1e-7, as its decoder rounds differently after each seek.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import soundfile

from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.decoder_output import hide_mpg123_messages
from pipeline.audio.decoding.ogg_pages import OggDamage
from pipeline.audio.decoding.stream import Stream
from pipeline.audio.decoding.stream_reader import (
    BLOCK_FRAMES,
    CUT,
    DECODER_ERRORS,
    MP3_TOLERANCE,
    UNKNOWN_FRAMES,
    declared_frames,
    open_stream,
    read_frames,
)
from pipeline.audio.decoding.streams import uses_mpg123

# After a seek, the first frames of these formats are wrong, as a frame needs the previous ones.
_LOSSY_FORMATS = ("OGG", "MP3")
_WARM_UP_FRAMES = 1 << 13
# Units per second of the positions in Ogg pages; 0: frames.
_OGG_RATES = {"VORBIS": 0, "OPUS": 48_000}
# A damaged part is found to this length in seconds, about that of a block of FLAC.
MIN_PART_SECONDS = 0.1


class FrameReader(Protocol):
    """Reads sections of a stream."""

    sample_rate: int
    """In Hz."""
    channels: int
    num_frames: int | None
    """How many frames there are, if the header is right; None: unknown."""
    declared_frames: int
    """How many there should be: at least `num_frames`, or 0 if that is unknown."""
    tolerance: int
    """How many of them may be missing in an intact file, whose header is not exact."""
    is_seekable: bool
    """Whether a section can be read without what precedes it."""
    warning: str
    """Why the samples may not be what they should be; empty if nothing is known of that."""

    def read(self, start: int, count: int) -> np.ndarray:
        """Return up to `count` frames from frame `start` on, float32 `[shape=(num_frames, channels)]`.

        Raises:
            RuntimeError, ValueError, OSError: they cannot be decoded.
            SourceError: the object store cannot be reached.
        """

    def close(self) -> None:
        """Close the file."""


class SoundReader:
    """Reads a stream by libsndfile."""

    def __init__(self, source: ByteSource, stream: Stream) -> None:
        """Open a stream.

        Raises:
            soundfile.LibsndfileError, ValueError: it cannot be decoded.
        """
        self._source, self._stream = source, stream
        self.warning = stream.warning or (CUT if stream.cut else "")
        self._uses_mpg123 = uses_mpg123(source)
        self._sound: soundfile.SoundFile | None = None
        self._position = 0
        self._last = np.zeros((0, 1), np.float32)
        with self._hidden():
            sound = self._open()
        self.sample_rate, self.channels = sound.samplerate, sound.channels
        estimated = sound.subtype.startswith("MPEG_LAYER") and (
            sound.format != "MP3" or sound.subtype != "MPEG_LAYER_III"
        )
        self.is_mp3 = sound.format == "MP3" and not estimated
        self._is_exact = sound.format not in _LOSSY_FORMATS and not estimated
        self.is_seekable = sound.seekable() and not estimated
        is_known = sound.frames < UNKNOWN_FRAMES and not estimated
        self.num_frames: int | None = sound.frames if is_known else None
        declared = declared_frames(sound, stream, sound.frames) if is_known else 0
        self.declared_frames = int(min(declared, UNKNOWN_FRAMES))
        self._damage: OggDamage | None = None
        if is_known and sound.format == "OGG" and sound.subtype in _OGG_RATES:
            rate = _OGG_RATES[sound.subtype] or sound.samplerate
            self._damage = OggDamage(source, stream, sound.frames, sound.samplerate / rate)
        self.tolerance = MP3_TOLERANCE if sound.format == "MP3" and not stream.declared_bytes else 0

    def _hidden(self) -> AbstractContextManager[None]:
        return hide_mpg123_messages() if self._uses_mpg123 else nullcontext()

    def _open(self) -> soundfile.SoundFile:
        self.close()
        self._position, self._last = 0, self._last[:0]
        self._sound = open_stream(self._source, self._stream)
        return self._sound

    def close(self) -> None:
        """Close the file."""
        if self._sound is not None:
            self._sound.close()
            self._sound = None

    def read(self, start: int, count: int) -> np.ndarray:
        """Read a section, as `FrameReader.read`."""
        with self._hidden():
            try:
                self._check(start, count)
                return self._read(start, count)
            except DECODER_ERRORS:
                self.close()
                raise
            finally:
                self._source.check()

    def _check(self, start: int, count: int) -> None:
        """Raise an error if the decoder would leave out a damaged part in silence."""
        if self._damage is not None and self._damage.parts(max(0, start - _WARM_UP_FRAMES), start + count):
            raise RuntimeError("damaged Ogg pages")

    def _read(self, start: int, count: int) -> np.ndarray:
        sound = self._open() if self._sound is None else self._sound
        kept = self._kept(start)
        if kept is None:
            sound, kept = self._go_to(sound, start), np.zeros((0, self.channels), np.float32)
        frames = kept[:count]
        if len(kept) < count:
            new = read_frames(sound, count - len(kept))
            self._position += len(new)
            frames = np.concatenate([kept, new]) if len(kept) else new
            self._last = frames
        return frames

    def _kept(self, start: int) -> np.ndarray | None:
        """Return the frames from `start` to the position of the file, if they were read last.

        Lossy formats always seek: their samples depend on where decoding begins, by rounding at least.
        """
        kept = start - (self._position - len(self._last))
        if (self.is_seekable and not self._is_exact) or not 0 <= kept <= len(self._last):
            return None
        return self._last[kept:]

    def _go_to(self, sound: soundfile.SoundFile, start: int) -> soundfile.SoundFile:
        """Set the position of the file to a frame."""
        if self.is_seekable:
            self._position = start if self._is_exact else max(0, start - _WARM_UP_FRAMES)
            sound.seek(self._position)
        elif start < self._position:
            sound = self._open()
        while self._position < start:
            skipped = len(read_frames(sound, min(BLOCK_FRAMES, start - self._position)))
            if not skipped:
                break
            self._position += skipped
        return sound


@dataclass(frozen=True)
class Section:
    """Frames of a section, and which of them could not be read."""

    frames: np.ndarray
    """Float32 `[shape=(num_frames, channels)]`; zero where they could not be read."""
    unreadable: list[tuple[int, int]]
    """First frame of each unreadable part, and the first one after it, from the start of the stream on."""


def read_section(reader: FrameReader, start: int, count: int) -> Section:
    """Read a section, around damaged parts of it."""
    frames = np.zeros((count, reader.channels), np.float32)
    unreadable = _read_parts(reader, start, frames, max(1, round(MIN_PART_SECONDS * reader.sample_rate)))
    finite = np.isfinite(frames).all(axis=1)
    if not finite.all():
        frames[~finite] = 0
        bad = start + np.flatnonzero(~finite)
        unreadable.append((int(bad[0]), int(bad[-1]) + 1))
    return Section(frames, _joined(unreadable))


def _read_parts(reader: FrameReader, start: int, out: np.ndarray, min_frames: int) -> list[tuple[int, int]]:
    """Read frames from `start` on into `out`; return which of them cannot be read.

    What follows an error may be at a wrong position, or missing: only a new attempt shows it. So each half is
    read again, down to parts of `min_frames`.
    """
    try:
        frames = reader.read(start, len(out))
        out[: len(frames)] = frames
        missing = len(frames) < len(out)
        return [(start + len(frames), start + len(out))] if missing else []
    except DECODER_ERRORS:
        if len(out) <= min_frames or not reader.is_seekable:
            return [(start, start + len(out))]
    half = len(out) // 2
    return [
        *_read_parts(reader, start, out[:half], min_frames),
        *_read_parts(reader, start + half, out[half:], min_frames),
    ]


def _joined(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return parts in their order, those that touch each other as one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(parts):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def count_frames(reader: FrameReader, limit: float = math.inf) -> int:
    """Return the number of frames: as the header declares it, or by reading all of them.

    Reading stops once there are more than `limit`.
    """
    if reader.num_frames is not None:
        return reader.num_frames
    count = 0
    while count <= limit:
        section = read_section(reader, count, BLOCK_FRAMES)
        if section.unreadable:
            return section.unreadable[0][0]
        count += BLOCK_FRAMES
    return count


def find_end(reader: FrameReader, num_frames: int) -> int:
    """Return the number of frames up to the end of what can be read; the header declares `num_frames`.

    Accurate to `MIN_PART_SECONDS`. The end is searched for by bisection: a file is cut off there, so nothing
    after it can be read.
    """
    size = max(1, round(MIN_PART_SECONDS * reader.sample_rate))
    low, high = 0, num_frames
    if _can_read(reader, max(0, high - size), min(size, high)):
        return num_frames
    while high - low > size:
        middle = (low + high) // 2
        if _can_read(reader, middle, min(size, high - middle)):
            low = middle
        else:
            high = middle
    section = read_section(reader, low, min(2 * size, num_frames - low))
    return section.unreadable[0][0] if section.unreadable else low + len(section.frames)


def _can_read(reader: FrameReader, start: int, count: int) -> bool:
    try:
        return len(reader.read(start, count)) == count
    except DECODER_ERRORS:
        return False
