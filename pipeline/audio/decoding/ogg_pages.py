"""Damage of Ogg files (RFC 3533): pages whose checksum is wrong, or that are missing.

Decoders leave them out without an error, so that what follows is early, up to the next seek. Only pages of
the part that is read are looked at; where that begins in the file is searched by bisection.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.stream import Stream

_HEADER, _MAX_SEGMENTS = 27, 255
_MAX_PAGE = _HEADER + _MAX_SEGMENTS + 255 * 255
_MAGIC = b"OggS\0"
_NO_POSITION = -1
# Offset of the flags in a page, and those of a first page.
_FLAGS, _FIRST_PAGE = 5, (b"\2", b"\6")
# The checksum is that of zlib with the bits of each byte, and of the result, in reverse order.
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_MAX_CHECKSUM = 0xFFFFFFFF


class Page(NamedTuple):
    """An intact page."""

    start: int
    """Its offset in the file."""
    end: int
    position: int
    """Position of the stream after its last complete packet, in units of the codec; -1: none ends here."""
    serial: int
    number: int


def read_page(source: ByteSource, start: int, end: int) -> Page | None:
    """Return the page at an offset; None unless an intact one is there, completely before `end`."""
    header = source.read(start, min(_HEADER + _MAX_SEGMENTS, end - start))
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        return None
    position, serial, number, checksum, segments = struct.unpack_from("<qIIIB", header, 6)
    size = _HEADER + segments + sum(header[_HEADER : _HEADER + segments])
    data = source.read(start, min(size, end - start))
    if len(data) < size or _checksum(data[:22] + bytes(4) + data[26:]) != checksum:
        return None
    return Page(start, start + size, position, serial, number)


def _checksum(page: bytes) -> int:
    value = zlib.crc32(page.translate(_REVERSED), _MAX_CHECKSUM) ^ _MAX_CHECKSUM
    return int.from_bytes(value.to_bytes(4, "little").translate(_REVERSED), "big")


def find_page(source: ByteSource, start: int, end: int) -> Page | None:
    """Return the first intact page from an offset on."""
    while start < end:
        window = source.read(start, min(_MAX_PAGE, end - start))
        offset = window.find(_MAGIC)
        while offset >= 0:
            page = read_page(source, start + offset, end)
            if page is not None:
                return page
            offset = window.find(_MAGIC, offset + 1)
        start += max(1, len(window) - len(_MAGIC) + 1)
    return None


class FirstDamage(NamedTuple):
    """Where the first damaged part of a stream is."""

    start: int
    """Offset in the file of the end of the last page before it."""
    is_end: bool
    """Whether nothing of the stream follows."""


def find_damage(source: ByteSource, start: int, end: int) -> FirstDamage | None:
    """Return the first damaged part of the stream between two offsets; None: there is none, or not known.

    Bytes after the last page are none. Multiplexed streams are not checked.
    """
    position, previous, has_audio = start, None, False
    while (page := read_page(source, position, end)) is not None:
        if previous is not None and page.serial != previous.serial:
            return None
        # A stream that was recorded from its middle on lacks the pages after its headers.
        if previous is not None and has_audio and page.number != previous.number + 1:
            return FirstDamage(position, False)
        position, previous, has_audio = page.end, page, has_audio or page.position > 0
    following = find_page(source, position, end)
    if previous is None or (following is not None and following.serial != previous.serial):
        return None
    if following is None and source.read(position, min(len(_MAGIC), end - position)) != _MAGIC:
        return None
    return FirstDamage(position, following is None)


class OggDamage:
    """Damaged parts of a stream, found where they are asked for."""

    def __init__(self, source: ByteSource, stream: Stream, num_frames: int, frames_per_unit: float) -> None:
        """Use a stream.

        Args:
            source: the file.
            stream: the part of it with the stream.
            num_frames: number of frames according to the decoder, which has it from the last page.
            frames_per_unit: frames per unit of the positions in pages.
        """
        self._source, self._start, self._end = source, stream.start, stream.end
        self._scale = frames_per_unit
        last = self._last_page()
        first = read_page(source, stream.start, stream.end)
        # Pages of several streams take turns, with numbers of their own; all first pages precede the others.
        self._is_checked = last is not None and first is not None and last.serial == first.serial
        if first is not None and source.read(first.end + _FLAGS, 1)[:1] in _FIRST_PAGE:
            self._is_checked = False
        # The first position of a recording that was cut out of another one is not 0.
        self._offset = 0 if last is None else round(last.position * self._scale) - num_frames
        self._walk: _Walk | None = None

    def parts(self, first: int, end: int) -> list[tuple[int, int]]:
        """Return the damaged parts between two frames: first frame, and the first one after it."""
        if not self._is_checked:
            return []
        if self._walk is None or not self._walk.first <= first <= self._walk.reached:
            self._walk = self._begin(first)
        walk = self._walk
        while walk.reached < end and self._step(walk):
            pass
        return [part for part in walk.damaged if part[0] < end and part[1] > first]

    def _last_page(self) -> Page | None:
        """Return the last page with a position."""
        start = max(self._start, self._end - 4 * _MAX_PAGE)
        found, page = None, find_page(self._source, start, self._end)
        while page is not None:
            found = page if page.position != _NO_POSITION else found
            page = find_page(self._source, page.end, self._end)
        return found

    def _frame(self, page: Page) -> int:
        return round(page.position * self._scale) - self._offset

    def _begin(self, frame: int) -> _Walk:
        """Return the state at a page that ends before a frame, or at the start."""
        low, high = self._start, self._end
        while high - low > 2 * _MAX_PAGE:
            middle = (low + high) // 2
            page = self._find_position(middle, high)
            if page is not None and self._frame(page) <= frame:
                low = max(middle, page.start)
            else:
                high = middle
        page = self._find_position(low, self._end)
        if low == self._start or page is None or self._frame(page) > frame:
            return _Walk(0, 0, self._start, None)
        reached = self._frame(page)
        return _Walk(reached, reached, page.end, page)

    def _find_position(self, start: int, end: int) -> Page | None:
        page = find_page(self._source, start, end)
        while page is not None and page.position == _NO_POSITION:
            page = find_page(self._source, page.end, end)
        return page

    def _step(self, walk: _Walk) -> bool:
        """Go to the next page; return whether there is one."""
        page = read_page(self._source, walk.offset, self._end)
        is_intact = page is not None
        if page is None:
            page = find_page(self._source, walk.offset, self._end)
        if page is None:  # the end is missing, which is found in another way
            return False
        # A stream that was recorded from its middle on lacks the pages after its headers.
        is_next = walk.page is None or not walk.reached or page.number == walk.page.number + 1
        walk.is_damaged = walk.is_damaged or not (is_intact and is_next)
        walk.offset, walk.page = page.end, page
        if page.position != _NO_POSITION:
            reached = max(walk.reached, self._frame(page))
            if walk.is_damaged:
                walk.damaged.append((walk.reached, reached))
            walk.reached, walk.is_damaged = reached, False
        return True


class _Walk:
    """Which part of a stream has been looked at."""

    def __init__(self, first: int, reached: int, offset: int, page: Page | None) -> None:
        self.first, self.reached = first, reached
        """Its first frame, and the first one after it."""
        self.offset, self.page = offset, page
        """Where the next page begins, and the page before."""
        self.is_damaged = False
        """Whether a page since the last position is missing."""
        self.damaged: list[tuple[int, int]] = []
