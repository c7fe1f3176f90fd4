"""Random access to the bytes of an audio file, on disk or in memory."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator

import numpy as np

_SEARCH_BLOCK = 1 << 17


class SourceError(Exception):
    """The object store cannot be reached, which is not an error of the file."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class ByteSource:
    """The bytes of an audio file, given by its path or as its content."""

    def __init__(self, source: str | os.PathLike[str] | bytes) -> None:
        """Open the file.

        Raises:
            OSError: the path cannot be opened, or is a folder, pipe or device.
            ValueError: NUL byte in the name.
        """
        self._content = source if isinstance(source, bytes) else b""
        self._path = None if isinstance(source, bytes) else os.fspath(source)
        self._descriptor = -1
        self._error: OSError | None = None
        self.size = len(self._content)
        if self._path is not None:
            status = os.stat(self._path)
            if not stat.S_ISREG(status.st_mode):
                is_folder = stat.S_ISDIR(status.st_mode)
                raise OSError("a folder, not an audio file" if is_folder else "not a regular file")
            self._descriptor, self.size = os.open(self._path, os.O_RDONLY), status.st_size

    @property
    def path(self) -> str | None:
        """Path of the file; None if only its content is known."""
        return self._path

    def __enter__(self) -> ByteSource:
        return self

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            os.close(self._descriptor)

    def read(self, start: int, size: int) -> bytes:
        """Return up to `size` bytes from offset `start`."""
        if self._path is None:
            return self._content[start : start + size]
        return os.pread(self._descriptor, size, start)

    def check(self) -> None:
        """Raise a `SourceError` if a request of `read` has failed."""
        if self._error is not None:
            raise SourceError(self._error)

    def find_all(self, magic: bytes) -> Iterator[int]:
        """Yield the offset of every occurrence of four bytes, with one block in memory at a time."""
        (word,) = np.frombuffer(magic, np.uint32)
        # Faster than bytes.find, and than a new buffer for each block.
        buffer = np.empty(_SEARCH_BLOCK + 3, np.uint8)
        for start in range(0, self.size, _SEARCH_BLOCK):
            block = self._read_into(start, buffer)
            offsets = []
            for shift in range(4):
                words = block[shift : shift + (block.size - shift) // 4 * 4].view(np.uint32)
                offsets += (4 * np.flatnonzero(words == word) + shift).tolist()
            # The last three bytes are also the first ones of the next block.
            yield from (start + offset for offset in sorted(offsets) if offset < _SEARCH_BLOCK)

    def _read_into(self, start: int, buffer: np.ndarray) -> np.ndarray:
        if self._path is None:
            return np.frombuffer(self._content, np.uint8)[start : start + buffer.size]
        return buffer[: os.preadv(self._descriptor, [buffer.data], start)]

    def whole(self) -> str | io.IOBase:
        """Return what soundfile opens to read the whole file: the path, as the fastest, or a file object."""
        return _Content(self._content) if self._path is None else self._path


class _Content(io.BytesIO):
    """Content in memory, for which a seek to before the start is not an error that is printed."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return super().seek(max(0, offset) if whence == os.SEEK_SET else offset, whence)


class ByteRange(io.RawIOBase):
    """Read-only file that consists of `prefix` and the bytes from `start` to `end` of a source."""

    def __init__(self, source: ByteSource, start: int, end: int, prefix: bytes) -> None:
        self._source, self._start, self._prefix = source, start, prefix
        self._size = len(prefix) + max(0, end - start)
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, as any file does."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` from the position; return the number of bytes, 0 at the end."""
        size = max(0, min(len(buffer), self._size - self._position))
        data = self._prefix[self._position : self._position + size]
        if len(data) < size:
            start = self._start + self._position + len(data) - len(self._prefix)
            data += self._source.read(start, size - len(data))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
