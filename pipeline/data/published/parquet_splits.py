"""Which column of Parquet files with audio in them names the splits of their rows, by all of its values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.data.sources.split_column import (
    contradiction_warning,
    first_split_column,
    other_split_columns,
)
from pipeline.data.sources.split_values import divides, may_be_split


@dataclass(frozen=True)
class SplitDecision:
    """Which rows are left out."""

    column: str
    """Name of the column of the splits."""
    held_out: frozenset[str]
    """Its values in rows of other splits than the training split."""
    warnings: tuple[str, ...] = ()


@dataclass
class SplitCounts:
    """Values of the columns that may name splits, in some rows."""

    rows: Counter[tuple[tuple[str, str], ...]] = field(default_factory=Counter)
    """Number of rows by names and values of the columns that may name splits by their names."""
    others: dict[str, Counter[str] | None] = field(default_factory=dict)
    """Number of rows of each value of further columns; None: the column has values that are no splits."""

    def add(self, candidates: dict[str, list[str]], others: dict[str, list[str]]) -> None:
        """Count rows, given as the values of each column."""
        names = list(candidates)
        if names:
            values = zip(*candidates.values(), strict=True)
            self.rows.update(tuple(zip(names, row, strict=True)) for row in values)
        for name, texts in others.items():
            self._add_other(name, Counter(texts) if all(map(may_be_split, set(texts))) else None)

    def merge(self, more: SplitCounts) -> None:
        """Add the counts of more rows."""
        self.rows.update(more.rows)
        for name, counts in more.others.items():
            self._add_other(name, counts)

    def _add_other(self, name: str, counts: Counter[str] | None) -> None:
        known = self.others.setdefault(name, Counter())
        self.others[name] = None if known is None or counts is None else known + counts

    @property
    def is_open(self) -> bool:
        """Whether further rows decide if a column names splits, whose name does not say so."""
        return any(values is not None for values in self.others.values())

    def values_of(self, column: str) -> set[str]:
        """Return the values of a column."""
        return set(self._candidates().get(column) or self.others.get(column) or ())

    def _candidates(self) -> dict[str, Counter[str]]:
        counts: dict[str, Counter[str]] = {}
        for row, count in self.rows.items():
            for name, value in row:
                counts.setdefault(name, Counter())[value] += count
        return counts

    def decide(self, name: str, is_complete: bool) -> SplitDecision | None:
        """Return which column names the splits, as `with_split_column`; None without one.

        Args:
            name: flag and path of the files, for messages.
            is_complete: whether these are all rows; of some, only columns named so are considered.

        Raises:
            UserError: as `read_split_values`.
        """
        candidates = self._candidates()
        header, counts = list(candidates), dict(enumerate(candidates.values()))
        if (found := first_split_column(name, header, counts, is_complete)) is not None:
            position, read = found
            del counts[position]
            others = other_split_columns(name, header, counts)
            named = [(header[other], held_out) for other, held_out in others]
            contradictions = self._contradictions(header[position], read.held_out, named)
            return SplitDecision(header[position], read.held_out, (*read.notes, *contradictions))
        divided = {
            column: values for column, values in self.others.items() if values and divides(column, values)
        }
        header, counts = list(divided), dict(enumerate(divided.values()))
        if not is_complete or (found := first_split_column(name, header, counts)) is None:
            return None
        return SplitDecision(header[found[0]], found[1].held_out, found[1].notes)

    def _contradictions(
        self, column: str, held_out: frozenset[str], others: Iterable[tuple[str, frozenset[str]]]
    ) -> list[str]:
        """Return warnings about rows that the column of splits has in the training split, and another not."""
        warnings = []
        for other, values in others:
            count = sum(
                count
                for row, count in self.rows.items()
                if dict(row).get(column, "") not in held_out and dict(row).get(other) in values
            )
            warnings += [contradiction_warning(column, other, count)] if count else []
        return warnings
