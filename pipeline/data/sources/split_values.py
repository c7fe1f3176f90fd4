"""How the values of a column of splits are read: names, or true and false."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipeline.data.clips import shown
from pipeline.data.sources.row_values import MISSING_VALUES
from pipeline.data.sources.split_names import (
    Split,
    is_competition_split,
    is_development,
    split_of_flag,
    split_of_value,
    splits_of_values,
    truth_of,
)
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


def may_be_split(value: str) -> bool:
    """Return whether a value may be in a column of splits."""
    return value.lower() in MISSING_VALUES or split_of_value(value) is not None or is_competition_split(value)


def divides(column: str, counts: Iterable[str]) -> bool:
    """Return whether values that all may be splits are those of a column of splits, whatever its name is."""
    splits = splits_of_values(column, counts)
    is_usage = any(split is not None and split_of_value(value) is None for value, split in splits.items())
    return {"train", "held out"} <= set(splits.values()) or is_usage


def read_flags(column: str, flag: Split, counts: Mapping[str, int]) -> SplitValues | None:
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
        return read_flags(column, flag, counts)
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


def _has_both_splits(counts: Iterable[str]) -> bool:
    return {"train", "held out"} <= set(map(split_of_value, counts))


def _counted(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    texts = [f"{shown_split(value)}: {count}" for value, count in ordered[:_SHOWN_VALUES]]
    others = f" and {len(ordered) - _SHOWN_VALUES} more" if len(ordered) > _SHOWN_VALUES else ""
    return ", ".join(texts) + others


def shown_split(value: str) -> str:
    """Return a value of a column of splits for a message."""
    return shown(value) if value else "no value"
