"""Rows of a table that is one JSON object, in the forms that programs and datasets write."""

from __future__ import annotations

import itertools
from typing import Any

# Column of the keys of objects that are rows.
KEY_COLUMN = "id"


def rows_of_object(value: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the rows in an object; None if it is a row itself.

    - `{"data": [{…}, …]}`, also with other keys: the only list of objects (lists of AudioSet);
    - `{"a": {…}, "b": {…}}`: an object for each row, whose key is its `id` (NSynth);
    - `{"path": {"0": …, "1": …}, "label": {…}}` and `{"path": […], "label": […]}`: an object or a list for
      each column, as pandas writes tables.
    """
    lists = [rows for rows in value.values() if isinstance(rows, list) and rows and _all(rows, dict)]
    if len(lists) == 1:
        return lists[0]
    columns = list(value.values())
    if columns and _all(columns, dict):
        numbers = list(dict.fromkeys(itertools.chain.from_iterable(columns)))
        if all(map(str.isdecimal, numbers)):
            return [{name: column.get(number) for name, column in value.items()} for number in numbers]
        return [{KEY_COLUMN: key} | row for key, row in value.items()]
    if columns and _all(columns, list) and len(set(map(len, columns))) == 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    return None


def _all(values: list[Any], kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)
