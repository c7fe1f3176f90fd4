"""Batches of rows of Parquet files, which are read independently of each other.

A row group is read from its start, so a batch has whole row groups, as far as their rows are asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from pipeline.audio.clip_files import FetchedFile
from pipeline.audio.parquet_rows import RowReader
from pipeline.io.row_location import RowLocation, parse_row

# Rows of a batch at least, as each opens the Parquet file: those of two or three usual row groups, or fewer
# that are as large.
MIN_ROWS, MIN_BYTES = 256, 64 << 20
# Copies in memory of a page (compressed, not, and as values), which may have all of a row group, and of a
# row: measured with rows of 1 and 8 MB.
_PAGE_COPIES, _ROW_COPIES = 3, 3


@dataclass(frozen=True)
class RowBatch:
    """Adjacent rows of one Parquet file."""

    paths: list[str]
    """Location of each row."""
    num_bytes: int
    """Most bytes in memory while one of them is read; 0: the Parquet file cannot be read."""

    def read(self) -> Iterator[FetchedFile]:
        """Yield the audio file of each row, or why it cannot be read, with one of them in memory."""
        locations = _locations(self.paths)
        try:
            reader = RowReader(locations[0].file)
        except Exception as error:
            yield from (FetchedFile(path, error) for path in self.paths)
            return
        with closing(reader):
            for path, location in zip(self.paths, locations, strict=True):
                try:
                    outcome: bytes | Exception = reader.read(location.row)
                except Exception as error:
                    outcome = error
                yield FetchedFile(path, outcome)


def row_batches(paths: Sequence[str], min_rows: int = MIN_ROWS) -> Iterator[RowBatch]:
    """Yield the batches of rows, given by their locations, in their order."""
    for _, rows_of_file in itertools.groupby(paths, lambda path: _locations([path])[0].file):
        yield from _batches_of_file(list(rows_of_file), min_rows)


def _batches_of_file(paths: list[str], min_rows: int) -> Iterator[RowBatch]:
    locations = _locations(paths)
    try:
        with closing(RowReader(locations[0].file)) as reader:
            groups = [reader.group_of_row(location.row) for location in locations]
            sizes = reader.group_sizes()
    except Exception:  # raised again, for each row, when it is read
        yield RowBatch(paths, 0)
        return
    start = total = largest = 0
    for end, group in enumerate(groups, 1):
        if end == len(groups) or groups[end] != group:
            total, largest = total + sizes[group][1], max(largest, _memory(*sizes[group]))
            if end == len(groups) or end - start >= min_rows or total >= MIN_BYTES:
                yield RowBatch(paths[start:end], largest)
                start, total, largest = end, 0, 0


def _memory(num_rows: int, num_bytes: int) -> int:
    """Return the bytes in memory while a row of a row group is read."""
    return _PAGE_COPIES * num_bytes + _ROW_COPIES * num_bytes // max(1, num_rows)


def _locations(paths: Sequence[str]) -> list[RowLocation]:
    locations = [parse_row(path) for path in paths]
    assert None not in locations, "not rows of Parquet files"
    return [location for location in locations if location is not None]
