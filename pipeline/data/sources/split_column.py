"""Which column of a table names the splits of its rows, by the values in it; or the folders of its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pipeline.data.clips import shown
from pipeline.data.sources.row_values import NO_VALUES, Row, row_value
from pipeline.data.sources.split_names import Split, split_of, split_of_value
from pipeline.data.sources.table_columns import Columns
from pipeline.io.errors import UserError

# Values that a message lists.
_SHOWN_VALUES = 5


def with_split_column(name: str, header: Sequence[str], columns: Columns, rows: Iterable[Row]) -> Columns:
    """Return the columns of a table with that of the splits, if one of the candidates is it.

    Args:
        name: flag and path of the table, for messages.
        header: names of its columns.
        columns: columns that are used.
        rows: all of its rows, which are only read if there are candidates.

    Raises:
        UserError: as `is_split_column`.
    """
    counts: dict[int, Counter[str]] = {position: Counter() for position in columns.split_candidates}
    for _, values in rows if counts else ():
        for position, counter in counts.items():
            counter[row_value(values, position)] += 1
    return replace(columns, split=first_split_column(name, header, counts))


def folders_are_splits(columns: Columns, rows: Iterable[Row]) -> bool:
    """Return whether the first folders of the paths of a table name both training and held-out splits.

    Only of a table without a column of splits. One split alone may be all that there is, or a class.
    """
    if columns.split is not None:
        return False
    folders: set[str] = set()
    found: set[Split] = set()
    for _, values in rows:
        folder = first_folder(row_value(values, columns.path))
        if folder not in folders:
            folders.add(folder)
            found |= {split for split in (split_of(folder),) if split is not None}
            if len(found) == 2:
                return True
    return False


def first_folder(path: str) -> str:
    """Return the first folder of a relative path as people write it; empty without any."""
    folder, slash, _ = path.strip().replace("\\", "/").removeprefix("./").partition("/")
    return folder if slash else ""


def first_split_column(
    name: str, header: Sequence[str], counts: Mapping[int, Mapping[str, int]]
) -> int | None:
    """Return the first of some columns that names splits, by the numbers of their values; None without any.

    Raises:
        UserError: as `is_split_column`.
    """
    return next(
        (position for position, values in counts.items() if is_split_column(name, header[position], values)),
        None,
    )


def is_split_column(name: str, column: str, counts: Mapping[str, int]) -> bool:
    """Return whether a column names splits: whether any of its values does.

    Args:
        name: flag and path of the table, for messages.
        column: name of the column.
        counts: number of rows of each value.

    Raises:
        UserError: other values of the column do not, whose rows would be trained on whatever they are; or
            none does of a column that is named `split`.
    """
    splits = {value: count for value, count in counts.items() if split_of_value(value) is not None}
    others = {value: count for value, count in counts.items() if value not in splits}
    if splits and others:
        raise UserError(
            f"{name}: column {shown(column)} names splits ({_counted(splits)}), but not in all rows "
            f"({_counted(others)}): write train, val or test there, or rename the column if it means "
            "something else"
        )
    if column.strip().lower() == "split" and any(value.lower() not in NO_VALUES for value in others):
        raise UserError(
            f"{name}: column {shown(column)} has values ({_counted(others)}), none of which is train, val or "
            "test: write these in it, or rename the column if it means something else"
        )
    return bool(splits)


def _counted(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    texts = [f"{shown(value) if value else 'no value'}: {count}" for value, count in ordered[:_SHOWN_VALUES]]
    others = f" and {len(ordered) - _SHOWN_VALUES} more" if len(ordered) > _SHOWN_VALUES else ""
    return ", ".join(texts) + others
