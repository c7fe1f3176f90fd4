"""Streams of a recording, which may be gigabytes in an object store: found without reading all of it.

Concatenated FLAC and Ogg files can only be found by a search through the file. Whether there is anything to
find is decided by samples of it: the numbers of their frames or pages must ascend.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.flac import flac_stream_of_length, last_frame_end, read_flac_header
from pipeline.audio.decoding.mpeg import skip_id3v2
from pipeline.audio.decoding.stream import Stream
from pipeline.audio.decoding.streams import find_streams, ogg_is_cut

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
    """Return the streams of a FLAC file; a length that it does not declare is that of its frames."""
    declared, block_size = read_flac_header(source, start)
    samples = _samples(source)
    ends = [last_frame_end(data, block_size) for data in samples]
    end, is_one = ends[-1], _ascend(ends) and not any(_FLAC_MAGIC in data for data in samples)
    if is_one and source.size > _SMALL_BYTES and end and (not declared or end <= declared):
        streams = [Stream(0, source.size)]
    else:
        streams = find_streams(source)
    if len(streams) > 1 or not end or (declared and not streams[0].warning):
        return streams
    return [replace(flac_stream_of_length(source, start, end), warning=streams[0].warning)]


def _is_one_ogg(source: ByteSource) -> bool:
    """Return whether a file consists of the pages of one stream."""
    pages = [
        (page[1], int.from_bytes(page[2], "little"))
        for data in (source.read(0, _SAMPLE_BYTES), *_samples(source))
        for page in _OGG_PAGE.finditer(data)
    ]
    return len({serial for serial, _ in pages}) == 1 and _ascend([number for _, number in pages])


def _samples(source: ByteSource) -> list[bytes]:
    """Return evenly spaced parts of a file, the last of which is its end."""
    last = max(0, source.size - _SAMPLE_BYTES)
    return [source.read(last * (i + 1) // _NUM_SAMPLES, _SAMPLE_BYTES) for i in range(_NUM_SAMPLES)]


def _ascend(numbers: list[int]) -> bool:
    """Return whether numbers ascend; 0 stands for an unknown one."""
    return all(first < second for first, second in pairwise(filter(None, numbers)))
