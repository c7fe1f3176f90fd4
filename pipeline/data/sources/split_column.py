"""Which column of a table names the splits of its rows, by the values in it; or the folders of its files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from pipeline.data.clips import shown
from pipeline.data.sources.row_values import MISSING_VALUES, Row, row_value
from pipeline.data.sources.split_names import (
    Split,
    is_competition_split,
    is_development,
    split_of,
    split_of_flag,
    split_of_value,
    splits_of_values,
    truth_of,
)
from pipeline.data.sources.table_columns import Columns
from pipeline.io.errors import UserError
from pipeline.io.text import plural

# Values that a message lists.
_SHOWN_VALUES = 5


class SplitValues(NamedTuple):
    """How the values of a column of splits are read."""

    held_out: frozenset[str]
    """Values of rows that are not of the training split."""
    notes: tuple[str, ...] = ()
    """Warnings about rows that are of the training split only because no other row is."""


class SplitFolder(NamedTuple):
    """A folder in the paths of files that names their split."""

    depth: int
    """Which one it is, as for `folder_at`."""
    names: frozenset[str] | None = None
    """Names of it in paths of other splits than the training split; None: those that `split_of` knows."""

    def held_out(self, path: str) -> str:
        """Return the folder that a path of another split is in; empty for the training split."""
        folder = folder_at(path, self.depth)
        is_held_out = split_of(folder) == "held out" if self.names is None else folder in self.names
        return folder if is_held_out else ""


def with_split_column(name: str, header: Sequence[str], columns: Columns, rows: Iterable[Row]) -> Columns:
    """Return the columns of a table with that of the splits, if it has one.

    It is the first of the candidates that names splits, or else the first column that nothing else uses and
    in which every value is a training or a held-out split, and both occur.

    Args:
        name: flag and path of the table, for messages.
        header: names of its columns.
        columns: columns that are used.
        rows: all of its rows, which are only read as long as a column may be that of the splits.

    Raises:
        UserError: as `read_split_values`.
    """
    unused = set(range(len(header))) - columns.used - set(columns.split_candidates)
    counts = _count_values(rows, columns.split_candidates, sorted(unused))
    found = first_split_column(
        name, header, {position: counts[position] for position in columns.split_candidates}
    )
    if found is None:
        both = {
            position: counts[position]
            for position in sorted(unused)
            if divides(header[position], counts[position])
        }
        found = first_split_column(name, header, both)
    if found is None:
        return columns
    position, read = found
    others = other_split_columns(
        name, header, {other: counts[other] for other in columns.split_candidates if other != position}
    )
    return replace(
        columns, split=position, held_out=read.held_out, split_notes=read.notes, other_splits=others
    )


def other_split_columns(
    name: str, header: Sequence[str], counts: Mapping[int, Mapping[str, int]]
) -> tuple[tuple[int, frozenset[str]], ...]:
    """Return those of some columns that name splits, with their values of held-out rows."""
    found = []
    for position, values in counts.items():
        with suppress(UserError):  # it may mean something else
            if (read := read_split_values(name, header[position], values)) is not None:
                stated = (value for value in read.held_out if value.lower() not in MISSING_VALUES)
                found.append((position, frozenset(stated)))
    return tuple(found)


def contradiction_warnings(header: Sequence[str], columns: Columns, counts: Mapping[int, int]) -> list[str]:
    """Return warnings about rows that the column of splits has in the training split, and another one not.

    `counts` are the numbers of such rows, by the position of the other column.
    """
    if columns.split is None:
        return []
    return [
        contradiction_warning(header[columns.split], header[position], count)
        for position, count in counts.items()
        if count
    ]


def contradiction_warning(followed: str, other: str, count: int) -> str:
    """Return a warning about rows of the training split by one column that another one has held out."""
    return (
        f"columns {shown(followed)} and {shown(other)} contradict each other: {plural(count, 'row')} of the "
        "training split by the first, held out by the second; the first is followed: correct or remove one"
    )


def _count_values(
    rows: Iterable[Row], candidates: Iterable[int], others: Iterable[int]
) -> defaultdict[int, Counter[str]]:
    """Return the number of rows of each value of some columns; of `others` if all of them are splits."""
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    counted, watched = list(candidates), list(others)
    for _, values in rows:
        for position in counted:
            counts[position][row_value(values, position)] += 1
        for position in list(watched):
            value, known = row_value(values, position), counts[position]
            if value in known or may_be_split(value):
                known[value] += 1
            else:
                watched.remove(position)
                del counts[position]
        if not (counted or watched):
            break
    return counts


def may_be_split(value: str) -> bool:
    """Return whether a value may be in a column of splits."""
    return value.lower() in MISSING_VALUES or split_of_value(value) is not None or is_competition_split(value)


def divides(column: str, counts: Iterable[str]) -> bool:
    """Return whether values that all may be splits are those of a column of splits, whatever its name is."""
    splits = splits_of_values(column, counts)
    is_usage = any(split is not None and split_of_value(value) is None for value, split in splits.items())
    return {"train", "held out"} <= set(splits.values()) or is_usage


def _has_both_splits(counts: Iterable[str]) -> bool:
    return {"train", "held out"} <= set(map(split_of_value, counts))


def split_folder(paths: Iterable[str]) -> SplitFolder | None:
    """Return which folder in some paths is their split; None if none is.

    It is the first one that names both training and held-out splits. One split alone may be all that there
    is, or a class.
    """
    parents = set(map(_parent, paths))
    folders: defaultdict[int, set[str]] = defaultdict(set)
    for parent in parents:
        for depth, folder in enumerate(parent.split("/")):
            folders[depth].add(folder)
    for depth in sorted(folders):
        if held_out := _held_out_folders(folders[depth]):
            return SplitFolder(depth, held_out)
    return None


def _held_out_folders(names: Iterable[str]) -> frozenset[str]:
    """Return those of some folders that are held out, if others of them are a training split."""
    kinds = {name: "development" if is_development(name) else split_of(name) for name in names}
    if "train" in kinds.values():
        return frozenset(name for name, kind in kinds.items() if kind in ("held out", "development"))
    if "development" in kinds.values():
        return frozenset(name for name, kind in kinds.items() if kind == "held out")
    return frozenset()


def folder_at(path: str, depth: int) -> str:
    """Return a folder of a path as people write it; empty if it has no folder there.

    `depth` is 0 for the first folder, of an absolute path 1.
    """
    folders = _parent(path).split("/")
    return folders[depth] if depth < len(folders) else ""


def _parent(path: str) -> str:
    return path.strip().replace("\\", "/").removeprefix("./").rpartition("/")[0]


def first_split_column(
    name: str, header: Sequence[str], counts: Mapping[int, Mapping[str, int]], is_complete: bool = True
) -> tuple[int, SplitValues] | None:
    """Return the first of some columns that names splits, by the numbers of their values; None without any.

    `is_complete` is as for `read_split_values`.

    Raises:
        UserError: as `read_split_values`, or several columns mark held-out rows and none the training rows.
    """
    for position, values in counts.items():
        if (read := read_split_values(name, header[position], values, is_complete)) is not None:
            _check_only_flag(name, header, counts, position)
            return position, read
    return None


def _check_only_flag(
    name: str, header: Sequence[str], counts: Mapping[int, Mapping[str, int]], found: int
) -> None:
    """Raise `UserError` if a column marks held-out rows, and another one further ones."""
    if split_of_flag(header[found]) != "held out":
        return
    for position, values in counts.items():
        column = header[position]
        flag = split_of_flag(column)
        if position != found and flag == "held out" and _read_flags(column, flag, values) is not None:
            raise UserError(
                f"{name}: columns {shown(header[found])} and {shown(column)} both mark held-out "
                "rows: write one column 'split' with train, val or test in each row"
            )


def _read_flags(column: str, flag: Split, counts: Mapping[str, int]) -> SplitValues | None:
    """Return which values of a column of true and false are held out; None if none is, or it has others.

    Args:
        column: name of the column.
        flag: split whose rows are marked as true; rows without a value are not marked.
        counts: number of rows of each value.
    """
    marked = {value: truth_of(value) for value in counts if value.lower() not in MISSING_VALUES}
    is_marked = flag == "held out"
    held_out = {value: count for value, count in counts.items() if bool(marked.get(value)) is is_marked}
    if not marked or None in marked.values() or not held_out:
        return None
    note = f"column {shown(column)}: {plural(sum(held_out.values()), 'row')} ({_counted(held_out)}) held out"
    return SplitValues(frozenset(held_out), (note,))


def read_split_values(
    name: str, column: str, counts: Mapping[str, int], is_complete: bool = True
) -> SplitValues | None:
    """Return how the values of a column that names splits are read; None if none of them is a split.

    If no value is that of a training split, it is the development set (DCASE), or else the rows without a
    value, of a column in which only the others are named. Next to a training split both are held out.

    A column named like `is_test` marks the rows of that split by true and false.

    Args:
        name: flag and path of the table, for messages.
        column: name of the column.
        counts: number of rows of each value.
        is_complete: whether these are all rows; others may be named as a training split.

    Raises:
        UserError: other values of the column are no splits, whose rows would be trained on whatever they are;
            or none is, of a column that is named `split`; or the training split may be the development set or
            the rows without a value.
    """
    flag = split_of_flag(column)
    if flag is not None and not _has_both_splits(counts):
        return _read_flags(column, flag, counts)
    kinds = splits_of_values(column, counts)
    splits = {value: count for value, count in counts.items() if kinds[value] is not None}
    others = {value: count for value, count in counts.items() if value not in splits}
    missing = {value: count for value, count in others.items() if value.lower() in MISSING_VALUES}
    development = {value: count for value, count in splits.items() if is_development(value)}
    is_named = "train" in kinds.values()
    is_unclear = is_complete and not is_named and development and missing
    if splits and (len(others) > len(missing) or is_unclear):
        raise UserError(
            f"{name}: column {shown(column)} names splits ({_counted(splits)}), but not in all rows "
            f"({_counted(others)}): write train, val or test there, or rename the column if it means "
            "something else"
        )
    if column.strip().lower() == "split" and len(others) > len(missing):
        raise UserError(
            f"{name}: column {shown(column)} has values ({_counted(others)}), none of which is train, val or "
            "test: write these in it, or rename the column if it means something else"
        )
    if not splits:
        return None
    held_out = frozenset(value for value, kind in kinds.items() if kind != "train")
    training = {} if is_named else development or missing
    if not training:
        return SplitValues(held_out)
    note = (
        f"column {shown(column)}: {plural(sum(training.values()), 'row')} ({_counted(training)}) are read as "
        "the training split, as no value is train"
    )
    return SplitValues(held_out - training.keys(), (note,))


def _counted(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    texts = [f"{shown_split(value)}: {count}" for value, count in ordered[:_SHOWN_VALUES]]
    others = f" and {len(ordered) - _SHOWN_VALUES} more" if len(ordered) > _SHOWN_VALUES else ""
    return ", ".join(texts) + others


def shown_split(value: str) -> str:
    """Return a value of a column of splits for a message."""
    return shown(value) if value else "no value"
