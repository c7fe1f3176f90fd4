"""`windows.parquet` and `windows.csv`: the probabilities of all readable windows, part after part."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.classifier.prediction.tables import TIMES, published_table
from pipeline.io.files import csv_text

WINDOWS_NAME, WINDOWS_CSV_NAME = "windows.parquet", "windows.csv"
# Characters of ids for which a CSV needs quotes.
_QUOTED = '[",\r\n]'


class WindowFiles:
    """Open files of windows; a context manager, which completes them."""

    def __init__(self, parquet: BinaryIO, text: BinaryIO, class_names: Sequence[str]):
        """Write the header of the CSV."""
        self._parquet, self._text, self._class_names = parquet, text, class_names
        self._stack = ExitStack()
        self._writer: pq.ParquetWriter | None = None
        columns = ["id", *TIMES, *(f"p:{name}" for name in class_names)]
        text.write(csv_text(columns, []).encode())

    def __enter__(self) -> WindowFiles:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write(self, table: pa.Table, probabilities: np.ndarray) -> None:
        """Write windows with the columns `id`, `start`, `end` and `probabilities`, which are given again."""
        published = published_table(table, probabilities, self._class_names)
        if self._writer is None:
            options: dict[str, Any] = {"use_dictionary": ["id"]}
            self._writer = self._stack.enter_context(
                pq.ParquetWriter(self._parquet, published.schema, **options)
            )
        self._writer.write_table(published)
        self._write_text(table, probabilities)

    def _write_text(self, table: pa.Table, probabilities: np.ndarray) -> None:
        columns = [*table.select(["id", *TIMES]).columns, *np.ascontiguousarray(probabilities.T)]
        rows = pa.table(columns, names=[f"{i}" for i in range(len(columns))])
        # Otherwise all texts would have quotes.
        quotes = pc.any(pc.match_substring_regex(table["id"], _QUOTED)).as_py()
        options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed" if quotes else "none")
        pyarrow.csv.write_csv(rows, self._text, options)
