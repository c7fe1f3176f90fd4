"""Audio files inside Parquet files, read row by row.

Rows of a row group are read one after the other, from its start: a worker that reads neighboring clips reads
each row group once. In memory are the page that has the row (compressed and not) and the row itself; of an
object in an object store, ranges of a few MB are requested.
"""

from __future__ import annotations

import io
import itertools
import os
import threading
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.audio.parquet_column import audio_column
from pipeline.io.remote_path import RemotePath
from pipeline.io.row_location import RowLocation, row_path, row_suffix
from pipeline.io.storage import to_path

# Bytes that are read at a time on disk, and by a request to an object store.
_LOCAL_BYTES, _REMOTE_BYTES = 1 << 20, 4 << 20


def read_row(location: RowLocation) -> bytes:
    """Return the content of an audio file inside a Parquet file. Fast for ascending rows of a row group.

    Raises:
        FileNotFoundError: no such Parquet file.
        ValueError: the row is NULL or damaged, or there is none.
        OSError: the file or the object store cannot be read.
    """
    with _LAST.lock:
        return _LAST.reader(location.file).read(location.row)


def first_rows_of_group(location: RowLocation, count: int) -> list[str]:
    """Return the locations of the first rows in the row group of a row, which cost least to read.

    Raises:
        FileNotFoundError, ValueError, OSError: as `read_row`.
    """
    with _LAST.lock:
        rows = _LAST.reader(location.file).rows_of_group(location.row)
    file = to_path(location.file)
    return [row_path(file, row_suffix(row)) for row in rows[:count]]


class RowReader:
    """Reads the audio files of one Parquet file; not from several threads."""

    def __init__(self, file: str):
        """Open a file by its path or URI; raises as `read_row`."""
        path = to_path(file)
        self._source = _StoreFile(path.open_input()) if isinstance(path, RemotePath) else None
        self._parquet: Any = None
        with self._errors("not a readable Parquet file"):
            self._parquet = pq.ParquetFile(
                path if self._source is None else self._source,
                buffer_size=_LOCAL_BYTES if self._source is None else _REMOTE_BYTES,
                pre_buffer=False,  # it would read whole row groups into memory
                page_checksum_verification=True,
            )
        column = audio_column(self._parquet.schema_arrow)
        if column is None:
            self.close()
            raise ValueError("the Parquet file has no column of audio files")
        self._content = column.content
        metadata = self._parquet.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        # First row of each row group, and the end of the last one.
        self._starts = [0, *itertools.accumulate(sizes)]
        self._group, self._next, self._failure = -1, 0, ""
        self._batches: Iterator[pa.RecordBatch] = iter(())

    @property
    def has_failed(self) -> bool:
        """Whether a request to the object store has failed, after which nothing can be read."""
        return self._source is not None and self._source.error is not None

    def close(self) -> None:
        """Close the file."""
        if self._parquet is not None:
            self._parquet.close()
        if self._source is not None:
            self._source.close()

    def group_of_row(self, row: int) -> int:
        """Return the number of the row group that a row belongs to.

        Raises:
            ValueError: there is no such row.
        """
        if row >= self._starts[-1]:
            raise ValueError(f"the Parquet file has no row {row}: it has changed")
        return bisect_right(self._starts, row) - 1

    def rows_of_group(self, row: int) -> range:
        """Return the rows of the row group that a row belongs to; raises as `group_of_row`."""
        group = self.group_of_row(row)
        return range(self._starts[group], self._starts[group + 1])

    def group_sizes(self) -> list[tuple[int, int]]:
        """Return the number of rows of each row group, and the bytes of their audio files."""
        metadata = self._parquet.metadata
        groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
        return [(group.num_rows, self._content_bytes(group)) for group in groups]

    def _content_bytes(self, group: Any) -> int:
        columns = (group.column(index) for index in range(group.num_columns))
        return sum(one.total_uncompressed_size for one in columns if one.path_in_schema == self._content)

    def read(self, row: int) -> bytes:
        """Return the content of the audio file in a row; raises as `read_row`."""
        start = self.rows_of_group(row).start
        if start != self._group or row < self._next:
            self._enter(start)
        batch: Any = None
        while self._next <= row:
            batch = self._read_next()
        value = batch.column(0)[0].as_py()
        content = value["bytes"] if isinstance(value, dict) else value
        if content is None:
            raise ValueError("no audio: the value in the Parquet file is NULL")
        assert isinstance(content, bytes)
        return content

    def _enter(self, start: int) -> None:
        """Begin with the row group whose first row is `start`."""
        self._group, self._next, self._failure = start, start, ""
        group = bisect_right(self._starts, start) - 1
        # A row at a time: memory is that of one row, whatever the size of the rows.
        self._batches = self._parquet.iter_batches(1, [group], [self._content], use_threads=False)

    def _read_next(self) -> pa.RecordBatch:
        if self._failure:  # the rest of a row group is lost with a damaged page
            raise ValueError(self._failure)
        try:
            with self._errors("a damaged row group of the Parquet file"):
                batch = next(self._batches, None)
            if batch is None:
                raise ValueError("the row group of the Parquet file ends early")
        except ValueError as error:
            self._failure = str(error)
            raise
        self._next += 1
        return batch

    @contextmanager
    def _errors(self, damage: str) -> Iterator[None]:
        """Raise an error of the content as a `ValueError`, one of object store or disk as an `OSError`."""
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            if self._source is not None and self._source.error is not None:
                raise self._source.error from None
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(f"{damage} ({' '.join(str(error).split())[:200]})") from None


class _StoreFile(io.RawIOBase):
    """A file of an object store that keeps the error of a request: pyarrow's own errors look the same."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.error: Exception | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        try:
            return self._file.read(-1 if size is None else size)
        except Exception as error:
            self.error = error
            raise

    def readinto(self, buffer: Any) -> NoReturn:
        raise io.UnsupportedOperation("readinto")


class _LastFile:
    """The Parquet file that this process read last: the next row continues where it stopped."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._identity: tuple[object, ...] = ()
        self._reader: RowReader | None = None

    def reader(self, file: str) -> RowReader:
        """Return a reader of a file; a file in an object store is considered unchanged."""
        identity = (file, *_identity(file))
        if self._reader is None or self._identity != identity or self._reader.has_failed:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
            self._reader, self._identity = RowReader(file), identity
        return self._reader


def _identity(file: str) -> tuple[int, ...]:
    if isinstance(to_path(file), RemotePath):
        return ()
    status = os.stat(file)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


_LAST = _LastFile()
