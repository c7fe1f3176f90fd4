"""Identity of a dataset in a folder: by the names of its shards, and by its rows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.data.dataset import dataset_digest
from pipeline.data.dataset_identity import DatasetIdentity
from pipeline.data.rows import LabeledRows, read_rows
from pipeline.data.shard_manifest import ShardManifest, open_shards

# Columns that do not count: where the audio was, and what follows from other columns.
_DERIVED = ("path", "split_group")


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
