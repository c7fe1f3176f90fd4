"""FLAC files: concatenated streams, and streams that are longer than their header declares.

The decoder stops after the declared number of samples.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.stream import Stream, split_at

# Types of the first metadata block of a FLAC stream, which is 34 bytes long: the last block or not.
_FIRST_BLOCKS = (b"\0\0\0\x22", b"\x80\0\0\x22")
_HEADER_BYTES = 42
# Where the header has the number of samples: the low 4 bits of the first of these bytes, and the others.
_COUNT = slice(21, 26)
_COUNT_BITS = (1 << 36) - 1
# How far from the end of a stream its last frames are searched for, and the longest header of a frame.
_TAIL_BYTES, _FRAME_HEADER_BYTES = 1 << 16, 16
_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_VARIABLE_BLOCKS = 0xF9
_BLOCK_SIZES = {1: 192} | {2 + i: 576 << i for i in range(4)} | {8 + i: 256 << i for i in range(8)}
_LONGER = "the header declares {} samples, but more follow: read to the end of the file"


def _crc8_of_byte(crc: int) -> int:
    for _ in range(8):
        crc = (crc << 1 ^ (0x107 if crc & 0x80 else 0)) & 0xFF
    return crc


# Checksums with the polynomial x⁸ + x² + x + 1.
_CRC8 = bytes(map(_crc8_of_byte, range(256)))


def flac_streams(source: ByteSource) -> list[Stream]:
    """Return the streams of a FLAC file; what precedes the first one belongs to it."""
    starts = [
        position for position in source.find_all(b"fLaC") if source.read(position + 4, 4) in _FIRST_BLOCKS
    ]
    if not starts:
        return [Stream(0, source.size)]
    parts = zip(starts, split_at(starts, source.size), strict=True)
    return [_stream(source, position, part.start, part.end) for position, part in parts]


class FlacHeader(NamedTuple):
    """What the header of a stream declares."""

    num_samples: int
    """Per channel; 0: unknown."""
    block_size: int


def read_flac_header(source: ByteSource, position: int) -> FlacHeader:
    """Return the header of the stream that begins at `position`."""
    header = source.read(position, _HEADER_BYTES)
    return FlacHeader(
        int.from_bytes(header[_COUNT], "big") & _COUNT_BITS, int.from_bytes(header[10:12], "big")
    )


def flac_stream_of_length(source: ByteSource, position: int, num_samples: int) -> Stream:
    """Return the stream from `position` to the end of the file, whose header declares another length."""
    header = bytearray(source.read(position, _HEADER_BYTES))
    field = int.from_bytes(header[_COUNT], "big")
    header[_COUNT] = ((field & ~_COUNT_BITS) | num_samples).to_bytes(5, "big")
    return Stream(position + _HEADER_BYTES, source.size, bytes(header))


def _stream(source: ByteSource, position: int, start: int, end: int) -> Stream:
    """Return the stream whose header is at `position`."""
    header = bytearray(source.read(position, _HEADER_BYTES))
    field = int.from_bytes(header[_COUNT], "big")
    declared = field & _COUNT_BITS
    block_size = int.from_bytes(header[10:12], "big")
    if not declared or _end_of_last_frame(source, position, end, block_size) <= declared:
        return Stream(start, end)
    header[_COUNT] = (field - declared).to_bytes(5, "big")  # 0: unknown
    return Stream(position + len(header), end, bytes(header), warning=_LONGER.format(declared))


class _Frame(NamedTuple):
    """First sample of a frame, and the first one after it."""

    start: int
    end: int


def _end_of_last_frame(source: ByteSource, start: int, end: int, block_size: int) -> int:
    """Return the number of samples up to the end of the last frame, 0 if it is not found."""
    tail_start = max(start, end - _TAIL_BYTES)
    return last_frame_end(source.read(tail_start, end - tail_start), block_size)


def last_frame_end(data: bytes, block_size: int) -> int:
    """Return the number of the first sample after the last frame that begins in `data`; 0: none is found.

    Bytes that look like the header of a frame are one if another frame follows or precedes seamlessly.
    """
    frames = [
        _frame(data[match.start() :][:_FRAME_HEADER_BYTES], block_size) for match in _SYNC.finditer(data)
    ]
    starts = {frame.end for frame in frames if frame is not None}
    return max((frame.end for frame in frames if frame is not None and frame.start in starts), default=0)


def _frame(header: bytes, block_size: int) -> _Frame | None:
    """Return the frame that begins with some bytes; `block_size` is that of streams with equal blocks."""
    if len(header) < _FRAME_HEADER_BYTES // 2 or header[3] & 1:
        return None
    # The number is coded as in UTF-8, in up to 7 bytes.
    ones = 8 - (header[4] ^ 0xFF).bit_length()
    extra = max(0, ones - 1)
    number = header[4] & (0x7F >> ones)
    for byte in header[5 : 5 + extra]:
        number = number << 6 | byte & 0x3F
    position, size_code, rate_code = 5 + extra, header[2] >> 4, header[2] & 0x0F
    size_bytes = max(0, size_code - 5) if size_code < 8 else 0
    size = _BLOCK_SIZES.get(size_code) or int.from_bytes(header[position : position + size_bytes], "big") + 1
    position += size_bytes + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if ones == 1 or position >= len(header) or _crc8(header[:position]) != header[position]:
        return None
    start = number if header[1] == _VARIABLE_BLOCKS else number * block_size
    return _Frame(start, start + size)


def _crc8(data: bytes) -> int:
    """Return the checksum of a frame header."""
    crc = 0
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc
