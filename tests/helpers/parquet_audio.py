"""Parquet files with audio in them, in the form that Hugging Face `datasets` writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.helpers.audio_formats import encode
from tests.helpers.sounds import tone

CLASS_NAMES = ("dog", "rain")
AUDIO_TYPE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
LABELS = {"names": list(CLASS_NAMES), "_type": "ClassLabel"}


def clip(number: int, seconds: float = 0.1) -> bytes:
    """Return a WAV file; different for each number."""
    return encode(tone(300 + 50 * number, seconds, seed=number))


def labeled_rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Return rows of alternating classes, whose audio files are named `<number>.wav`."""
    return [
        {"audio": {"bytes": clip(number), "path": f"{number}.wav"}, "label": number % 2}
        for number in range(first, first + count)
    ]


def write_parquet(
    file: Path,
    rows: Sequence[dict[str, Any]],
    features: dict[str, Any] | None = None,
    row_group_size: int = 4,
    types: dict[str, pa.DataType] | None = None,
    **options: Any,
) -> Path:
    """Write a Parquet file; return its path.

    Args:
        file: the path.
        rows: values by column.
        features: what the schema states of columns; None: the column `audio` is audio, and a column `label`
            of numbers has the classes `CLASS_NAMES`. Empty: nothing, as other programs than `datasets` do.
        row_group_size: rows of a row group.
        types: types of columns, where these do not follow from the values.
        options: other arguments of `pyarrow.parquet.write_table`.
    """
    kinds: dict[str, pa.DataType] = {"audio": AUDIO_TYPE} | (types or {})
    table = pa.table({name: pa.array([row.get(name) for row in rows], kinds.get(name)) for name in rows[0]})
    if features is None:
        is_number = "label" in rows[0] and pa.types.is_integer(table.schema.field("label").type)
        features = {"audio": {"_type": "Audio"}} | ({"label": LABELS} if is_number else {})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(metadata), file, row_group_size=row_group_size, **options)
    return file
