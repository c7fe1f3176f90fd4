"""Copies of the footers of all shards of a dataset, in one file: an update reads it instead of each shard.

The file is only an optimization. A copy counts if the shard has the same name and size; the footers of other
shards, or all of them if the file is missing or damaged, are read from the shards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.config import ConfigError
from pipeline.data.shards import ClipWarning, Rejected, ShardInfo, ShardSummary
from pipeline.io.console import logger
from pipeline.io.files import write_atomically

# With an underscore: Parquet readers of the folder ignore it.
FOOTERS_NAME = "_footers.parquet"
_SCHEMA = pa.schema(
    {
        "name": pa.string(),
        "size": pa.int64(),
        "rows": pa.int64(),
        "clips": pa.int64(),
        "rejected": pa.string(),
        "warnings": pa.string(),
        "digests": pa.binary(),
    }
)


class FooterFile:
    """The file of a dataset's folder."""

    def __init__(self, folder: Path):
        self._path = folder / FOOTERS_NAME
        self._known: dict[str, tuple[int, ShardSummary]] = {}

    def read(self) -> Mapping[str, tuple[int, ShardSummary]]:
        """Return size in bytes and summary of each shard, by name; nothing if the file is not usable."""
        try:
            table = pq.read_table(
                pa.BufferReader(self._path.read_bytes()), schema=_SCHEMA, page_checksum_verification=True
            )
            self._known = {row["name"]: (row["size"], _summary(row)) for row in table.to_pylist()}
        except FileNotFoundError:
            self._known = {}
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, ConfigError) as error:
            logger.debug("%s is not usable: %s", self._path, error)
            self._known = {}
        return self._known

    def update(self, summaries: Sequence[ShardSummary], sizes: Callable[[], Mapping[str, int]]) -> None:
        """Write the summaries of all shards, unless all of them are those that were read.

        `sizes` returns the size of each shard in bytes.

        Raises:
            OSError: the file cannot be written.
        """
        unchanged = [self._known.get(summary.info.name, (0, None))[1] is summary for summary in summaries]
        if all(unchanged) and len(summaries) == len(self._known):
            return
        known_sizes = sizes()
        rows = [
            _row(summary, known_sizes[summary.info.name])
            for summary in summaries
            if summary.info.name in known_sizes
        ]
        table = pa.Table.from_pylist(rows, schema=_SCHEMA)
        write_atomically(
            self._path,
            lambda file: pq.write_table(table, file, compression="zstd", write_page_checksum=True),
        )


def _row(summary: ShardSummary, size: int) -> dict[str, Any]:
    return {
        "name": summary.info.name,
        "size": size,
        "rows": summary.info.rows,
        "clips": summary.info.clips,
        "rejected": json.dumps(summary.rejected),
        "warnings": json.dumps(summary.warnings),
        "digests": summary.digests,
    }


def _summary(row: dict[str, Any]) -> ShardSummary:
    rejected = [Rejected(*item) for item in json.loads(row["rejected"])]
    warnings = [ClipWarning(*item) for item in json.loads(row["warnings"])]
    info = ShardInfo(
        name=row["name"],
        rows=row["rows"],
        clips=row["clips"],
        rejected=len(rejected),
        warnings=len(warnings),
    )
    return ShardSummary(info, rejected, warnings, row["digests"])
