"""Tensors with metadata in a file: safetensors and JSON, written atomically, never a pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pipeline.io.errors import UserError, check_not_storage
from pipeline.io.files import write_atomically
from pipeline.io.storage import local_file

_METADATA_KEY, _DIGEST_KEY = "melray", "sha256"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, Any] | None = None) -> str:
    """Write tensors, and a JSON-able `metadata` in the same file, atomically; return the file's SHA-256."""
    # Contiguous copies: safetensors refuses shared or strided memory, and channels_last is strided.
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    values = {**(metadata or {}), _DIGEST_KEY: _digest(copies, metadata or {})}
    # One key: safetensors writes several in random order.
    data = save(copies, {_METADATA_KEY: json.dumps(values, ensure_ascii=False)})
    write_atomically(path, lambda file: file.write(data))
    return hashlib.sha256(data).hexdigest()


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the tensors of a file to the CPU, and its metadata.

    Raises:
        UserError: if the file is missing, damaged or of another type.
    """
    with _open(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        metadata, digest = _metadata(file)
        if digest not in (None, _digest(tensors, metadata)):  # files of other programs have none
            raise ValueError("its content differs from its SHA-256")
        return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> str:
    """Return the SHA-256 of tensors and their metadata, by which a flipped bit becomes an error."""
    digest = hashlib.sha256(json.dumps(metadata).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_metadata(path: Path) -> dict[str, Any]:
    """Load the metadata of a file without its tensors.

    Raises:
        UserError: as `load_tensors`.
    """
    with _open(path) as file:
        return _metadata(file)[0]


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        with local_file(path) as copy, safe_open(copy, "pt", device="cpu") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, SafetensorError, ValueError) as error:
        check_not_storage(error, path)
        raise UserError(f"{path} is damaged ({error}): restore it from a copy, or train again") from None


def _metadata(file: Any) -> tuple[dict[str, Any], str | None]:
    """Return the metadata of a file, and the digest of its content."""
    metadata = json.loads((file.metadata() or {}).get(_METADATA_KEY, "{}"))
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is not a JSON object")
    return metadata, metadata.pop(_DIGEST_KEY, None)
