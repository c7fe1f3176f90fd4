"""Digests of work units: of all that determines an output, in its name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.io.store_connections import SCHEMES

CHARACTERS = 12
# A URI and its options, as `RemotePath` reads them.
_URI_OPTIONS = rf"(?s)^((?:{'|'.join(SCHEMES)})://.*)\?(?:[A-Za-z_]+=[^?&]*(?:&[A-Za-z_]+=[^?&]*)*)?$"


def to_arrow(clips: pd.DataFrame) -> pa.Table:
    """Convert a manifest; texts become `large_string`, whatever pandas stores them as."""
    table = pa.Table.from_pandas(clips, preserve_index=False).replace_schema_metadata(None).combine_chunks()
    fields = [
        pa.field(field.name, pa.large_string() if pa.types.is_string(field.type) else field.type)
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def unit_digests(table: pa.Table, clips_per_unit: int, settings: Any) -> list[str]:
    """Return a digest of settings and clips for each unit: 12 hexadecimal digits.

    It depends on the values only, not on versions of libraries. Options of URIs do not count: the same object
    may be reached at another address.
    """
    common = hashlib.sha256(_json([settings, table.column_names]))
    digests = []
    for batch in _batches(_without_uri_options(table), clips_per_unit):
        unit = common.copy()
        for column in batch.columns:
            for data in _column_bytes(column):
                unit.update(data)
        digests.append(unit.hexdigest()[:CHARACTERS])
    return digests


def digest(values: Any) -> str:
    """Return a digest of values that JSON can express: 12 hexadecimal digits."""
    return hashlib.sha256(_json(values)).hexdigest()[:CHARACTERS]


def _json(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True).encode()


def _batches(table: pa.Table, clips_per_unit: int) -> list[pa.RecordBatch]:
    """Return the clips of each unit, without copying them."""
    return table.combine_chunks().to_batches(max_chunksize=clips_per_unit)


def _without_uri_options(table: pa.Table) -> pa.Table:
    if "path" not in table.column_names:
        return table
    paths = table["path"]
    if not pc.any(pc.match_substring(paths, "?")).as_py():
        return table
    plain = pc.replace_substring_regex(paths, _URI_OPTIONS, r"\1")
    return table.set_column(table.column_names.index("path"), "path", plain)


def _column_bytes(column: pa.Array) -> Iterator[Any]:
    """Yield buffers that determine the values of a column."""
    if column.null_count:
        yield np.packbits(column.is_null().to_numpy(zero_copy_only=False))
    if not pa.types.is_large_string(column.type):
        yield np.ascontiguousarray(column.to_numpy(zero_copy_only=False))
        return
    _, offsets_buffer, data = column.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[column.offset : column.offset + len(column) + 1]
    yield np.diff(offsets)
    if data is not None:
        yield memoryview(data)[offsets[0] : offsets[-1]]
