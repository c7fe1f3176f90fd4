"""Audio streams of a file: where each begins and ends, and how much of it is there.

Most files consist of one stream. `cat a.ogg b.ogg` makes two, of which decoders only read the first.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.containers import container_streams
from pipeline.audio.decoding.flac import flac_streams
from pipeline.audio.decoding.mpeg import mpeg_streams, skip_id3v2
from pipeline.audio.decoding.mpeg_header import parse_frame
from pipeline.audio.decoding.stream import Stream, split_at

# Codes of MPEG layers 1 and 2, and of layer 3, in the header of a WAV file.
_WAV_MPEG = (b"\x50\0", b"\x55\0")
_OGG_HEADER = 27
_MAX_OGG_PAGE = 1 << 16
_OGG_FIRST = (b"\0\2" + bytes(8), b"\0\6" + bytes(8))


def find_streams(source: ByteSource) -> list[Stream]:
    """Return the streams of a file in their order, at least one."""
    head = source.read(0, 16)
    start = skip_id3v2(source, 0)
    if start:
        head = source.read(start, 16)
    if head.startswith(b"OggS"):
        return _ogg_streams(source)
    if head.startswith(b"fLaC"):
        return flac_streams(source)
    if start or parse_frame(head[:4]) is not None:
        return mpeg_streams(source, start) or [Stream(0, source.size)]
    return container_streams(source) or [Stream(0, source.size)]


def uses_mpg123(source: ByteSource) -> bool:
    """Return whether libsndfile decodes a file with libmpg123: MP3, MP2, or a WAV file that holds MP3."""
    head = source.read(0, 22)
    return head[:1] == b"\xff" or head[:3] == b"ID3" or (head[12:16] == b"fmt " and head[20:22] in _WAV_MPEG)


def _ogg_streams(source: ByteSource) -> list[Stream]:
    """Split an Ogg file into its links (RFC 3533): each begins with one page per multiplexed stream."""
    starts: list[int] = []
    multiplexed: set[int] = set()
    end_of_previous = -1
    for position, end in _first_ogg_pages(source):
        if position == end_of_previous:
            multiplexed.add(starts[-1])
        else:
            starts.append(position)
        end_of_previous = end
    streams = []
    for part, start in zip(split_at(starts, source.size), starts or [0], strict=True):
        cut = start not in multiplexed and ogg_is_cut(source, part)
        streams.append(Stream(part.start, part.end, cut=cut))
    return streams


def _first_ogg_pages(source: ByteSource) -> Iterator[tuple[int, int]]:
    """Yield start and end of each first page of a stream."""
    for position in source.find_all(b"OggS"):
        header = source.read(position, _OGG_HEADER + 255)
        # Version 0, flag of a first page, position and page number 0.
        if len(header) > _OGG_HEADER and header[4:14] in _OGG_FIRST and not any(header[18:22]):
            yield position, position + _page_size(header)


def _page_size(header: bytes) -> int:
    return _OGG_HEADER + header[26] + sum(header[_OGG_HEADER : _OGG_HEADER + header[26]])


def ogg_is_cut(source: ByteSource, part: Stream) -> bool:
    """Return whether a stream ends within a page, or without the page that is marked as the last one."""
    end = part.end
    # Recorders pad files with zeros.
    while end > part.start and not source.read(max(0, end - _MAX_OGG_PAGE), _MAX_OGG_PAGE).strip(b"\0"):
        end -= _MAX_OGG_PAGE
    tail_start = max(part.start, end - 2 * _MAX_OGG_PAGE)
    tail = source.read(tail_start, end - tail_start)
    start = tail.rfind(b"OggS\0")
    if start < 0:
        return True
    page = tail[start:]
    return len(page) <= _OGG_HEADER or len(page) < _page_size(page) or not page[5] & 4
