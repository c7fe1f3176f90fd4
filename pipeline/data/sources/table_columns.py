"""Columns of a table of clips: which ones are used, by the names that people give them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.audio.file_types import EXTENSIONS, UNSUPPORTED_EXTENSIONS, ending
from pipeline.data.clips import shown
from pipeline.data.sources.file_finder import FileFinder
from pipeline.io.console import logger
from pipeline.io.csv_files import CsvFile
from pipeline.io.errors import UserError

# Names of columns in lower case, with `_` for blanks; the first one that a table has is used.
PATH_COLUMNS = (
    "path filepath file_path filename file_name fname file audio audio_path audio_file slice_file_name "
    "clip clip_name clip_id recording_id id"
).split()
LABEL_COLUMNS = "label primary_label class category class_name label_name target".split()
ID_COLUMNS = ("clip_id", "id")
SPLIT_COLUMNS = ("split", "subset", "set", "partition")


@dataclass(frozen=True)
class Columns:
    """Positions of the columns that are used; None for a missing one."""

    path: int
    label: int | None = None
    fold: int | None = None
    group: int | None = None
    clip_id: int | None = None
    split: int | None = None
    split_is_strict: bool = False
    """Whether all values of `split` must be names of splits."""


def labeled_columns(table: CsvFile) -> Columns:
    names = _column_names(table)
    path, label = _first(names, PATH_COLUMNS), _first(names, LABEL_COLUMNS)
    if path is None or label is None:
        missing = "path" if path is None else "label"
        raise UserError(
            f"{table.name}: no column '{missing}'; the first line must be path,label[,fold][,group], "
            f"not {shown(','.join(table.header))}"
        )
    split = _first(names, SPLIT_COLUMNS)
    columns = Columns(
        path,
        label,
        _first(names, ("fold",)),
        _first(names, ("group",)),
        split=split,
        split_is_strict=split is not None and names[split] == "split",
    )
    _log_columns(table, names, columns)
    return columns


def _log_columns(table: CsvFile, names: Sequence[str], columns: Columns) -> None:
    """Log which columns are used, unless the table has exactly those that are documented."""
    used = {getattr(columns, role): role for role in ("path", "label", "fold", "group", "split")}
    ignored = [name for position, name in enumerate(table.header) if name and position not in used]
    renamed = [
        f"{name} as {used[position]}"
        for position, name in enumerate(table.header)
        if position in (columns.path, columns.label)
    ]
    if ignored or {"path", "label"} - set(names):
        note = f"; ignored: {', '.join(map(shown, ignored[:12]))}" if ignored else ""
        logger.info("%s: columns %s%s", table.name, ", ".join(renamed), note)


def unlabeled_columns(table: CsvFile, finder: FileFinder) -> tuple[Columns, bool]:
    """Return the columns, and whether the first line is a header and not a clip."""
    names = _column_names(table)
    path = _first(names, PATH_COLUMNS)
    if path is not None:
        clip_id = _first(names, ID_COLUMNS)
        return Columns(path, clip_id=None if clip_id == path else clip_id), True
    for column, value in enumerate(table.header):
        if value and (ending(value) in EXTENSIONS | UNSUPPORTED_EXTENSIONS or finder.exists(value)):
            return Columns(column), False
    if len(names) == 1:
        return Columns(0), True
    raise UserError(
        f"{table.name}: no column 'path'; the first line must be path or id,path, "
        f"not {shown(','.join(table.header))}"
    )


def _column_names(table: CsvFile) -> list[str]:
    """Return the names of the columns in lower case, with `_` for blanks.

    Raises:
        UserError: two columns that are used have the same name.
    """
    names = ["_".join(name.lower().split()) for name in table.header]
    used = {*PATH_COLUMNS, *LABEL_COLUMNS, *SPLIT_COLUMNS, "fold", "group"}
    twice = [name for name, count in Counter(names).items() if count > 1 and name in used]
    if twice:
        raise UserError(f"{table.name}: two columns are named '{twice[0]}'; rename or remove one")
    return names


def _first(names: Sequence[str], accepted: Sequence[str]) -> int | None:
    """Return the position of the first accepted name that is there."""
    return next((names.index(name) for name in accepted if name in names), None)
