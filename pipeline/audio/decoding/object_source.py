"""Random access to the bytes of a large object of an object store, by requests for ranges."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.audio.decoding.byte_source import ByteRange, ByteSource
from pipeline.io.storage import to_path

# The first request for an object: it reads a small one completely.
MAX_WHOLE_BYTES = 1 << 21
# Bytes of a request: few for a part of the file that is searched, more and more for one that is read through.
_FIRST_BYTES, _LAST_BYTES = 1 << 18, 1 << 22
# Parts that are kept, as the decoder returns to the header and to where it searched before.
_MAX_PARTS = 6


class ObjectSource(ByteSource):
    """The bytes of an object, of which only those ranges are read that are needed.

    The decoder calls `read` from C code, through which no exception passes: a failed request reads as the end
    of the object, and `check` raises its error.
    """

    def __init__(self, path: Any, size: int, start: bytes) -> None:
        """Use an object of that size, which begins with the bytes `start`."""
        super().__init__(b"")
        self._object, self.size, self._start = path, size, start
        self._parts: list[tuple[int, bytes]] = []

    def read(self, start: int, size: int) -> bytes:
        size = max(0, min(size, self.size - start))
        data = b""
        while len(data) < size:
            part_start, part = self._part(start + len(data), size - len(data))
            offset = start + len(data) - part_start
            piece = part[offset : offset + size - len(data)]
            if not piece:
                break
            data = piece if not data else data + piece
        return data

    def _part(self, start: int, size: int) -> tuple[int, bytes]:
        """Return the part of the object that contains the byte at `start`, from memory or by a request."""
        if start < len(self._start):
            return 0, self._start
        for index, (part_start, part) in enumerate(self._parts):
            if part_start <= start < part_start + len(part):
                self._parts.append(self._parts.pop(index))
                return part_start, part
        previous = [len(part) for part_start, part in self._parts if part_start + len(part) == start]
        length = max(size, min(2 * previous[0], _LAST_BYTES) if previous else _FIRST_BYTES)
        self._parts.append((start, self._request(start, length)))
        del self._parts[:-_MAX_PARTS]
        return self._parts[-1]

    def _request(self, start: int, length: int) -> bytes:
        try:
            return self._object.read_range(start, length)
        except OSError as error:
            self._error = error
            return b""

    def whole(self) -> ByteRange:
        return ByteRange(self, 0, self.size, b"")

    def _read_into(self, start: int, buffer: np.ndarray) -> np.ndarray:
        return np.frombuffer(self.read(start, buffer.size), np.uint8)


def open_object(uri: str) -> ByteSource:
    """Open an object; a small one is read completely.

    Raises:
        FileNotFoundError: no such object.
        ValueError: the store cannot have an object of that name.
        OSError: the object store cannot be reached.
    """
    path = to_path(uri)
    start = path.read_range(0, MAX_WHOLE_BYTES)
    info = path.info() if len(start) == MAX_WHOLE_BYTES else None
    return ByteSource(start) if info is None else ObjectSource(path, info.size, start)
