"""Tables without a header, as lists of `a.wav<TAB>dog` and those of DCASE have none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.audio.file_types import is_audio
from pipeline.data.clips import shown
from pipeline.io.csv_files import CsvFile
from pipeline.io.table_files import Table, open_table


class HeaderlessTable:
    """A CSV whose first line is a row, with names for its columns."""

    def __init__(self, table: CsvFile, header: list[str]):
        """Take the open table, which has the first row as its header."""
        self.name, self.header = table.name, header
        self._table = table

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        yield self._table.header_line, self._table.header
        yield from self._table.rows()

    @property
    def note(self) -> str:
        """How the columns are read."""
        unused = [
            f"{name} ({shown(value)}, …)"
            for name, value in zip(self.header, self._table.header, strict=True)
            if name not in ("path", "start", "end", "label")
        ]
        others = f"; not used: {', '.join(unused)}" if unused else ""
        columns = ",".join(self.header)
        return f"{self.name}: has no header, and is read as {columns}{others}; write a header to change that"


@contextmanager
def open_clip_table(path: Path, flag: str) -> Iterator[Table]:
    """Open a table as `open_table`; one without header has names for its columns if their meaning is clear.

    Raises:
        UserError: as `open_table`.
    """
    with open_table(path, flag) as table:
        if isinstance(table, CsvFile) and (header := missing_header(table.header)) is not None:
            yield HeaderlessTable(table, header)
        else:
            yield table


def missing_header(row: list[str]) -> list[str] | None:
    """Return the header of a table that begins with a row of a file and its class; None if it is no such row.

    With two further numbers these are the times of an event. A text after the class is not used.
    """
    paths = [position for position, value in enumerate(row) if is_audio(value)]
    others = [position for position in range(len(row)) if position not in paths]
    if len(paths) != 1 or not others:
        return None
    numbers = [position for position in others if _is_number(row[position])]
    texts = [position for position in others if position not in numbers]
    header = [f"column {position + 1}" for position in range(len(row))]
    header[paths[0]] = "path"
    if len(others) == 1 or (len(texts) == 2 and not numbers):
        header[others[0]] = "label"
    elif len(texts) == 1 and len(numbers) == 2 and numbers[1] - numbers[0] == 1:
        header[texts[0]] = "label"
        header[numbers[0]], header[numbers[1]] = "start", "end"
    else:
        return None
    return header


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
