"""Metadata of exported models: texts that every runtime can read, with what a program needs to use them."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.training.model_file import ModelMetadata

# Version of inputs, outputs and metadata of exported files.
EXPORT_FORMAT_VERSION = 1


def common_metadata(metadata: ModelMetadata, digest: str) -> dict[str, Any]:
    """Return the metadata that exported models of both kinds have; `digest` is that of the run's models."""
    features = metadata.features
    return {
        "format_version": EXPORT_FORMAT_VERSION,
        "melray_version": _melray_version(),
        "kind": metadata.kind,
        "run_digest": digest,
        "class_names": list(metadata.class_names),
        "sample_rate": features.mel.sample_rate,
        "seconds": features.seconds,
        "num_samples": features.num_samples,
        "mel": features.mel.to_dict(),
    }


def as_texts(metadata: dict[str, Any]) -> dict[str, str]:
    """Return metadata as texts: those that are no texts already as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in metadata.items()
    }


def _melray_version() -> str:
    try:
        return version("melray")
    except PackageNotFoundError:  # a job runs a copy of the code that is not installed
        return "unknown"
