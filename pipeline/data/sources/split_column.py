"""Which column of a table names the splits of its rows, by the values in it; or the folders of its files."""

from __future__ import annotations

from collections import Counter, defaultdict
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


def split_folder_depth(columns: Columns, rows: Iterable[Row]) -> int | None:
    """Return which folder of the paths of a table is their split, as for `folder_at`; None if none is.

    It is the first one that names both training and held-out splits. One split alone may be all that there
    is, or a class. Only of a table without a column of splits.
    """
    if columns.split is not None:
        return None
    parents = {_parent(row_value(values, columns.path)) for _, values in rows}
    folders: defaultdict[int, set[str]] = defaultdict(set)
    for parent in parents:
        for depth, folder in enumerate(parent.split("/")):
            folders[depth].add(folder)
    both: set[Split | None] = {"train", "held out"}
    return min((depth for depth, names in folders.items() if both <= set(map(split_of, names))), default=None)


def folder_at(path: str, depth: int) -> str:
    """Return a folder of a path as people write it; empty if it has no folder there.

    `depth` is 0 for the first folder, of an absolute path 1.
    """
    folders = _parent(path).split("/")
    return folders[depth] if depth < len(folders) else ""


def _parent(path: str) -> str:
    return path.strip().replace("\\", "/").removeprefix("./").rpartition("/")[0]


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
