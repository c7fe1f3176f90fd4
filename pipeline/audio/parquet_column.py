"""Which column of a Parquet file has audio files as its values, by the schema alone."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from pipeline.io.table_files import column_features

# Names of columns of plain bytes, and of columns that are preferred to others, in lower case.
_NAMES = "audio wav flac mp3 ogg sound recording clip speech audio_bytes audio_data bytes content data file"
_AUDIO_NAMES = frozenset(_NAMES.split())
_FEATURE, _OTHER_FEATURES = "Audio", ("Image", "Video", "Pdf", "Mesh", "Nifti")


class AudioColumn(NamedTuple):
    """A column whose values are audio files."""

    name: str
    content: str
    """Path of the Parquet column that has the bytes of the files."""
    names: str | None
    """Path of the one that has their names; None if there is none."""
    is_declared: bool
    """Whether the schema states that it is audio, so that its bytes need not be looked at."""


def audio_column(schema: pa.Schema) -> AudioColumn | None:
    """Return the column of a Parquet file that has audio files, with content and name; None without one.

    Hugging Face `datasets` writes the type of a column into the schema. Of several such columns, and without
    it, the name decides.
    """
    types = {name: feature.get("_type") for name, feature in column_features(schema).items()}
    found = [column for field in schema if (column := _column(field, types.get(field.name))) is not None]
    is_only = sum(map(_is_binary, schema.types)) == 1
    found = [
        column for column in found if column.content != column.name or is_only or _is_audio_name(column.name)
    ]
    return min(found, key=_rank) if found else None


def _column(field: pa.Field, feature: str | None) -> AudioColumn | None:
    if feature in _OTHER_FEATURES:
        return None
    is_declared = feature == _FEATURE
    if _is_binary(field.type):
        return AudioColumn(field.name, field.name, None, is_declared)
    if not pa.types.is_struct(field.type) or not _has_field(field.type, "bytes", _is_binary):
        return None
    has_names = _has_field(field.type, "path", is_text)
    names = f"{field.name}.path" if has_names else None
    return AudioColumn(field.name, f"{field.name}.bytes", names, is_declared)


def _rank(column: AudioColumn) -> tuple[bool, bool, bool]:
    return not column.is_declared, not _is_audio_name(column.name), column.content == column.name


def _is_audio_name(name: str) -> bool:
    return name.lower() in _AUDIO_NAMES


def _has_field(kind: pa.StructType, name: str, is_type: object) -> bool:
    index = kind.get_field_index(name)
    return index >= 0 and bool(is_type(kind.field(index).type))  # type: ignore[operator]


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def is_text(kind: pa.DataType) -> bool:
    """Return whether values are texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
