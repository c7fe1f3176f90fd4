"""Records of the datasets that a run or a search began with, and whether a dataset is the recorded one.

The names of shards contain digests of the clips' paths, sizes and modification times. They differ once the
audio was downloaded again or moved, whatever it sounds like; then the rows themselves are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class DatasetIdentity:
    """Identity of a dataset: by its shards, or by its rows, which takes longer."""

    digest: str
    """Digest of the names of the shards."""
    read: Callable[[], str]
    """Returns the digest of the rows in their order."""

    @cached_property
    def rows_digest(self) -> str:
        """Digest of the rows in their order.

        Raises:
            UserError: a damaged shard.
        """
        return self.read()

    def is_recorded(self, record: Mapping[str, Any], index: int = 0) -> bool:
        """Return whether the dataset `index` of a run or a search is this one.

        Args:
            record: digests as `current_digests` returns them, and `rows_digests`, which records of older
                versions lack.
            index: 0 for --shards, 1 and more for --extra-shards.
        """
        digests = [record.get("shards_digest"), *record.get("extra_digests", ())]
        rows = record.get("rows_digests", ())
        return digests[index : index + 1] == [self.digest] or (
            index < len(rows) and rows[index] == self.rows_digest
        )


def current_digests(datasets: Sequence[DatasetIdentity]) -> dict[str, Any]:
    """Return the digests by which a run or a search records datasets; the first one is that of --shards."""
    first, *extra = (dataset.digest for dataset in datasets)
    return {"shards_digest": first, "extra_digests": extra}


def rows_digests(datasets: Sequence[DatasetIdentity]) -> list[str]:
    """Return the digests of the rows of datasets, which a run or a search records as `rows_digests`."""
    return [dataset.rows_digest for dataset in datasets]


def renewed_digests(recorded: dict[str, Any], datasets: Sequence[DatasetIdentity]) -> dict[str, Any]:
    """Return the recorded digests, with the current one of each dataset that is the recorded one."""
    digests = [recorded.get("shards_digest"), *recorded.get("extra_digests", ())]
    for index, dataset in enumerate(datasets[: len(digests)]):
        if dataset.is_recorded(recorded, index):
            digests[index] = dataset.digest
    return {"shards_digest": digests[0], "extra_digests": digests[1:]}
