"""Whether a dataset is the one that a run or a search began with, although its shards were written again.

The names of shards contain digests of the clips' paths, sizes and modification times. They differ once the
audio was downloaded again or moved, whatever it sounds like; then the rows themselves are compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.dataset import dataset_digest
from pipeline.data.rows import LabeledRows, read_rows
from pipeline.data.shard_manifest import ShardManifest, open_shards

# Columns that do not count: where the audio was, and what follows from other columns.
_DERIVED = ("path", "split_group")


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


def identify(shards: Path, rows: LabeledRows | None = None) -> DatasetIdentity:
    """Return the identity of the dataset in a folder; its rows are read when needed, unless given.

    Raises:
        UserError: an unusable dataset.
    """
    manifest = open_shards(shards)
    return DatasetIdentity(
        dataset_digest(manifest), lambda: rows_digest(manifest, (rows or read_rows(shards)).table)
    )


def rows_digest(manifest: ShardManifest, table: pd.DataFrame) -> str:
    """Return a digest of all that determines the rows of a dataset, except where and when it was made.

    Spectrograms count by the digest of the original that each row was made from, and by its augmentation.

    Args:
        manifest: manifest of the dataset.
        table: its rows, as in a `ShardDataset`.
    """
    settings = [manifest.fingerprint, manifest.augment.to_dict(), manifest.class_names]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(set(table.columns) - set(_DERIVED)):
        digest.update(name.encode())
        values = table[name].to_numpy()
        if values.dtype.kind in "iuf":
            digest.update(np.ascontiguousarray(values).data)
        else:
            digest.update("\0".join(map(str, values)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:24]


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
