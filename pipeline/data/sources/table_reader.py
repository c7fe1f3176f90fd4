"""Reads the rows of a table as clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pipeline.data.clips import CHUNK_ROWS, clip_record, normalize_id, shown, to_table
from pipeline.data.labels import check_no_object, is_list_text
from pipeline.data.sources.audio_location import AudioLocation
from pipeline.data.sources.file_finder import FileFinder, FoundFile, plain_path, without_file_scheme
from pipeline.data.sources.listed_files import ListedFiles
from pipeline.data.sources.row_values import (
    MISSING_VALUES,
    NO_VALUES,
    SEVERAL_CLASSES_FIX,
    Row,
    file_clip_id,
    is_list_value,
    listed_classes,
    parse_fold,
    row_chunks,
    row_value,
)
from pipeline.data.sources.split_folder import SplitFolder, split_folder
from pipeline.data.sources.split_values import shown_split
from pipeline.data.sources.table_columns import Columns
from pipeline.io.errors import UserError
from pipeline.io.text import plural


@dataclass
class TableReader:
    """Reads the rows of one table as manifest rows, and notes what is odd."""

    name: str
    """Flag and path, for error messages."""
    finder: FileFinder
    label_is_optional: bool = False
    location: AudioLocation | None = None
    """Where the files are, if not as the table writes their paths."""
    classes_fix: str = SEVERAL_CLASSES_FIX
    """What to do if a row has several classes, or a list of none."""
    held_out: Counter[str] = field(default_factory=Counter)
    """Number of rows by split, without those of the training split."""
    held_out_files: list[str] = field(default_factory=list)
    """Paths of the files in these rows, as the table writes them."""
    contradictions: Counter[int] = field(default_factory=Counter)
    """Number of rows of the training split that further columns name as held out, by column."""
    _split_folder: SplitFolder | None = None
    """Which folder of a path is its split; only files of the training split are read."""

    def __post_init__(self) -> None:
        self._listed = ListedFiles(self.name, self.finder)

    def find_split_folder(self, rows: Iterable[Row], columns: Columns) -> None:
        """Find which folder in the paths of a table is their split, unless a column names the splits.

        If none is, it is that of the location of the files.

        Raises:
            UserError: a name stands for several files.
        """
        self._split_folder = None if self.location is None else self.location.split_folder
        if columns.split is None:
            paths = (self.file_name(values, columns) for _, values in rows)
            self._split_folder = split_folder(paths) or self._split_folder

    def read(
        self, rows: Iterable[Row], columns: Columns, read_again: Callable[[], Iterable[Row]]
    ) -> pd.DataFrame:
        """Return the clips of the training split.

        `read_again` returns the rows another time: before objects in object stores are looked up, the
        objects in each folder are counted, unless the table is short.

        Raises:
            UserError: a value is missing or invalid, or a name stands for several files.
        """
        return to_table(self._records(rows, columns, read_again))

    def _records(
        self, rows: Iterable[Row], columns: Columns, read_again: Callable[[], Iterable[Row]]
    ) -> Iterator[tuple]:
        is_planned = False
        for number, chunk in enumerate(row_chunks(iter(rows))):
            names = list(filter(self.finder.is_remote, self._names(chunk, columns)))
            if names and not is_planned:
                is_short = number == 0 and len(chunk) < CHUNK_ROWS
                self.finder.plan(names if is_short else self._names(read_again(), columns))
                is_planned = True
            self.finder.prepare(names)
            for line, values in chunk:
                record = self.record(line, values, columns)
                if record is not None:
                    yield record

    def _names(self, rows: Iterable[Row], columns: Columns) -> Iterator[str]:
        """Yield the names of the files of the training split."""
        for _, values in rows:
            if columns.split is None or row_value(values, columns.split) not in columns.held_out:
                yield self.file_name(values, columns)

    def file_name(self, values: Sequence[str], columns: Columns) -> str:
        """Return the path of the file of a row."""
        path = without_file_scheme(row_value(values, columns.path, strip=False))
        if self.location is None:
            return path
        label, fold = row_value(values, columns.label), row_value(values, columns.fold)
        return self.location.file_name(path, label, fold)

    def record(self, line: int, values: Sequence[str], columns: Columns) -> tuple | None:
        """Return the manifest row of a table row; None if the row belongs to another split.

        Raises:
            UserError: a value is missing or invalid, or a name stands for several files.
        """
        if columns.split is not None and self._is_held_out(values, columns):
            return None
        if not row_value(values, columns.path):
            raise UserError(f"{self.name}, line {line}: path is empty")
        path = self.file_name(values, columns)
        if self._split_folder is not None and (folder := self._split_folder.held_out(path)):
            self.held_out[folder] += 1
            self.held_out_files.append(path)
            return None
        for column, held_out in columns.other_splits:
            self.contradictions[column] += row_value(values, column) in held_out
        label = row_value(values, columns.label)
        if columns.label is not None and not self.label_is_optional:
            label = self._one_class(line, label, values, columns)
        fold = self._fold(line, row_value(values, columns.fold))
        file = self._find(line, path)
        clip_id = row_value(values, columns.clip_id) or file_clip_id(file.name)
        group = row_value(values, columns.group)
        group = "" if group.lower() in MISSING_VALUES else group
        return clip_record(clip_id, file.path, label, file.status, fold, group)

    def _one_class(self, line: int, label: str, values: Sequence[str], columns: Columns) -> str:
        """Return the class of a row, which may be the only one in a list.

        Raises:
            UserError: there is none, or several.
        """
        is_list = columns.label_is_list or is_list_text(label) or is_list_value(values, columns.label)
        try:
            check_no_object(label)
            names = listed_classes(values, columns.label) if is_list else [label]
        except ValueError as error:
            raise UserError(f"{self.name}, line {line}: {error}") from None
        if len(names) > 1 and columns.label_is_list:
            raise UserError(
                f"{self.name}: column {shown(columns.label_name)} may have several classes in a row: "
                f"{self.classes_fix}; line {line} has {shown(label)}"
            )
        if len(names) > 1:
            raise UserError(
                f"{self.name}, line {line}: has several classes ({shown(label)}): {self.classes_fix}"
            )
        if not names or names[0].lower() in NO_VALUES:
            fix = self.classes_fix if is_list else "write a class, or remove the row"
            raise UserError(f"{self.name}, line {line}: label is empty: {fix}")
        return names[0]

    def _is_held_out(self, values: Sequence[str], columns: Columns) -> bool:
        split = row_value(values, columns.split)
        if split not in columns.held_out:
            return False
        self.held_out[split] += 1
        with suppress(UserError):  # a name of several files, which does not matter in a row that is not read
            self.held_out_files.append(self.file_name(values, columns))
        return True

    def _fold(self, line: int, text: str) -> int:
        try:
            return parse_fold(text)
        except ValueError as error:
            raise UserError(f"{self.name}, line {line}: {error}") from None

    def _find(self, line: int, path: str) -> FoundFile:
        return self._listed.find(line, path)

    def _check_one_split(self, clip_ids: pd.Series) -> None:
        """Check that no file with rows of the training split has rows of other splits.

        Its events in these would be missing, and their windows be background; a clip would be on both sides.
        """
        held_out = {normalize_id(file_clip_id(plain_path(name))) for name in self.held_out_files}
        both = clip_ids[clip_ids.isin(held_out)].unique()
        if len(both):
            raise UserError(
                f"{self.name}: {plural(len(both), 'file')} with rows of the training split and of others, "
                f"e.g. {shown(both[0])}; all rows of a file need the same split"
            )

    def check_files(self, path: Path, clips: pd.DataFrame) -> list[str]:
        """Return warnings about rows that were left out and about missing files.

        Raises:
            UserError: none of the files exists, no row belongs to the training split, rows of a file belong
                to several splits, or one file is listed in upper and in lower case.
        """
        warnings = []
        self._check_one_split(clips["clip_id"])
        if self.held_out:
            counts = ", ".join(
                f"{shown_split(split)}: {count}" for split, count in sorted(self.held_out.items())
            )
            if not len(self._listed):
                raise UserError(
                    f"{self.name}: no row belongs to the training split ({counts}); "
                    "remove the column that names the split, or write 'train' in it"
                )
            warnings.append(f"ignoring {plural(self.held_out.total(), 'row')} of other splits ({counts})")
        return warnings + self._listed.check(path, clips["path"])
