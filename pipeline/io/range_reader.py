"""Random access to an object, by requests for ranges of its bytes."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

from pipeline.io.object_store import ObjectStore

# Bytes at the end that are read when an object is opened: Parquet and Arrow files have their index there.
END_BYTES = 64 * 2**10
# Least bytes of a further request, whose latency takes as long as the transfer of some hundred kilobytes.
BLOCK_BYTES = 2**20


class _RangeReader(io.RawIOBase):
    """Reads an object in blocks, of which it keeps the last and the end of the object."""

    def __init__(self, store: ObjectStore, key: str):
        self._store, self._key, self._position = store, key, 0
        self._end, self._size = store.get_end(key, END_BYTES)
        self._block, self._block_start = b"", 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._position)
        data = self._range(self._position, left if size is None or size < 0 else min(size, left))
        self._position += len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _range(self, start: int, length: int) -> bytes:
        end_start = self._size - len(self._end)
        if start >= end_start:
            return self._end[start - end_start : start - end_start + length]
        offset = start - self._block_start
        if not 0 <= offset <= len(self._block) - length:
            self._block = self._store.get(self._key, start, max(length, BLOCK_BYTES))
            self._block_start, offset = start, 0
        return self._block[offset : offset + length]


def open_range_reader(store: ObjectStore, key: str) -> BinaryIO:
    """Open an object for random access; raises as `ObjectStore.get`."""
    return cast(BinaryIO, _RangeReader(store, key))
