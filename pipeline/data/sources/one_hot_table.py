"""Tables with a column of 0 and 1 for each class or split, read with one column of the names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.data.clips import shown
from pipeline.data.sources.split_names import truth_of
from pipeline.io.errors import UserError
from pipeline.io.table_files import LIST_SEPARATOR, ListText, Table

# Names of columns in the header of the column that stands for them.
_SHOWN_COLUMNS = 5


class StatedClasses(ListText):
    """The classes of a row, of each of which the row states whether it is there; also if none is."""

    __slots__ = ()


@dataclass
class OneHotTable:
    """A table with up to two columns more, after those that it has: of the classes, and of the splits."""

    table: Table
    classes: tuple[int, ...] = ()
    """Positions of the columns that each state whether a class is there."""
    splits: tuple[int, ...] = ()
    """Positions of the columns of which one in each row states the split of the row."""
    name: str = field(init=False)
    header: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.header = self.table.name, list(self.table.header)
        self.header += [self._title(columns) for columns in (self.classes, self.splits) if columns]

    @property
    def label(self) -> int | None:
        """Position of the column of the classes; None if the table has one of its own."""
        return len(self.table.header) if self.classes else None

    @property
    def split(self) -> int | None:
        """Position of the column of the splits; None if the splits are not those of several columns."""
        return len(self.header) - 1 if self.splits else None

    @property
    def replaced(self) -> set[int]:
        """Positions of the columns for which another one stands."""
        return {*self.classes, *self.splits}

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        return self.converted(self.table.rows())

    def converted(self, rows: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
        """Yield rows of the table with the values of the further columns.

        Raises:
            UserError: a value of the columns of classes is neither 0 nor 1.
        """
        width = len(self.table.header)
        further = range(width, len(self.header))
        if not further:
            yield from rows
            return
        for line, values in rows:
            padded = [*values[:width], *[""] * (width - len(values))]
            yield line, padded + [self.value(position, line, padded) for position in further]

    def parts(self, position: int) -> tuple[int, ...]:
        """Return the columns of the table that a column stands for: itself, unless it is a further one."""
        if position == self.label:
            return self.classes
        return self.splits if position == self.split else (position,)

    def value(self, position: int, line: int, values: Sequence[str] | Mapping[int, str]) -> str:
        """Return the value of a column in a row, from the values of its parts.

        Raises:
            UserError: one of the columns of classes is neither 0 nor 1.
        """
        if position == self.label:
            return self._classes_of(line, values)
        if position == self.split:
            return next(iter(self._true_columns(values, self.splits)), "")
        return values[position]

    def _classes_of(self, line: int, values: Sequence[str] | Mapping[int, str]) -> str:
        """Return the classes of a row; an empty text if it has no value for any class."""
        unclear = [position for position in self.classes if truth_of(values[position]) is None]
        if len(unclear) == len(self.classes) and not any(values[position].strip() for position in unclear):
            return ""
        if unclear:
            raise UserError(
                f"{self.name}, line {line}: column {shown(self.header[unclear[0]])} has "
                f"{shown(values[unclear[0]])}, but those of classes need 0 or 1 in each row: correct it"
            )
        return StatedClasses(LIST_SEPARATOR.join(self._true_columns(values, self.classes)))

    def _true_columns(self, values: Sequence[str] | Mapping[int, str], columns: Iterable[int]) -> list[str]:
        return [self.table.header[position] for position in columns if truth_of(values[position])]

    def _title(self, columns: Sequence[int]) -> str:
        names = ", ".join(self.table.header[position] for position in columns[:_SHOWN_COLUMNS])
        others = len(columns) - _SHOWN_COLUMNS
        return f"{len(columns)} columns of 0 and 1: {names}" + (f" and {others} more" if others > 0 else "")
