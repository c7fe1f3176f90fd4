"""Table of a dataset's rows: its columns in the shards, and those that separate duplicates in a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.data.duplicates import duplicate_sets, merge_groups, read_digests
from pipeline.data.shard_manifest import ShardManifest
from pipeline.data.shards import WINDOW_COLUMNS, ShardInfo, read_shard, shard_digests
from pipeline.io.concurrent import map_concurrently
from pipeline.io.errors import UserError

COLUMNS = ["clip_id", "path", "label", "fold", "group", "copy", "strength", "augmentation"]


def read_complete_shard(path: Path, rows: int, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a shard of `rows` rows, or some of its columns.

    Raises:
        UserError: the shard is missing or damaged, or has another number of rows.
    """
    table = read_shard(path, columns)
    if table.num_rows != rows:
        raise UserError(
            f"shard {path} has {table.num_rows} rows instead of {rows}: delete it and rerun `melray extract`"
        )
    return table


def read_tables(shards: Path, manifest: ShardManifest) -> Iterator[pa.Table]:
    """Yield the columns `COLUMNS` of each shard of a dataset, and `WINDOW_COLUMNS` of windows, concurrently.

    Raises:
        UserError: a missing or damaged shard.
    """

    columns = [*COLUMNS, *(WINDOW_COLUMNS if manifest.hop is not None else ())]

    def read(shard: ShardInfo) -> pa.Table:
        return read_complete_shard(shards / shard.name, shard.rows, columns)

    return map_concurrently(read, manifest.shards)


def join_tables(tables: Sequence[pa.Table]) -> pd.DataFrame:
    """Return the columns of all shards of a dataset without spectrograms, and those of `add_split_columns`.

    Raises:
        UserError: a damaged footer.
    """
    names = [name for name in (*COLUMNS, *WINDOW_COLUMNS) if name in tables[0].column_names]
    rows = pd.concat([table.select(names).to_pandas() for table in tables], ignore_index=True)
    add_split_columns(rows, read_digests(b"".join(map(shard_digests, tables))))
    return rows


def add_split_columns(rows: pd.DataFrame, digests: np.ndarray) -> None:
    """Add the columns `content` and `split_group` from the digest of each clip, uint64 `[shape=(clips,)]`."""
    is_original = rows["copy"].to_numpy() == 0
    clip_index = np.cumsum(is_original) - 1  # an original is followed by its augmented copies
    groups = merge_groups(rows["group"].to_numpy()[is_original], duplicate_sets(digests))
    rows["content"] = digests[clip_index]
    rows["split_group"] = groups[clip_index]
