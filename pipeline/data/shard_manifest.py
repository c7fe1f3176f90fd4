"""Manifest of a dataset, `_manifest.json`: settings, classes and shards. It is written last, and marks the
dataset as complete.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.config import Config, ConfigError
from pipeline.audio.augment import AugmentConfig
from pipeline.audio.features import FeatureConfig
from pipeline.data.shards import REJECTED_NAME, ShardInfo
from pipeline.io.errors import UserError
from pipeline.io.files import write_text_atomically

SCHEMA_VERSION = 3
MANIFEST_NAME = "_manifest.json"


class ShardManifest(Config):
    """Content of `_manifest.json`, which is written last and marks a dataset as complete."""

    schema_version: int = SCHEMA_VERSION
    fingerprint: str
    """Fingerprint of `features`; datasets with different spectrograms are never combined."""
    features: FeatureConfig
    augment: AugmentConfig
    class_names: tuple[str, ...]
    clips: int
    rows: int
    rejected: int
    warnings: int = 0
    """Warnings about usable clips, listed in `warnings.csv`."""
    source: dict[str, Any]
    """Data folder or CSV, and number of clips per class."""
    shards: tuple[ShardInfo, ...]
    multi_label: bool = False
    """Whether a row has any number of classes, as in `labels.py`, rather than one."""
    hop: float | None = None
    """Distance in seconds between the windows that the rows are; None if each row is a whole clip."""


def write_manifest(folder: Path, manifest: ShardManifest) -> None:
    """Write `_manifest.json`, which marks the dataset as complete."""
    text = json.dumps(manifest.to_dict(), indent=1, ensure_ascii=False)
    write_text_atomically(folder / MANIFEST_NAME, text)


def empty_dataset_error(folder: Path, manifest: ShardManifest, flag: str = "--shards") -> UserError:
    """Return the error for a dataset without rows; `flag` is the command-line flag that names it."""
    if "generator" in manifest.source:
        reason = "no generated clip reached --min-confidence; generate again with a lower one"
    else:
        reason = f"no usable clips; see its {REJECTED_NAME}"
    return UserError(f"{flag} {folder}: {reason}")


def open_shards(folder: Path, flag: str = "--shards") -> ShardManifest:
    """Read the manifest of a complete dataset; `flag` is the command-line flag of its folder, for messages.

    Raises:
        UserError: no such folder, an incomplete extraction, or another schema version.
    """
    if not folder.is_dir():
        raise UserError(f"{flag} {folder}: no such folder")
    path = folder / MANIFEST_NAME
    if not path.is_file():
        if any(folder.glob("part-*.parquet")):
            hint = "extraction is incomplete; rerun `melray extract` to resume"
        elif (folder / "model.safetensors").is_file():
            hint = "it is a run; give the folder of shards that it was trained on"
        else:
            hint = "create it with `melray extract`"
        raise UserError(f"{flag} {folder}: no {MANIFEST_NAME} found: {hint}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete it and rerun `melray extract`") from None
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version < SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, made by an older melray: extract again with --overwrite"
        )
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, this melray reads {SCHEMA_VERSION}: "
            "update melray, or extract again with --overwrite"
        )
    try:
        return ShardManifest.parse(values, str(path))
    except ConfigError as error:
        raise UserError(f"{error}; extract again with --overwrite") from None
