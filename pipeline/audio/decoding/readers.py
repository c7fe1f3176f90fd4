"""Opens the streams of a recording for reading sections of them."""

from __future__ import annotations

from pipeline.audio.decoding.av_reader import AvReader, needs_av
from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.frame_reader import FrameReader
from pipeline.audio.decoding.mpeg_reader import join_mpeg_streams, mpeg_reader
from pipeline.audio.decoding.recording_streams import recording_streams
from pipeline.audio.decoding.stream_reader import DECODER_ERRORS


def open_readers(source: ByteSource) -> list[FrameReader]:
    """Return a reader for each stream of a file, in their order.

    Raises:
        RuntimeError, TypeError, OSError, ValueError: it cannot be decoded.
    """
    try:
        streams = join_mpeg_streams(source, recording_streams(source))
        return [mpeg_reader(source, stream) for stream in streams]
    except DECODER_ERRORS:
        if not needs_av(source):
            raise
        return [AvReader(source)]
