"""Rows of a dataset without their spectrograms: enough to split it, and read in a fraction of the time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.data.cache_fill import ROWS_NAME
from pipeline.data.dataset import dataset_digest
from pipeline.data.label_sets import label_sets, row_labels
from pipeline.data.row_cache import cache_folder
from pipeline.data.row_table import join_tables, read_tables
from pipeline.data.shard_manifest import ShardManifest, empty_dataset_error, open_shards
from pipeline.io.errors import UserError


class LabeledRows(Protocol):
    """What is needed of a dataset to split it: `Rows`, or a `ShardDataset`."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def table(self) -> pd.DataFrame:
        """The columns of each row, as in a `ShardDataset`."""

    @property
    def multi_label(self) -> bool:
        """Whether a row has any number of classes, rather than one."""

    @property
    def labels(self) -> np.ndarray:
        """Class index of each row `[shape=(N,)]`, int64; of several classes the rarest, C without any."""

    @property
    def targets(self) -> np.ndarray:
        """Which classes each row has, bool `[shape=(N, C)]`."""


@dataclass(frozen=True)
class Rows:
    """All N rows of a dataset, without spectrograms."""

    class_names: tuple[str, ...]
    table: pd.DataFrame
    """The columns of each row, as in a `ShardDataset`."""
    multi_label: bool = False

    @property
    def labels(self) -> np.ndarray:
        """Class index of each row `[shape=(N,)]`, int64; of several classes the rarest, C without any."""
        return row_labels(self.table, self.class_names, self.multi_label)

    @property
    def targets(self) -> np.ndarray:
        """Which classes each row has, bool `[shape=(N, C)]`."""
        return label_sets(self.table, self.class_names, self.multi_label)[:]


def read_rows(shards: Path) -> Rows:
    """Read the rows of a complete dataset, from its cache on this node if there is one.

    Raises:
        UserError: an unusable dataset, or a damaged shard.
    """
    manifest = open_shards(shards)
    if manifest.rows == 0:
        raise empty_dataset_error(shards, manifest)
    table = _read_cached(manifest)
    if table is None:
        table = join_tables(list(read_tables(shards, manifest)))
    return Rows(manifest.class_names, table, manifest.multi_label)


def _read_cached(manifest: ShardManifest) -> pd.DataFrame | None:
    """Return the table of the dataset's cache; None if there is no usable one."""
    try:
        table = pd.read_parquet(cache_folder() / dataset_digest(manifest) / ROWS_NAME)
    except (OSError, pa.ArrowException, UserError):
        return None
    return table if len(table) == manifest.rows else None
