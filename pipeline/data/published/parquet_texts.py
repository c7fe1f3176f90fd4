"""Texts of the columns of a Parquet file, read in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipeline.data.sources.one_hot_table import OneHotTable
from pipeline.io.table_files import ParquetTable


@dataclass(frozen=True)
class ParquetTexts:
    """Reads columns of one file, of which some may stand for several."""

    table: ParquetTable
    one_hot: OneHotTable
    """The table with further columns for those of one class or split each."""

    def batches(
        self, rows: int, positions: Iterable[int], group: int | None = None, more: Iterable[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a row group, or all, with some columns and `more`; nothing without columns."""
        parts = [part for position in positions for part in self.one_hot.parts(position)]
        leaves = dict.fromkeys([*(self.table.leaf(self.table.header[part]) for part in parts), *more])
        groups = None if group is None else [group]
        yield from self.table.file.iter_batches(rows, groups, list(leaves)) if leaves else ()

    def texts(self, batch: pa.RecordBatch, position: int, row: int) -> list[str]:
        """Return the values of a column in a batch that begins with `row`."""
        parts = self.one_hot.parts(position)
        texts = [self.table.texts(batch, self.table.header[part]) for part in parts]
        if parts == (position,):
            return texts[0]
        values = (dict(zip(parts, values, strict=True)) for values in zip(*texts, strict=True))
        return [self.one_hot.value(position, row + index, one) for index, one in enumerate(values)]
