"""Classes of the rows of a Parquet file: names, texts of lists, lists, or columns of one class each."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from pipeline.data.clips import shown
from pipeline.data.labels import check_no_object, is_list_text, join_labels, parse_label_list, split_labels
from pipeline.data.sources.column_names import has_lists
from pipeline.data.sources.one_hot_table import OneHotTable
from pipeline.data.sources.row_values import NO_VALUES, SEVERAL_CLASSES_FIX
from pipeline.io.errors import UserError
from pipeline.io.table_files import ParquetTable


@dataclass(frozen=True)
class ParquetLabels:
    """Reads the classes of the rows of one file."""

    table: ParquetTable
    one_hot: OneHotTable
    """The table with further columns for those of one class or split each."""
    column: int
    """Column of the classes."""
    more_column: int | None
    """Column of further classes."""
    column_is_list: bool
    """Whether texts of the column are those of lists, by its name."""
    multi_label: bool

    def check_type(self) -> None:
        """Check that rows have no lists of classes, unless they may have several.

        Raises:
            UserError: they have, without `--multi-label`.
        """
        if not self.multi_label and self._is_list(self.column):
            raise self._several_classes_error()

    def _several_classes_error(self, example: str = "") -> UserError:
        column = shown(self.one_hot.header[self.column])
        return UserError(
            f"{self.table.name}: column {column} may have several classes in a row: {SEVERAL_CLASSES_FIX}"
            f"{example}"
        )

    def label(self, row: int, text: str, more: str) -> str:
        """Return the label of a row, from the texts of its column and of that of further classes.

        Raises:
            UserError: a text is no list although it begins as one, or the row has not one class but needs it.
        """
        try:
            check_no_object(text)
        except ValueError as error:
            raise self._error(row, str(error)) from None
        if not self.multi_label:
            return self._one_class(row, text)
        try:
            is_list = has_lists(self.one_hot.header[self.column])
            names = self._classes(text, self.column, is_list)
            return join_labels(names + self._classes(more, self.more_column))
        except ValueError as error:
            raise self._error(row, str(error)) from None

    def _one_class(self, row: int, text: str) -> str:
        """Return the class of a row, which may be the only one in the text of a list.

        Raises:
            UserError: there is none, or several.
        """
        is_one_hot = self.column == self.one_hot.label
        is_list = self.column_is_list or is_list_text(text)
        try:
            is_list = is_list and self._is_plain_text(self.column)
            names = parse_label_list(text) if is_list else [text]
            if is_one_hot:
                names = split_labels(text)
        except ValueError as error:
            raise self._error(row, str(error)) from None
        if len(names) > 1:
            raise self._several_classes_error(f"; row {row} has {shown(text)}")
        if not names or names[0].lower() in NO_VALUES:
            fix = f": {SEVERAL_CLASSES_FIX}" if is_one_hot else ""
            raise self._error(row, f"label is empty{fix}")
        return names[0]

    def _classes(self, text: str, column: int | None, is_list: bool = True) -> list[str]:
        """Return the classes in the text of a value, which may be that of a list."""
        if text.strip().lower() in NO_VALUES:
            return []
        if column is not None and (is_list or is_list_text(text)) and self._is_plain_text(column):
            return parse_label_list(text)
        return split_labels(text)

    def _is_plain_text(self, column: int) -> bool:
        """Return whether values are texts, and neither lists nor names of classes that the schema states."""
        return not self._is_list(column) and self.one_hot.header[column] not in self.table.class_names

    def _is_list(self, column: int) -> bool:
        if column == self.one_hot.label:
            return False
        kind = self.table.file.schema_arrow.field(self.table.header[column]).type
        return pa.types.is_list(kind) or pa.types.is_large_list(kind)

    def _error(self, row: int, text: str) -> UserError:
        return UserError(f"{self.table.name}, row {row}: {text}")
