"""Audio of parts of a recording for a page: those with events, where all of it would be too large."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.audio.features import ClipSource
from pipeline.audio.recordings import read_windows
from pipeline.report.ogg_audio import HEADER_BYTES, OggEncoder, audio_uri

# What is heard before and after an event in seconds, and of a longer event its beginning.
PADDING_SECONDS, MAX_EVENT_SECONDS = 1.0, 30.0
# Resolution of the choice of parts.
_CELL_SECONDS = 0.1
# Length that is decoded together.
_PIECE_SECONDS = 10.0


class AudioPart(NamedTuple):
    """Audio from `start` to `end` in seconds."""

    start: float
    end: float
    uri: str
    """Ogg Vorbis as a data URI."""


def choose_parts(
    spans: Iterable[tuple[float, float]], seconds: float, max_bytes: int, bytes_per_second: float
) -> list[tuple[float, float]]:
    """Return start and end of the parts of a recording that have most of the spans within a size, sorted.

    Args:
        spans: start and end of events in seconds, the most important first.
        seconds: length of the recording.
        max_bytes: size of the compressed audio.
        bytes_per_second: what a second of it takes, about.
    """
    chosen = np.zeros(math.ceil(seconds / _CELL_SECONDS), bool)
    left = max_bytes / bytes_per_second
    header = HEADER_BYTES / bytes_per_second
    for start, end in spans:
        end = min(end, start + MAX_EVENT_SECONDS)
        first = max(0, math.floor((start - PADDING_SECONDS) / _CELL_SECONDS))
        part = chosen[first : math.ceil((end + PADDING_SECONDS) / _CELL_SECONDS)]
        needed = _CELL_SECONDS * int((~part).sum()) + header
        if part.all() or needed > left:
            continue
        left -= needed
        part[:] = True
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False)) * _CELL_SECONDS
    return [
        (round(float(start), 3), round(min(float(end), seconds), 3))
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]


def read_parts(
    source: ClipSource, spans: Sequence[tuple[float, float]], sample_rate: int, max_bytes: int
) -> list[AudioPart]:
    """Read the audio of parts of a recording; the last ones are left out if all take more than `max_bytes`.

    Args:
        source: the recording.
        spans: start and end of the parts in seconds, sorted.
        sample_rate: rate of the audio in Hz.
        max_bytes: size limit of the compressed audio.

    Raises:
        AudioDecodeError: nothing of the recording can be read.
        UserError: the object store cannot be reached.
    """
    parts: list[AudioPart] = []
    pieces = [list(_pieces(*span)) for span in spans]
    starts = [start for own in pieces for start, _ in own]
    windows = read_windows(source, starts, _PIECE_SECONDS, sample_rate, min_complete=0.0)
    for span, own in zip(spans, pieces, strict=True):
        encoder = OggEncoder(sample_rate, max_bytes)
        for _, seconds in own:
            samples, size = next(windows), round(seconds * sample_rate)
            # What cannot be read is silent.
            heard = samples[:size] if isinstance(samples, np.ndarray) else np.zeros(0, np.float32)
            encoder.write(np.pad(heard, (0, size - heard.size)))
        content = encoder.content()
        if content is None:
            break
        max_bytes -= len(content)
        parts.append(AudioPart(*span, audio_uri(content)))
    windows.close()
    return parts


def _pieces(start: float, end: float) -> Iterator[tuple[float, float]]:
    """Yield start and length of the pieces in which a part is read, in seconds."""
    while start < end - 1e-6:
        seconds = min(_PIECE_SECONDS, end - start)
        yield start, seconds
        start += seconds


def heard(starts: Iterable[float], parts: Sequence[AudioPart]) -> int:
    """Return how many events, given by their starts in seconds, begin within parts."""
    edges = np.array([time for part in parts for time in part[:2]])
    return int((np.searchsorted(edges, np.array(list(starts)), side="right") % 2).sum())
