"""The data format between extraction and training: Parquet parts, and a `_manifest.json` that makes them a set.

One row is one spectrogram. `mel` is float16 in dB, row-major `(n_mels, num_frames)`, as fixed-size binary: a part is then
written and read at the speed of memory, ten times that of lists. Any Parquet reader gets it back with
`np.frombuffer(row["mel"], np.float16).reshape(n_mels, num_frames)`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.config import Config, ConfigError
from pipeline.audio.features import AugmentConfig, FeatureConfig, Spectrogram
from pipeline.io.errors import UserError
from pipeline.io.files import write_atomically
from pipeline.io.storage import pyarrow_source

SCHEMA_VERSION = 1
MANIFEST_NAME = "_manifest.json"
REJECTED_NAME = "rejected.csv"
_METADATA_KEY = b"melray"


class Rejected(NamedTuple):
    """A file that could not be used, and why."""

    clip_id: str
    path: str
    reason: str


class ShardInfo(Config):
    """One Parquet file of a set."""

    name: str
    rows: int
    clips: int
    rejected: int


class ShardManifest(Config):
    """What `_manifest.json` says of a set; its presence makes the set valid."""

    schema_version: int = SCHEMA_VERSION
    fingerprint: str
    """That of `features`: sets of different spectrograms never mix."""
    features: FeatureConfig
    augment: AugmentConfig
    class_names: tuple[str, ...]
    clips: int
    rows: int
    rejected: int
    source: dict[str, Any]
    parts: tuple[ShardInfo, ...]


def shard_schema(shape: tuple[int, int]) -> pa.Schema:
    """The columns of a part whose spectrograms have `shape` `(n_mels, num_frames)`."""
    return pa.schema(
        {
            "clip_id": pa.string(),
            "path": pa.string(),
            "label": pa.string(),
            "fold": pa.int32(),
            "group": pa.string(),
            "copy": pa.int32(),
            "strength": pa.float32(),
            "recipe": pa.string(),
            "mel": pa.binary(2 * shape[0] * shape[1]),
        }
    )


def write_shard(
    path: Path,
    clips: Sequence[dict[str, Any]],
    spectrograms: Sequence[list[Spectrogram]],
    rejected: Sequence[Rejected],
    shape: tuple[int, int],
) -> ShardInfo:
    """Writes one part under its final name at once, or not at all.

    Args:
        path: the part's final name.
        clips: for each good clip its `clip_id, path, label, fold, group`.
        spectrograms: for each good clip its rows.
        rejected: clips that gave no row; kept in the part, so that a broken-off job forgets none.
        shape: `(n_mels, num_frames)`.
    """
    rows = [(clip, row) for clip, of_clip in zip(clips, spectrograms, strict=True) for row in of_clip]
    columns: dict[str, Any] = {
        name: [clip[name] for clip, _ in rows] for name in ("clip_id", "path", "label", "fold", "group")
    }
    columns |= {name: [getattr(row, name) for _, row in rows] for name in ("copy", "strength", "recipe")}
    values = np.stack([row.mel for _, row in rows]) if rows else np.zeros((0, *shape), np.float16)
    schema = shard_schema(shape)
    mel_type = schema.field("mel").type
    columns["mel"] = pa.Array.from_buffers(
        mel_type, len(rows), [None, pa.py_buffer(np.ascontiguousarray(values))]
    )
    extra = {_METADATA_KEY: json.dumps({"shape": shape, "clips": len(clips), "rejected": rejected}).encode()}
    table = pa.table(columns, schema=schema).replace_schema_metadata(extra)
    write_atomically(
        path,
        lambda file: pq.write_table(
            table,
            file,
            compression="lz4",
            use_dictionary=["label", "recipe"],
            write_statistics=["clip_id", "label", "fold", "copy", "strength"],
            write_page_checksum=True,
        ),
    )
    return ShardInfo(name=path.name, rows=len(rows), clips=len(clips), rejected=len(rejected))


def read_shard_footer(path: Path) -> tuple[ShardInfo, list[Rejected]]:
    """What a published part says of itself, from its footer only.

    Raises:
        UserError: when the part can't be read.
    """
    try:
        metadata = pq.read_metadata(pyarrow_source(path))
        own = json.loads(metadata.metadata[_METADATA_KEY])
        rejected = [Rejected(*item) for item in own["rejected"]]
        return ShardInfo(
            name=path.name, rows=metadata.num_rows, clips=own["clips"], rejected=len(rejected)
        ), rejected
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, ConfigError) as error:
        raise UserError(
            f"{path} is not a whole shard ({error}): delete it and run `melray extract` again"
        ) from None


def read_shard(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a part, or some of its columns, and checks every page against its checksum.

    Raises:
        UserError: when the part is missing or damaged.
    """
    schema = shard_schema((1, 1))
    wanted = schema.names if columns is None else list(columns)
    try:
        table = pq.read_table(
            pyarrow_source(path), columns=columns, page_checksum_verification=True, partitioning=None
        )
        # The footer has no checksum.
        if table.column_names != wanted or any(
            table.field(name).type != schema.field(name).type for name in wanted if name != "mel"
        ):
            raise ValueError(
                f"its columns are {', '.join(f'{field.name} {field.type}' for field in table.schema)}"
            )
        return table
    except FileNotFoundError:
        raise UserError(
            f"shard {path} is missing: run `melray extract` again, it makes only what is not there"
        ) from None
    except (OSError, pa.ArrowException, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"shard {path} is damaged ({first}): delete it and run `melray extract` again"
        ) from None


def mel_values(table: pa.Table, shape: tuple[int, int]) -> np.ndarray:
    """The spectrograms of a part as float16 `[shape=(num_rows, n_mels, num_frames)]`, in dB, without a copy where possible.

    Raises:
        UserError: when they have another shape.
    """
    width = 2 * shape[0] * shape[1]
    if table.schema.field("mel").type != pa.binary(width):
        raise UserError(
            f"a shard has spectrograms that are not of shape {shape}: delete it and run `melray extract` again"
        )
    chunk = table.column("mel").combine_chunks()
    flat = np.frombuffer(chunk.buffers()[1] or b"", np.uint8)[
        chunk.offset * width : (chunk.offset + len(chunk)) * width
    ]
    return flat.view(np.float16).reshape(len(chunk), *shape)


def rejected_csv(rejected: list[Rejected]) -> str:
    """The text of `rejected.csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Rejected._fields)
    writer.writerows(rejected)
    return text.getvalue()


def open_shards(folder: Path) -> ShardManifest:
    """The manifest of a complete set.

    Raises:
        UserError: no such folder, an unfinished set, or one of another version.
    """
    if not folder.is_dir():
        raise UserError(f"--shards {folder}: no such folder")
    path = folder / MANIFEST_NAME
    if not path.is_file():
        started = any(folder.glob("part-*.parquet"))
        hint = (
            "its extraction did not finish; run the same `melray extract` again"
            if started
            else "make it with `melray extract`"
        )
        raise UserError(f"--shards {folder}: no {MANIFEST_NAME} in it: {hint}")
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete it and run `melray extract` again") from None
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, this melray reads {SCHEMA_VERSION}: extract again"
        )
    try:
        return ShardManifest.parse(values, str(path))
    except ConfigError as error:
        raise UserError(f"{error}; extract again") from None
