"""Rows of a CSV, in which blanks may be before the quotes of a value, as people and AudioSet write them."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator


class QuotedRows(Iterator[list[str]]):
    """Splits lines at a separator, as the csv module does; `a, "b, c"` has two values as well.

    In such a row, blanks before other values are left out too.
    """

    def __init__(self, lines: Iterator[str], separator: str):
        """Read lines with their ends."""
        self.separator = separator
        self.line_num = 0
        """Number of lines that were read."""
        self._lines = lines
        self._row: list[str] = []
        # Without strict, an opening quote that is never closed takes in the rest of the file.
        self._reader = csv.reader(self._noted_lines(), delimiter=separator, strict=True)
        self._quotes_after_blank = re.compile(rf'(?:^|{re.escape(separator)}) +"')

    def __next__(self) -> list[str]:
        """Return the values of the next row.

        Raises:
            csv.Error: a quote is not closed, or something else than a separator follows a closing one.
        """
        self._row.clear()
        values = next(self._reader)
        text = self._row[0] if len(self._row) == 1 else "".join(self._row)
        if ' "' not in text or not self._quotes_after_blank.search(text):
            return values
        lines = itertools.chain(self._row.copy(), self._noted_lines())
        return next(csv.reader(lines, delimiter=self.separator, strict=True, skipinitialspace=True))

    def _noted_lines(self) -> Iterator[str]:
        for line in self._lines:
            self.line_num += 1
            self._row.append(line)
            yield line
