"""Streams of a recording, which may be gigabytes in an object store: found without reading all of it.

Concatenated FLAC and Ogg files can only be found by a search through the file. Whether there is anything to
find is decided by samples of it: the numbers of their frames or pages must ascend.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.flac import flac_stream_of_length, last_frame_end, read_flac_header
from pipeline.audio.decoding.mpeg import skip_id3v2
from pipeline.audio.decoding.stream import Stream
from pipeline.audio.decoding.streams import find_streams, ogg_is_cut

T = TypeVar("T")
# Smaller files are searched completely.
_SMALL_BYTES = 16 << 20
# Samples of a file, the last of which is its end.
_NUM_SAMPLES, _SAMPLE_BYTES = 8, 1 << 16
_FLAC_MAGIC = b"fLaC"
# Serial number and number of an Ogg page.
_OGG_PAGE = re.compile(rb"OggS\0[\0-\7].{8}(.{4})(.{4})", re.DOTALL)


def recording_streams(source: ByteSource) -> list[Stream]:
    """Return the streams of a recording in their order, at least one."""
    start = skip_id3v2(source, 0)
    if source.read(start, 4) == _FLAC_MAGIC:
        return _flac_streams(source, start)
    if source.size > _SMALL_BYTES and source.read(start, 4) == b"OggS" and _is_one_ogg(source):
        whole = Stream(0, source.size)
        return [replace(whole, cut=ogg_is_cut(source, whole))]
    return find_streams(source)


def _flac_streams(source: ByteSource, start: int) -> list[Stream]:
    """Return the streams of a FLAC file; one that declares no length gets that of its frames."""
    declared, block_size = read_flac_header(source, start)

    def number(data: bytes) -> int:
        return last_frame_end(data, block_size)

    ends = _samples(source, number)
    end = number(source.read(max(0, source.size - _SAMPLE_BYTES), _SAMPLE_BYTES))
    is_one = end > 0 and _ascend(ends) and (not declared or end <= declared)
    streams = None if is_one and source.size > _SMALL_BYTES else find_streams(source)
    if streams is not None and (len(streams) > 1 or streams[0].warning):
        return streams
    if declared or not end:
        return [Stream(0, source.size)] if streams is None else streams
    return [flac_stream_of_length(source, start, end)]


def _is_one_ogg(source: ByteSource) -> bool:
    """Return whether a file consists of the pages of one stream."""

    def page(data: bytes) -> tuple[bytes, int] | None:
        match = _OGG_PAGE.search(data)
        return None if match is None else (match[1], int.from_bytes(match[2], "little"))

    pages = [page(source.read(0, _SAMPLE_BYTES)), *_samples(source, page)]
    found = [one for one in pages if one is not None]
    return len({serial for serial, _ in found}) == 1 and _ascend([number for _, number in found])


def _samples(source: ByteSource, parse: Callable[[bytes], T]) -> list[T]:
    """Return what evenly spaced parts of a file contain, the last of which is its end."""
    step = max(1, (source.size - _SAMPLE_BYTES) // _NUM_SAMPLES)
    return [parse(source.read(step * (i + 1), _SAMPLE_BYTES)) for i in range(_NUM_SAMPLES)]


def _ascend(numbers: list[int]) -> bool:
    """Return whether numbers ascend; 0 stands for an unknown one."""
    return all(first < second for first, second in pairwise(filter(None, numbers)))
