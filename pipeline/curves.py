"""What the reports of all trainings say of their epochs: lines over them, the one that was kept, and the time they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.charts import Series
from pipeline.progress import duration

History = Sequence[Mapping[str, Any]]


def lines(history: History, **names: str) -> list[Series]:
    """For each key of an epoch's entry a line with this name, over the epochs that have a value of it; none without values."""
    found = []
    for key, name in names.items():
        points = [(entry["epoch"], entry[key]) for entry in history if entry.get(key) is not None]
        if points:
            found.append(Series(name, [epoch for epoch, _ in points], [value for _, value in points]))
    return found


def best_epoch(history: History) -> int | None:
    """The epoch whose weights were kept: the last that was the best so far."""
    return max((entry["epoch"] for entry in history if entry.get("best")), default=None)


def epochs_in_words(history: History) -> str:
    """`12 epochs in 3 min 20 s`."""
    taken = duration(sum(entry.get("seconds") or 0.0 for entry in history))
    return f"{len(history)} epoch{'' if len(history) == 1 else 's'} in {taken}"
