"""File format between extraction and training: Parquet shards and a `_manifest.json`, together a dataset.

A row is one spectrogram. `mel` is float16 in dB, row-major `(n_mels, num_frames)`, stored as fixed-size
binary, which is read and written ten times as fast as lists. Any Parquet reader decodes it with
`np.frombuffer(row["mel"], np.float16).reshape(n_mels, num_frames)`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.config import Config, ConfigError
from pipeline.audio.features import Spectrogram
from pipeline.data.duplicates import DIGEST_BYTES, content_digest
from pipeline.io.errors import UserError, check_not_storage
from pipeline.io.files import csv_text, write_atomically
from pipeline.io.storage import pyarrow_source

REJECTED_NAME = "rejected.csv"
WARNINGS_NAME = "warnings.csv"
_METADATA_KEY = b"melray"
# Columns of rows that are windows of recordings, and not whole clips.
WINDOW_COLUMNS = ("start", "end")


class Rejected(NamedTuple):
    """Unusable audio file and the reason."""

    clip_id: str
    path: str
    reason: str


class ClipWarning(NamedTuple):
    """Audio file that is used although its samples may not be what they should be, and why."""

    clip_id: str
    path: str
    warning: str


class ShardInfo(Config):
    """File name and counts of a shard."""

    name: str
    rows: int
    clips: int
    rejected: int
    warnings: int = 0


class ShardSummary(NamedTuple):
    """Counts of a shard, and the clips that its report files list."""

    info: ShardInfo
    rejected: list[Rejected]
    warnings: list[ClipWarning]
    digests: bytes = b""
    """Concatenated digests of the usable clips' spectrograms, by which duplicates are found."""


def shard_schema(shape: tuple[int, int], windowed: bool = False) -> pa.Schema:
    """Return the columns of a shard with spectrograms of `shape` `(n_mels, num_frames)`.

    With `windowed`, rows are windows of recordings, with `WINDOW_COLUMNS`.
    """
    return pa.schema(
        {
            "clip_id": pa.string(),
            "path": pa.string(),
            "label": pa.string(),
            "fold": pa.int32(),
            "group": pa.string(),
        }
        | dict.fromkeys(WINDOW_COLUMNS if windowed else (), pa.float64())
        | {
            "copy": pa.int32(),
            "strength": pa.float32(),
            "augmentation": pa.string(),
            "mel": pa.binary(2 * shape[0] * shape[1]),
        }
    )


def write_shard(
    path: Path,
    clips: Sequence[dict[str, Any]],
    spectrograms: Sequence[list[Spectrogram]],
    rejected: Sequence[Rejected],
    shape: tuple[int, int],
    warnings: Sequence[ClipWarning] = (),
    windowed: bool = False,
) -> ShardSummary:
    """Write a shard atomically.

    Args:
        path: file of the shard.
        clips: `clip_id, path, label, fold, group` of each usable clip, and `start, end` of windows.
        spectrograms: rows of each usable clip.
        rejected: unusable clips; stored in the footer, so that they survive an interrupted job.
        shape: `(n_mels, num_frames)`.
        warnings: warnings about usable clips; stored in the footer too.
        windowed: whether the clips are windows of recordings.

    The footer also has the digests of the original spectrograms, for `pipeline/data/duplicates.py`.
    """
    digests = b"".join(content_digest(clip_rows[0].mel) for clip_rows in spectrograms)
    metadata = {
        "shape": shape,
        "clips": len(clips),
        "rejected": rejected,
        "warnings": warnings,
        "digests": digests.hex(),
    }
    table = _to_table(clips, spectrograms, shape, windowed)
    table = table.replace_schema_metadata({_METADATA_KEY: json.dumps(metadata).encode()})
    write_atomically(
        path,
        lambda file: pq.write_table(
            table,
            file,
            compression="lz4",
            use_dictionary=["label", "augmentation"],
            write_statistics=["clip_id", "label", "fold", "copy", "strength"],
            write_page_checksum=True,
        ),
    )
    info = ShardInfo(
        name=path.name,
        rows=table.num_rows,
        clips=len(clips),
        rejected=len(rejected),
        warnings=len(warnings),
    )
    return ShardSummary(info, list(rejected), list(warnings), digests)


def _to_table(
    clips: Sequence[dict[str, Any]],
    spectrograms: Sequence[list[Spectrogram]],
    shape: tuple[int, int],
    windowed: bool,
) -> pa.Table:
    """Return the rows of a shard; the arguments are those of `write_shard`."""
    rows = [(clip, row) for clip, clip_rows in zip(clips, spectrograms, strict=True) for row in clip_rows]
    schema = shard_schema(shape, windowed)
    from_row = ("copy", "strength", "augmentation")
    columns: dict[str, Any] = {
        name: [getattr(row, name) if name in from_row else clip[name] for clip, row in rows]
        for name in schema.names
        if name != "mel"
    }
    mels = np.stack([row.mel for _, row in rows]) if rows else np.zeros((0, *shape), np.float16)
    columns["mel"] = pa.Array.from_buffers(
        schema.field("mel").type, len(rows), [None, pa.py_buffer(np.ascontiguousarray(mels))]
    )
    return pa.table(columns, schema=schema)


def read_shard_footer(path: Path) -> ShardSummary:
    """Return what `write_shard` returned for a shard; only its footer is read.

    Raises:
        UserError: the shard is incomplete or not of melray.
    """
    try:
        footer = pq.read_metadata(pyarrow_source(path, partial=True))
        metadata = json.loads(footer.metadata[_METADATA_KEY])
        rejected = [Rejected(*item) for item in metadata["rejected"]]
        warnings = [ClipWarning(*item) for item in metadata["warnings"]]
        info = ShardInfo(
            name=path.name,
            rows=footer.num_rows,
            clips=metadata["clips"],
            rejected=len(rejected),
            warnings=len(warnings),
        )
        digests = _parse_digests(metadata)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, ConfigError) as error:
        check_not_storage(error, path)
        raise UserError(
            f"shard {path} is incomplete ({error}): delete it and rerun `melray extract`"
        ) from None
    return ShardSummary(info, rejected, warnings, digests)


def _parse_digests(metadata: dict[str, Any]) -> bytes:
    """Return the digests in a footer; raise `ValueError` if there is not one for each clip."""
    digests = bytes.fromhex(metadata["digests"])
    if len(digests) != DIGEST_BYTES * metadata["clips"]:
        raise ValueError(f"{len(digests)} bytes of digests of {metadata['clips']} clips")
    return digests


def shard_digests(table: pa.Table) -> bytes:
    """Return the concatenated digests of the clips of a shard that was read completely.

    Raises:
        UserError: the footer is damaged.
    """
    try:
        return _parse_digests(json.loads(table.schema.metadata[_METADATA_KEY]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"a shard has a damaged footer ({error}): delete it and rerun `melray extract`"
        ) from None


def read_shard(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a shard, or some of its columns, and verify the checksum of every page.

    Raises:
        UserError: the shard is missing or damaged.
    """
    try:
        table = pq.read_table(
            pyarrow_source(path, partial=columns is not None),
            columns=columns,
            page_checksum_verification=True,
            partitioning=None,
        )
        # The footer has no checksum.
        schema = shard_schema((1, 1), windowed=WINDOW_COLUMNS[0] in table.column_names)
        names = schema.names if columns is None else list(columns)
        if table.column_names != names or any(
            table.field(name).type != schema.field(name).type for name in names if name != "mel"
        ):
            fields = ", ".join(f"{field.name} {field.type}" for field in table.schema)
            raise ValueError(f"its columns are {fields}")
        return table
    except FileNotFoundError:
        raise UserError(
            f"shard {path} is missing: rerun `melray extract` to regenerate missing shards"
        ) from None
    except (OSError, pa.ArrowException, ValueError) as error:
        check_not_storage(error, path)
        reason = str(error).splitlines()[0]
        raise UserError(f"shard {path} is damaged ({reason}): delete it and rerun `melray extract`") from None


def mel_values(table: pa.Table, shape: tuple[int, int]) -> np.ndarray:
    """Return the spectrograms of a shard in dB, float16 `[shape=(num_rows, n_mels, num_frames)]`.

    The result is a view of the table where possible.

    Raises:
        UserError: they have another shape.
    """
    width = 2 * shape[0] * shape[1]
    if table.schema.field("mel").type != pa.binary(width):
        raise UserError(
            f"a shard has spectrograms that are not of shape {shape}: delete it and rerun `melray extract`"
        )
    chunk = table.column("mel").combine_chunks()
    data = np.frombuffer(chunk.buffers()[1] or b"", np.uint8)[
        chunk.offset * width : (chunk.offset + len(chunk)) * width
    ]
    return data.view(np.float16).reshape(len(chunk), *shape)


def rejected_csv(rejected: Sequence[Rejected]) -> str:
    """Return the text of `rejected.csv`."""
    return csv_text(Rejected._fields, rejected)


def warnings_csv(warnings: Sequence[ClipWarning]) -> str:
    """Return the text of `warnings.csv`."""
    return csv_text(ClipWarning._fields, warnings)
