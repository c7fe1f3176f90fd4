"""Which column of a table names the splits of its rows, by the values in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from pipeline.data.clips import shown
from pipeline.data.sources.row_values import MISSING_VALUES, Row, row_value
from pipeline.data.sources.split_names import split_of_flag
from pipeline.data.sources.split_values import (
    SplitValues,
    divides,
    may_be_split,
    read_flags,
    read_split_values,
)
from pipeline.data.sources.table_columns import Columns
from pipeline.io.errors import UserError
from pipeline.io.text import plural


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
        if position != found and flag == "held out" and read_flags(column, flag, values) is not None:
            raise UserError(
                f"{name}: columns {shown(header[found])} and {shown(column)} both mark held-out "
                "rows: write one column 'split' with train, val or test in each row"
            )
