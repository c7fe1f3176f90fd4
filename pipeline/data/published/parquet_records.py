"""Rows of one Parquet file with audio in it, as rows of the manifest; the audio itself is not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from pipeline.audio.parquet_column import AudioColumn, audio_column, is_text
from pipeline.data.annotations.settings import LabelConfig
from pipeline.data.clips import clip_record, shown
from pipeline.data.published.parquet_audio import AudioFile
from pipeline.data.published.parquet_labels import ParquetLabels
from pipeline.data.published.parquet_splits import SplitCounts, SplitDecision
from pipeline.data.published.parquet_texts import ParquetTexts
from pipeline.data.sources.column_names import LABEL_COLUMNS
from pipeline.data.sources.one_hot_columns import with_one_hot_columns
from pipeline.data.sources.one_hot_table import OneHotTable
from pipeline.data.sources.row_values import MISSING_VALUES, parse_fold
from pipeline.data.sources.split_values import may_be_split
from pipeline.data.sources.table_columns import Columns, NoLabelColumnError, labeled_columns, path_column
from pipeline.io.errors import UserError
from pipeline.io.folder_tree import FileStatus
from pipeline.io.row_location import row_path, row_suffix
from pipeline.io.table_files import ParquetTable, column_texts, open_parquet

# Rows of which the texts are looked at to find out whether a column may have splits.
_BATCH_ROWS, _FIRST_ROWS = 4096, 16


@dataclass
class FileRows:
    """Rows of one file."""

    records: list[tuple] = field(default_factory=list)
    held_out: Counter[str] = field(default_factory=Counter)
    """Number of rows by split, without those of the training split."""
    split_counts: SplitCounts = field(default_factory=SplitCounts)
    """Values of the columns that may be that of the splits."""
    splits: SplitDecision | None = None
    """Which rows were left out; None: none."""
    error: UserError | None = None
    """Why not all rows were read, if other files decide whether that matters."""
    classes: tuple[str, ...] = ()
    """Classes that each have a column of their own."""
    columns: str = ""
    """Which columns were used for what; empty for a file without audio."""


def read_rows(
    file: AudioFile, flag: str, labels: LabelConfig | None, splits: SplitDecision | None = None
) -> FileRows:
    """Read the rows of a file.

    Args:
        file: the file.
        flag: command-line flag that names its folder.
        labels: where the classes are; None: not read.
        splits: which rows are left out; None: by the values in this file.

    Raises:
        UserError: no Parquet file, no column of classes, or an invalid value.
    """
    with open_parquet(file.path, flag) as table:
        audio = audio_column(table.file.schema_arrow)
        if audio is None:
            return FileRows()
        name = path_column(table)
        if name is not None and table.header[name] == audio.name:  # only paths, next to files with content
            name = None
        if labels is None:
            return _RowReader(table, file, audio, name, ParquetTexts(table, OneHotTable(table))).read()
        one_hot, columns = _columns(table, labels)
        classes = _classes(table, one_hot, columns, labels.multi_label)
        classes.check_type()
        reader = _RowReader(table, file, audio, name, ParquetTexts(table, one_hot), columns, classes)
        reader.find_splits(splits)
        return reader.read()


def _classes(table: ParquetTable, one_hot: OneHotTable, columns: Columns, multi_label: bool) -> ParquetLabels:
    assert columns.label is not None
    return ParquetLabels(
        table, one_hot, columns.label, columns.more_labels, columns.label_is_list, multi_label
    )


def _columns(table: ParquetTable, labels: LabelConfig) -> tuple[OneHotTable, Columns]:
    """Return the columns of the classes and what is known about clips; those of paths do not matter.

    Raises:
        UserError: no column of classes, or only some columns can be those of one class each.
    """
    classes = [position for position, name in enumerate(table.header) if name in table.class_names]
    only = classes[0] if len(classes) == 1 else None
    one_hot = with_one_hot_columns(table, labels.label_column, table.rows(), only is None)
    try:
        return one_hot, labeled_columns(one_hot, labels.label_column, (0, only))
    except NoLabelColumnError as error:
        raise UserError(
            f"{table.name}: no column has a usual name of classes ({', '.join(LABEL_COLUMNS)}): name it "
            f"by --label-column; its columns are {', '.join(map(shown, table.header[:20]))}"
        ) from error


@dataclass
class _RowReader:
    """Reads the rows of one file as rows of the manifest."""

    table: ParquetTable
    file: AudioFile
    audio: AudioColumn
    name_column: int | None
    """Column of names, for rows whose audio has none."""
    texts: ParquetTexts
    columns: Columns | None = None
    """None: labels are not read."""
    labels: ParquetLabels | None = None
    """Reads them."""
    splits: SplitDecision | None = None
    split_counts: SplitCounts = field(default_factory=SplitCounts)

    def find_splits(self, splits: SplitDecision | None) -> None:
        """Find the column of splits, by the values of those that may be it; `splits` as for `read_rows`.

        Raises:
            UserError: as `read_split_values`.
        """
        assert self.columns is not None
        if splits is None:
            self._count_splits()
            splits = self.split_counts.decide(self.table.name, is_complete=False)
        if splits is not None and splits.column in self.texts.one_hot.header:
            self.splits = splits
            position = self.texts.one_hot.header.index(splits.column)
            self.columns = replace(self.columns, split=position, held_out=splits.held_out)

    def _count_splits(self) -> None:
        """Count the values of the columns that may name splits: by their names, or by the first values."""
        assert self.columns is not None
        candidates = list(self.columns.split_candidates)
        others = [position for position in self._unused_texts() if position not in candidates]
        for batch in self.texts.batches(_FIRST_ROWS, others):
            for one in list(others):
                if not all(map(may_be_split, self.texts.texts(batch, one, 0))):
                    self.split_counts.others[self.texts.one_hot.header[one]] = None
                    others.remove(one)
            break
        row = 0
        for batch in self.texts.batches(_BATCH_ROWS, candidates + others):
            self.split_counts.add(*(self._stripped(batch, group, row) for group in (candidates, others)))
            row += batch.num_rows

    def _stripped(self, batch: pa.RecordBatch, positions: Iterable[int], row: int) -> dict[str, list[str]]:
        """Return the values of some columns by their names, without surrounding blanks."""
        header = self.texts.one_hot.header
        return {
            header[one]: [text.strip() for text in self.texts.texts(batch, one, row)] for one in positions
        }

    def _unused_texts(self) -> list[int]:
        """Return the columns of texts and names that nothing uses; any may name the splits by its values."""
        assert self.columns is not None
        used = {self.columns.label, self.columns.fold, self.columns.group, self.columns.more_labels}
        schema = self.table.file.schema_arrow
        return [
            position
            for position, name in enumerate(self.table.header)
            if position not in used | {self.name_column}
            and (is_text(schema.field(name).type) or name in self.table.class_names)
        ]

    def read(self) -> FileRows:
        """Read all rows.

        Raises:
            UserError: a label is missing, or a fold is no number.
        """
        held_out = frozenset() if self.columns is None else self.columns.held_out
        rows = FileRows(
            split_counts=self.split_counts,
            splits=self.splits,
            classes=tuple(self.table.header[position] for position in self.texts.one_hot.classes),
            columns=self._describe(),
        )
        try:
            for row, size, values in self._values():
                split = values.get("split", "").strip()
                if split in held_out:
                    rows.held_out[split] += 1
                else:
                    rows.records.append(self._record(row, size, values))
        except UserError as error:  # of a row that may be held out
            if not self.split_counts.is_open:
                raise
            rows.error = error
        return rows

    def _roles(self) -> dict[str, int]:
        """Return the position of each text column that is read, by what it is used for."""
        columns = self.columns
        roles: dict[str, int | None] = {"name": self.name_column if columns is None else None}
        if columns is not None:
            taken = (columns.label, columns.fold, columns.group, columns.split, columns.more_labels)
            roles = {
                "label": columns.label,
                "further labels": columns.more_labels if self.labels and self.labels.multi_label else None,
                "fold": columns.fold,
                "group": columns.group,
                "split": columns.split,
                "name": None if self.name_column in taken else self.name_column,
            }
        return {role: position for role, position in roles.items() if position is not None}

    def _describe(self) -> str:
        roles = [(self.audio.name, "audio")]
        roles += [(self.texts.one_hot.header[position], role) for role, position in self._roles().items()]
        return f"column {', '.join(f'{shown(name)} = {role}' for name, role in roles)}"

    def _values(self) -> Iterator[tuple[int, int, dict[str, str]]]:
        """Yield number, estimated bytes of the audio, and texts by their use, of each row."""
        row = 0
        for group in range(self.table.file.metadata.num_row_groups):
            size = self._mean_size(group)
            for values in self._group_values(group, row):
                yield row, size, values
                row += 1

    def _group_values(self, group: int, row: int) -> Iterable[dict[str, str]]:
        """Yield the texts of the rows of a group, of which the first is `row`, by their use."""
        roles = self._roles()
        names = [self.audio.names] if self.audio.names else []
        if not (roles or names):
            yield from ({} for _ in range(self.table.file.metadata.row_group(group).num_rows))
            return
        for batch in self.texts.batches(_BATCH_ROWS, roles.values(), group, names):
            texts = [self.texts.texts(batch, position, row) for position in roles.values()]
            keys = list(roles)
            if names:
                texts.append(column_texts(batch.column(self.audio.name).field("path"), None))
                keys.append("audio name")
            for values in zip(*texts, strict=True):
                yield dict(zip(keys, values, strict=True))
            row += batch.num_rows

    def _mean_size(self, group: int) -> int:
        """Return the mean size of the audio files of a row group, whose own sizes have not been read."""
        info: Any = self.table.file.metadata.row_group(group)
        chunks = (info.column(index) for index in range(info.num_columns))
        size = next(
            chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == self.audio.content
        )
        return int(size) // max(1, info.num_rows)

    def _record(self, row: int, size: int, values: dict[str, str]) -> tuple:
        suffix = row_suffix(row, values.get("audio name") or values.get("name", ""))
        group = values.get("group", "").strip()
        try:
            fold = parse_fold(values.get("fold", "").strip())
        except ValueError as error:
            raise self._error(row, str(error)) from None
        return clip_record(
            self.file.name + suffix,
            row_path(self.file.path, suffix),
            self._label(row, values),
            FileStatus(size, self.file.status.mtime_ns),
            fold,
            "" if group.lower() in MISSING_VALUES else group,
        )

    def _label(self, row: int, values: dict[str, str]) -> str:
        if self.labels is None:
            return ""
        return self.labels.label(row, values["label"].strip(), values.get("further labels", ""))

    def _error(self, row: int, text: str) -> UserError:
        return UserError(f"{self.table.name}, row {row}: {text}")
