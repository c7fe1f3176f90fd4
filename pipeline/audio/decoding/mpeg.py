"""MP3 files: tags, frames and concatenated streams.

The decoder, libmpg123, stops after the declared number of frames, or after an estimate if none is declared.
"""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from typing import NamedTuple

from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.mpeg_header import Frame, Xing, parse_frame, read_xing, xing_frame
from pipeline.audio.decoding.stream import Stream

_WINDOW = 1 << 16
# Junk between frames, such as the rest of a broken frame, that is skipped in the search for the next one.
_MAX_JUNK = 1 << 13
# Bytes of a frame that hold its header, its side information and a header with the number of frames.
_HEAD_BYTES = 64
# Number of consecutive frame headers that cannot be a coincidence.
_SURE_FRAMES = 3
# Some encoders declare a few frames less than there are: more of them after the declared end are a stream.
_MIN_FOLLOWING_FRAMES = 8
# The frames are counted if a stream is this many times as large as its declared number of frames, of the mean
# size of those in the first bytes.
_PLAUSIBLE_SIZE, _SAMPLE_BYTES = 1.25, 1 << 13

# A stream can be followed by tags in several formats; only those that may be large are skipped by their size.
_MAX_TAGS = 10
_TAG_OR_FRAME = re.compile(rb"\xff(?=[\xe0-\xff])|ID3[\2-\4]|APETAGEX")
_APE_IS_HEADER = 1 << 29


def mpeg_streams(source: ByteSource, position: int) -> list[Stream]:
    """Return the streams of an MP3 file whose first frame is near `position`; none if there is no frame."""
    start = find_frame(source, position)
    streams: list[Stream] = []
    while start is not None:
        stream, start = _stream(source, start)
        streams.append(stream)
    if streams and not streams[0].prefix and streams[0].start == position:
        # The decoder reads tags before the first frame itself.
        streams[0] = replace(streams[0], start=0)
    return streams


def skip_id3v2(source: ByteSource, position: int) -> int:
    """Return the position after an ID3v2 tag at `position`, or `position` if there is none."""
    tag = source.read(position, 10)
    if len(tag) < 10 or not tag.startswith(b"ID3"):
        return position
    footer = 10 if tag[5] & 0x10 else 0
    size = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
    return position + 10 + size + footer


def _stream(source: ByteSource, start: int) -> tuple[Stream, int | None]:
    """Return the stream whose first frame is at `start`, and the start of the next one."""
    head = source.read(start, _HEAD_BYTES)
    first = parse_frame(head[:4])
    assert first is not None
    xing = read_xing(head, first)
    if xing is not None and xing.num_bytes and not _may_be_longer(source, start + first.size, first, xing):
        end = start + xing.num_bytes
        following = None if end >= source.size else find_frame(source, end, _MIN_FOLLOWING_FRAMES)
        if following is not None and not _has_frames(source, start, following, xing.num_frames):
            following = None  # the declared number of bytes is wrong
        missing = xing.num_bytes if end > source.size else 0
        end = source.size if following is None else following
        return Stream(start, end, declared_bytes=missing), following
    after_header = start if xing is None else start + first.size
    count, end, cut, following, has_gaps = _count_frames(source, after_header, first.format)
    warning = _gap_warning(end, following)
    longer = xing is not None and count > xing.num_frames + _MIN_FOLLOWING_FRAMES
    if longer and xing is not None:
        warning = f"the header declares {xing.num_frames} MPEG frames, but there are {count}: all are read"
    elif xing is not None or first.layer != 3:
        return Stream(start, end, cut=cut and xing is None, warning=warning), following
    prefix = xing_frame(first, count, end - after_header)
    return Stream(after_header, end, prefix, cut=cut, has_gaps=has_gaps, warning=warning), following


def _gap_warning(end: int, following: int | None) -> str:
    """Return a text about bytes between the end of a stream and the next one, if any."""
    return (
        f"{following - end} bytes between MPEG frames are not used" if following and following > end else ""
    )


def _may_be_longer(source: ByteSource, position: int, first: Frame, xing: Xing) -> bool:
    """Return whether a stream, whose audio begins at `position`, has more bytes than its frames need."""
    sample = _count_frames(source, position, first.format, position + _SAMPLE_BYTES)
    return xing.num_bytes * sample.num_frames > _PLAUSIBLE_SIZE * xing.num_frames * (sample.end - position)


def _has_frames(source: ByteSource, start: int, following: int, num_frames: int) -> bool:
    """Return whether a stream ends before `following`: that is a header, or enough frames precede it."""
    head = source.read(following, _HEAD_BYTES)
    first = parse_frame(head[:4])
    if first is None or read_xing(head, first) is not None:
        return True
    own = parse_frame(source.read(start, 4))
    assert own is not None
    count = _count_frames(source, start + own.size, own.format, following).num_frames
    return count >= num_frames - _MIN_FOLLOWING_FRAMES


class _Count(NamedTuple):
    """Complete frames of a stream."""

    num_frames: int
    end: int
    """End of the stream."""
    cut: bool
    """Whether its last frame is cut off."""
    following: int | None
    """Start of the next stream, if any."""
    has_gaps: bool


def _count_frames(
    source: ByteSource, position: int, stream_format: tuple[int, int, int, bool], limit: int | None = None
) -> _Count:
    """Count the frames of a stream from `position` on, and up to `limit` (None: the end of the file)."""
    count, base, window, gaps = 0, position, b"", False
    while limit is None or position < limit:
        if position + _HEAD_BYTES > base + len(window):
            base, window = position, source.read(position, _WINDOW)
        head = window[position - base : position - base + _HEAD_BYTES]
        frame = parse_frame(head[:4])
        if frame is None or frame.format != stream_format or read_xing(head, frame):
            following = find_frame(source, position)
            if following is None:
                following = find_distant_frame(source, position)
                return _Count(count, source.size if following is None else position, False, following, gaps)
            if not can_continue(source, following, stream_format):
                return _Count(count, following, False, following, gaps)
            position, gaps = following, True
            continue
        if position + frame.size > source.size:
            return _Count(count, source.size, True, None, gaps)
        count, position = count + 1, position + frame.size
    return _Count(count, position, False, None, gaps)


def can_continue(source: ByteSource, position: int, stream_format: tuple[int, int, int, bool]) -> bool:
    """Return whether the frame at `position` can belong to a stream of that format."""
    head = source.read(position, _HEAD_BYTES)
    frame = parse_frame(head[:4])
    return frame is not None and frame.format == stream_format and read_xing(head, frame) is None


def find_frame(source: ByteSource, position: int, min_frames: int = 1) -> int | None:
    """Return the position of the next frame, after tags and junk; None if there is none nearby.

    At least `min_frames` must follow, except after a header with their number.
    """
    for _ in range(_MAX_TAGS):
        window = source.read(position, _MAX_JUNK)
        tag_end = None
        for match in _TAG_OR_FRAME.finditer(window):
            start = position + match.start()
            if match[0] == b"\xff":
                if _is_frame_sequence(source, start, min_frames):
                    return start
                continue
            tag_end = skip_id3v2(source, start) if match[0].startswith(b"ID3") else _skip_ape(source, start)
            if tag_end > start:
                break
        if not tag_end or tag_end <= position:
            return None
        position = tag_end
    return None


def find_distant_frame(source: ByteSource, position: int) -> int | None:
    """Return the position of frames after junk of any size, such as an unreadable part of a disk."""
    for start in range(position + _MAX_JUNK, source.size, _MAX_JUNK):
        following = find_frame(source, start, _MIN_FOLLOWING_FRAMES)
        if following is not None:
            return following
    return None


def _skip_ape(source: ByteSource, position: int) -> int:
    """Return the position after an APE tag, which stores its size in the header and again in the footer."""
    header = source.read(position, 24)
    if len(header) < 24:
        return position
    size, _, flags = struct.unpack("<III", header[12:])
    return position + 32 + (size if flags & _APE_IS_HEADER else 0)


def _is_frame_sequence(source: ByteSource, position: int, min_frames: int) -> bool:
    """Return whether three frames of one format begin at `position`, or fewer up to the end of the file."""
    head = source.read(position, _HEAD_BYTES)
    first = frame = parse_frame(head[:4])
    if first is not None and read_xing(head, first):
        min_frames = 1
    for number in range(max(min_frames, _SURE_FRAMES)):
        if first is None or frame is None or frame.format != first.format:
            return number >= min_frames and position == source.size
        position += frame.size
        frame = parse_frame(source.read(position, 4))
    return True
