"""Headers of MPEG audio frames, and the number of frames (Xing, Info) that the first one may hold."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

_BIT_RATES = {  # kbit/s by index, of layers 3, 2 and 1
    True: (
        (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
        (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
        (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    ),
    False: (
        (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
        (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
        (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    ),
}
_SAMPLE_RATES = (44_100, 48_000, 32_000)
# Bit rate index of an inserted header frame, whose size must hold 52 bytes.
_HEADER_BIT_RATE = 9


@dataclass(frozen=True)
class Frame:
    """Header of an MPEG audio frame."""

    header: bytes
    layer: int
    format: tuple[int, int, int, bool]
    """What a decoder cannot change within a stream: version bits, layer, sample rate in Hz, mono."""
    size: int
    """Bytes from this frame to the next one."""
    num_samples: int
    """Samples per channel."""
    xing_offset: int
    """Where a frame of layer 3 may hold a header with the number of frames."""


# Frames of a stream have few different headers.
@lru_cache(maxsize=1024)
def parse_frame(header: bytes) -> Frame | None:
    """Return the frame that begins with four bytes; None if none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    rate_index, bit_rate_index = header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or layer == 4 or rate_index == 3 or bit_rate_index in (0, 15):
        return None
    mpeg1, mono, padding = version == 3, header[3] >> 6 == 3, header[2] >> 1 & 1
    sample_rate = _SAMPLE_RATES[rate_index] >> (0 if mpeg1 else 1 if version == 2 else 2)
    bit_rate = 1000 * _BIT_RATES[mpeg1][3 - layer][bit_rate_index]
    if layer == 1:
        size = (12 * bit_rate // sample_rate + padding) * 4
    else:
        size = (144 if mpeg1 or layer == 2 else 72) * bit_rate // sample_rate + padding
    xing_offset = 4 + ((17 if mono else 32) if mpeg1 else (9 if mono else 17))
    num_samples = 384 if layer == 1 else 1152 if mpeg1 or layer == 2 else 576
    return Frame(header, layer, (version, layer, sample_rate, mono), size, num_samples, xing_offset)


@dataclass(frozen=True)
class Xing:
    """What a stream declares in its first frame."""

    num_frames: int
    num_bytes: int
    """Size of the stream from its first frame on, 0: not declared."""


def read_xing(data: bytes, frame: Frame) -> Xing | None:
    """Return the header with the number of frames that the frame at the start of `data` holds, if any."""
    if frame.layer != 3 or not data.startswith((b"Xing", b"Info"), frame.xing_offset):
        return None
    tag = data[frame.xing_offset : frame.xing_offset + 16]
    if len(tag) < 16:
        return None
    flags, *values = struct.unpack(">III", tag[4:])
    num_frames = values.pop(0) if flags & 1 else 0
    # The decoder ignores a header without a number of frames.
    return Xing(num_frames, values.pop(0) if flags & 2 else 0) if num_frames else None


def patch_xing(data: bytes, frame: Frame, num_frames: int, num_bytes: int) -> bytes:
    """Return a frame that declares other numbers of frames, and of bytes if it has them."""
    patched = bytearray(data)
    (flags,) = struct.unpack_from(">I", data, frame.xing_offset + 4)
    struct.pack_into(">I", patched, frame.xing_offset + 8, num_frames)
    if flags & 2:
        struct.pack_into(">I", patched, frame.xing_offset + 12, num_bytes)
    return bytes(patched)


def xing_frame(like: Frame, num_frames: int, num_bytes: int) -> bytes:
    """Return a frame that declares the number of frames of a stream, in the format of the frame `like`."""
    sync, first, second, mode = like.header
    header = bytes([sync, first | 1, _HEADER_BIT_RATE << 4 | second & 0x0C, mode])
    frame = parse_frame(header)
    assert frame is not None
    body = bytearray(header + bytes(frame.size - 4))
    struct.pack_into(">4sIII", body, frame.xing_offset, b"Xing", 3, num_frames, num_bytes + frame.size)
    return bytes(body)
