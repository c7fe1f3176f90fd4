"""Open recordings: their streams, and those that stay open for the windows of the next work unit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pipeline.audio.clip_files import FetchedFile, is_row
from pipeline.audio.decode import AudioDecodeError, decoder_reason, open_source
from pipeline.audio.decoding.blocks import StreamBlocks
from pipeline.audio.decoding.byte_source import ByteSource, SourceError
from pipeline.audio.decoding.frame_reader import FrameReader
from pipeline.audio.decoding.object_source import open_object
from pipeline.audio.decoding.readers import open_readers
from pipeline.audio.decoding.stream_reader import DECODER_ERRORS
from pipeline.audio.decoding.timeline import Timeline
from pipeline.audio.features import ClipSource, report_source_errors
from pipeline.audio.file_types import HEADER_BYTES, unsupported_reason
from pipeline.io.errors import UserError, explain_os_error
from pipeline.io.storage import is_store_uri

# Of audio that precedes a window and has to be decoded before it: a few seconds of CPU time at most.
STEP_SECONDS = 600.0


class OpenRecording:
    """A recording whose streams are open."""

    def __init__(self, source: ClipSource) -> None:
        """Open a recording.

        Raises:
            AudioDecodeError: no usable audio.
            SourceError: the object store fails.
            UserError: it cannot be reached.
        """
        self._timelines: dict[int, Timeline] = {}
        self._reached = 0.0
        with ExitStack() as stack:
            self._data = stack.enter_context(_open(source))
            self.readers = _open_streams(source, self._data)
            """Readers of its streams, in their order."""
            for reader in self.readers:
                stack.callback(reader.close)
            self._stack = stack.pop_all()

    @property
    def is_seekable(self) -> bool:
        """Whether windows can be read without what precedes them."""
        return all(reader.is_seekable for reader in self.readers)

    def timeline(self, sample_rate: int) -> Timeline:
        """Return the samples at a rate in Hz, the same object each time."""
        if sample_rate not in self._timelines:
            streams = [StreamBlocks(reader, sample_rate) for reader in self.readers]
            self._timelines[sample_rate] = Timeline(streams)
        return self._timelines[sample_rate]

    def approach(self, seconds: float, sample_rate: int, on_step: Callable[[], None], step: float) -> None:
        """Decode up to a position, if the recording can only be read from its start.

        Args:
            seconds: position, which is read next.
            sample_rate: rate of the timeline in Hz that is read next.
            on_step: called after each step.
            step: length of a step in seconds.
        """
        if self.is_seekable:
            return
        self._reached = self._reached if self._reached <= seconds else 0.0
        while self._reached + step < seconds:
            self._reached += step
            first = round(self._reached * sample_rate)
            self.timeline(sample_rate).read(first, first + 1)
            on_step()
        self._reached = seconds

    def check(self) -> None:
        """Raise the error of an object store, which a decoder may have treated as the end of the file."""
        self._data.check()

    def close(self) -> None:
        """Close its streams and the file."""
        self._stack.close()


class KeptRecording:
    """Keeps a recording open that can only be read from its start, for the windows of the next work unit.

    Otherwise each work unit of a long recording would decode all that precedes its windows again. A worker
    has one, as its units mostly follow each other.
    """

    def __init__(self, heartbeat: Callable[[], None] = lambda: None, step: float = STEP_SECONDS) -> None:
        """Start without a recording.

        Args:
            heartbeat: called at least once for each step that is decoded, also of what precedes a window.
            step: in seconds of the recording.
        """
        self.heartbeat, self.step = heartbeat, step
        self._kept: tuple[str, OpenRecording] | None = None

    def take(self, source: ClipSource) -> OpenRecording | None:
        """Return the recording if it is kept, and keep none."""
        kept, self._kept = self._kept, None
        if kept is None or kept[0] == source:
            return None if kept is None else kept[1]
        kept[1].close()
        return None

    def keep(self, source: ClipSource, recording: OpenRecording) -> bool:
        """Keep a recording; return whether it is worth that."""
        if recording.is_seekable or not isinstance(source, str) or is_row(source):
            return False
        self.close()
        self._kept = source, recording
        return True

    def close(self) -> None:
        """Close the recording that is kept."""
        self.take("")


@contextmanager
def open_recording(source: ClipSource, kept: KeptRecording | None = None) -> Iterator[OpenRecording]:
    """Open a recording, or continue with the one that is kept; report an object store that cannot be reached.

    Raises:
        AudioDecodeError: no usable audio.
        UserError: the object store cannot be reached.
    """
    try:
        recording = (None if kept is None else kept.take(source)) or OpenRecording(source)
        is_usable = False
        try:
            yield recording
            recording.check()
            is_usable = True
        except GeneratorExit:  # of a generator of windows from which no more are requested
            is_usable = True
            raise
        finally:
            if not is_usable or kept is None or not kept.keep(source, recording):
                recording.close()
    except SourceError as error:
        raise UserError(explain_os_error(error.reason, f"reading {_name(source)}")) from error


def _open_streams(source: ClipSource, data: ByteSource) -> list[FrameReader]:
    if data.size == 0:
        raise AudioDecodeError("empty file (0 bytes)")
    try:
        return open_readers(data)
    except DECODER_ERRORS as error:
        data.check()
        reason = _unsupported_reason(source, data) or f"unreadable: {decoder_reason(error)}"
        raise AudioDecodeError(reason) from None


def _open(source: ClipSource) -> ByteSource:
    with report_source_errors(_name(source)):
        if isinstance(source, FetchedFile):
            return ByteSource(source.read())
        if isinstance(source, (str, os.PathLike)) and is_row(os.fspath(source)):
            return ByteSource(FetchedFile.fetch(os.fspath(source)).read())
        if isinstance(source, str) and is_store_uri(source):
            return open_object(source)
    return open_source(source)


def _name(source: ClipSource) -> str:
    """Return the path or URI of a recording; empty for its content, whose text would be megabytes."""
    if isinstance(source, bytes):
        return ""
    return source.path if isinstance(source, FetchedFile) else str(source)


def _unsupported_reason(source: ClipSource, data: ByteSource) -> str | None:
    return (
        None if isinstance(source, bytes) else unsupported_reason(_name(source), data.read(0, HEADER_BYTES))
    )
