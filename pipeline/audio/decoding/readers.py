"""Opens the streams of a recording for reading sections of them."""

from __future__ import annotations

from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.frame_reader import FrameReader, SoundReader
from pipeline.audio.decoding.recording_streams import recording_streams


def open_readers(source: ByteSource) -> list[FrameReader]:
    """Return a reader for each stream of a file, in their order.

    Raises:
        RuntimeError, TypeError, OSError, ValueError: it cannot be decoded.
    """
    return [SoundReader(source, stream) for stream in recording_streams(source)]
