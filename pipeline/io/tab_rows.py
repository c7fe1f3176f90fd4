"""Rows of tab-separated text, in which quotes may be characters, or written as in a CSV.

Programs that write such tables often quote nothing (Common Voice, DCASE), others only what needs it (pandas).
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator

_QUOTED = re.compile(r'"(?:[^"]|"")*"')


class TabRows(Iterator[list[str]]):
    """Splits lines at tabs; quotes are characters where a line has all of its values without them."""

    separator = "\t"

    def __init__(self, lines: Iterator[str]):
        """Read lines with their ends; the first one sets the number of values of the others."""
        self.line_num = 0
        """Number of lines that were read."""
        self._lines, self._width = lines, 0
        self._ahead: list[str] = []

    def __next__(self) -> list[str]:
        """Return the values of the next row.

        Raises:
            csv.Error: a quote that is none of a character is not closed.
        """
        line = self._next_line()
        values = line.rstrip("\r\n").split("\t")
        self._width = self._width or len(values)
        if '"' not in line or (len(values) == self._width and not self._continues(values[-1])):
            return [unquoted(value) for value in values]
        following = iter(self._next_line, None)
        return next(csv.reader(itertools.chain([line], following), delimiter="\t", strict=True))

    def _next_line(self) -> str:
        line = self._ahead.pop() if self._ahead else next(self._lines)
        self.line_num += 1
        return line

    def _continues(self, value: str) -> bool:
        """Return whether the last value of a line continues in the next one, which then is no row."""
        if not value.startswith('"') or _QUOTED.fullmatch(value):
            return False
        if not self._ahead:
            self._ahead.extend(itertools.islice(self._lines, 1))
        return bool(self._ahead) and self._ahead[0].count("\t") + 1 < self._width


def unquoted(value: str) -> str:
    """Return a value without quotes around all of it, in which quotes are doubled."""
    return value[1:-1].replace('""', '"') if _QUOTED.fullmatch(value) else value
