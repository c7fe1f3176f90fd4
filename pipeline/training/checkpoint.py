"""Checkpoints and tensor files: safetensors and JSON, written atomically, never a pickle."""

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

from pipeline.io.errors import UserError
from pipeline.io.files import write_atomically, write_text_atomically
from pipeline.io.storage import local_file, remove_tree
from pipeline.training.format_version import FORMAT_VERSION, FormatVersionError, check_format_version

STATE_NAME = "state.json"
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
        raise UserError(f"{path} is damaged ({error}): restore it from a copy, or train again") from None


def _metadata(file: Any) -> tuple[dict[str, Any], str | None]:
    """Return the metadata of a file, and the digest of its content."""
    metadata = json.loads((file.metadata() or {}).get(_METADATA_KEY, "{}"))
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is not a JSON object")
    return metadata, metadata.pop(_DIGEST_KEY, None)


class Checkpoints:
    """Checkpoints of a run, `checkpoints/epoch_0001/…`; the newest two are kept.

    A checkpoint is a few safetensors files and `state.json`, which is written last, contains their
    SHA-256 digests and marks the checkpoint as valid.
    """

    def __init__(self, run: Path, keep: int = 2):
        self.folder = run / "checkpoints"
        self.keep = keep

    def write(self, epoch: int, tensors: Mapping[str, Mapping[str, Tensor]], state: dict[str, Any]) -> None:
        """Write the checkpoint of an epoch, then delete the oldest ones.

        Args:
            epoch: 1-based.
            tensors: groups of tensors by name, one file per group.
            state: JSON-able values.
        """
        folder = self.folder / f"epoch_{epoch:04d}"
        remove_tree(folder)
        folder.mkdir(parents=True)
        digests = {
            name: save_tensors(folder / f"{name}.safetensors", group) for name, group in tensors.items()
        }
        content = {"format_version": FORMAT_VERSION, "digests": digests, **state}
        write_text_atomically(folder / STATE_NAME, json.dumps(content))
        for old in self._valid()[: -self.keep]:
            # Invalidate it first, so that a partially deleted checkpoint is never read.
            (old / STATE_NAME).unlink(missing_ok=True)
            remove_tree(old)

    def read(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
        """Read tensors by group and state of the newest intact checkpoint; None before the first epoch.

        A damaged checkpoint is skipped for the one before it.

        Raises:
            UserError: if all are damaged, or the newest was written in another format.
        """
        errors = []
        for folder in reversed(self._valid()):
            try:
                return self._read(folder)
            except FormatVersionError:
                raise
            except UserError as error:
                errors.append(str(error))
        if errors:
            raise UserError(
                f"no intact checkpoint in {self.folder}: {errors[0]}; "
                "choose another --run, or delete this one to start over"
            )
        return None

    def _valid(self) -> list[Path]:
        # By length first: epoch_10000 comes after epoch_9999.
        return sorted(
            (path.parent for path in self.folder.glob(f"epoch_*/{STATE_NAME}")),
            key=lambda folder: (len(folder.name), folder.name),
        )

    def _read(self, folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        path = folder / STATE_NAME
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            digests = dict(state.pop("digests"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged ({error})") from None
        check_format_version(state, path)
        del state["format_version"]
        tensors = {}
        for name, digest in digests.items():
            file = folder / f"{name}.safetensors"
            if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
                raise UserError(f"{file} is damaged or missing")
            tensors[name] = load_tensors(file)[0]
        return tensors, state
