"""Frames of MP3 files of which a part may be damaged or missing: what follows keeps its time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.frame_reader import FrameReader, SoundReader
from pipeline.audio.decoding.mpeg_frames import MpegFrames, Run
from pipeline.audio.decoding.mpeg_header import parse_frame
from pipeline.audio.decoding.stream import Stream

# The first frames of a run need bytes of those before them, up to 511, and overlap with them.
_INCOMPLETE_FRAMES = 10
# Samples that decoders remove at the start, at most about this many frames.
_DELAY_FRAMES = 8
ALL_FRAMES = 1 << 62


def mpeg_reader(source: ByteSource, stream: Stream) -> FrameReader:
    """Return the reader of a stream, with regard to its damage if it is MP3.

    Raises:
        soundfile.LibsndfileError, ValueError: it cannot be decoded.
    """
    reader = SoundReader(source, stream)
    frames = mpeg_frames(source, stream) if reader.is_mp3 else None
    return reader if frames is None else MpegReader(source, reader, frames)


def mpeg_frames(source: ByteSource, stream: Stream) -> MpegFrames | None:
    """Return the frames of a stream that may be damaged; None if they are intact or not distinguishable."""
    if stream.prefix and not stream.has_gaps:  # whose frames were all looked at
        return None
    try:
        return MpegFrames(source, stream)
    except ValueError:
        return None


class MpegReader:
    """Reads a stream of layer 3; see `FrameReader`."""

    def __init__(self, source: ByteSource, whole: SoundReader, frames: MpegFrames) -> None:
        """Use the reader of a whole stream, and its frames."""
        self._source, self._whole, self._frames = source, whole, frames
        self.sample_rate, self.channels = whole.sample_rate, whole.channels
        self.num_frames, self.declared_frames = whole.num_frames, whole.declared_frames
        self.tolerance, self.is_seekable, self.warning = whole.tolerance, whole.is_seekable, whole.warning
        self._run: Run | None = None
        self._part: SoundReader | None = None
        if frames.is_counted:
            self._add_lost_frames()

    def _add_lost_frames(self) -> None:
        """Extend the length, which is that of the frames that were found."""
        runs = self._frames.runs(ALL_FRAMES)
        if runs and self.num_frames is not None:
            lost = runs[-1].first + runs[-1].num_frames - self._frames.declared
            self.num_frames += lost * self._frames.frame_size
            self.declared_frames = self.num_frames
            self.warning = self._frames.warning or self.warning

    def read(self, start: int, count: int) -> np.ndarray:
        """Read a section, as `FrameReader.read`."""
        size = self._frames.frame_size
        runs = self._frames.runs((start + count) // size + _DELAY_FRAMES)
        self._source.check()
        if not runs:
            return self._whole.read(start, count)
        run = next((run for run in reversed(runs) if run.first * size <= start), runs[0])
        usable = run.first + (_INCOMPLETE_FRAMES if run is not runs[0] else 0)
        if not run.is_certain or start < usable * size:
            raise RuntimeError("damaged MPEG frames")
        frames = self._open(run).read(start - run.first * size, count)
        if len(frames) < count and run is not runs[-1]:
            raise RuntimeError("damaged MPEG frames")
        return frames

    def _open(self, run: Run) -> SoundReader:
        if self._part is None or run != self._run:
            self.close()
            self._part, self._run = SoundReader(self._source, self._frames.part(run)), run
        return self._part

    def close(self) -> None:
        """Close the file."""
        self._whole.close()
        if self._part is not None:
            self._part.close()
            self._part = None


def join_mpeg_streams(source: ByteSource, streams: list[Stream]) -> list[Stream]:
    """Return streams; parts of an MP3 without a declared length around a damaged part are joined."""
    joined: list[Stream] = []
    for stream in streams:
        if joined and _format(source, joined[-1]) == _format(source, stream) is not None:
            joined[-1] = replace(joined[-1], end=stream.end, cut=stream.cut, has_gaps=True, warning="")
        else:
            joined.append(stream)
    return joined


def _format(source: ByteSource, stream: Stream) -> tuple[int, int, int, bool] | None:
    """Return the format of an MP3 stream without a declared length, None for others."""
    frame = parse_frame(source.read(stream.start, 4)) if stream.prefix else None
    return None if frame is None else frame.format
