"""Streams up to their first damaged part, for whole clips of Ogg and MP3.

Decoders leave out damaged pages and frames of these formats without an error, so that what follows would be
early. Other decoders stop at an error; so what precedes it is used here as well.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple

from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.decoder_output import hide_mpg123_messages
from pipeline.audio.decoding.frame_reader import SoundReader
from pipeline.audio.decoding.mpeg import skip_id3v2
from pipeline.audio.decoding.mpeg_header import parse_frame
from pipeline.audio.decoding.mpeg_reader import ALL_FRAMES, mpeg_frames, mpeg_reader
from pipeline.audio.decoding.ogg_pages import find_damage
from pipeline.audio.decoding.stream import Stream
from pipeline.audio.decoding.stream_reader import StreamSamples, read_stream
from pipeline.audio.decoding.streams import uses_mpg123


class _Intact(NamedTuple):
    """What precedes the first damaged part of a stream."""

    stream: Stream
    declared_frames: int
    """Frames that there should be in the whole stream; 0: unknown."""


def read_intact(source: ByteSource, stream: Stream, sample_rate: int) -> StreamSamples:
    """Decode a stream to mono samples at `sample_rate`, up to its first damaged part as far as that is known.

    Raises:
        soundfile.LibsndfileError, RuntimeError, ValueError: not even the first samples can be decoded.
    """
    intact = _before_damage(source, stream)
    with hide_mpg123_messages() if uses_mpg123(source) else nullcontext():
        result = read_stream(source, stream if intact is None else intact.stream, sample_rate)
    if intact is None:
        return result
    declared = max(result.num_frames, intact.declared_frames)
    return replace(result, declared_frames=declared, failed=True)


def _before_damage(source: ByteSource, stream: Stream) -> _Intact | None:
    """Return what precedes the first damaged part; None if none is known."""
    start = stream.start if stream.prefix else skip_id3v2(source, stream.start)
    head = stream.prefix[:4] or source.read(start, 4)
    if head == b"OggS":
        return _ogg_before_damage(source, stream, start)
    return None if parse_frame(head) is None else _mpeg_before_damage(source, stream)


def _ogg_before_damage(source: ByteSource, stream: Stream, start: int) -> _Intact | None:
    damage = find_damage(source, start, stream.end)
    if damage is None or (damage.is_end and stream.cut):
        return None
    intact = replace(stream, end=damage.start)
    if damage.is_end:
        return _Intact(intact, 0)
    reader = SoundReader(source, stream)
    reader.close()
    return _Intact(intact, reader.num_frames or 0)


def _mpeg_before_damage(source: ByteSource, stream: Stream) -> _Intact | None:
    frames = mpeg_frames(source, stream)
    runs = [] if frames is None else frames.runs(ALL_FRAMES)
    if frames is None or not runs:
        return None
    reader = mpeg_reader(source, stream)
    reader.close()
    return _Intact(frames.part(runs[0]), reader.declared_frames)
