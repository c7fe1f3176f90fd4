"""Checkpoints of a run: full training states, of which the newest intact one is read."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load
from torch import Tensor

from pipeline.io.console import logger
from pipeline.io.errors import UserError, explain_os_error, report_os_errors
from pipeline.io.files import write_text_atomically
from pipeline.io.storage import remove_tree
from pipeline.io.transient_errors import repeat_transient
from pipeline.training.format_version import FORMAT_VERSION, FormatVersionError, check_format_version
from pipeline.training.tensor_file import save_tensors
from pipeline.training.world import SINGLE_WORKER, World

STATE_NAME = "state.json"
# Group of tensors, and key of the values, of a position within an epoch.
POSITION_NAME = "position"
_DIGEST_KEY = "sha256"


class Checkpoint(NamedTuple):
    """Content of a checkpoint."""

    tensors: dict[str, dict[str, Tensor]]
    """Groups of tensors by name."""
    state: dict[str, Any]
    """JSON-able values."""


class Checkpoints:
    """Checkpoints of a run, `checkpoints/epoch_0001/…`; those of the newest two epochs are kept.

    After them, the newest one within the current epoch, `epoch_0001_step_500/…`: 500 steps after epoch 1. A
    checkpoint is a few safetensors files and `state.json`, which is written last, contains their SHA-256
    digests and marks the checkpoint as valid.
    """

    def __init__(self, run: Path, keep: int = 2):
        self.folder = run / "checkpoints"
        self.keep = keep
        self._has_partial = True

    def write(
        self,
        epoch: int,
        tensors: dict[str, dict[str, Tensor]],
        state: dict[str, Any],
        position: tuple[dict[str, Tensor], dict[str, Any]] | None = None,
    ) -> None:
        """Write the checkpoint of an epoch, or one within the next epoch, then delete the oldest ones.

        Args:
            epoch: number of finished epochs.
            tensors: groups of tensors by name, one file per group.
            state: JSON-able values.
            position: position within the next epoch, from `epoch_position.position_tensors`.
        """
        step = 0
        if position is not None:
            tensors, state = tensors | {POSITION_NAME: position[0]}, state | {POSITION_NAME: position[1]}
            step = position[1]["steps"]
        folder = self.folder / (f"epoch_{epoch:04d}" + (f"_step_{step}" if step else ""))
        remove_tree(folder)
        folder.mkdir(parents=True)
        digests = {
            name: save_tensors(folder / f"{name}.safetensors", group) for name, group in tensors.items()
        }
        content = {"format_version": FORMAT_VERSION, "digests": digests, **state}
        content[_DIGEST_KEY] = _state_digest(content)
        write_text_atomically(folder / STATE_NAME, json.dumps(content))
        self._delete_old(folder)

    def _delete_old(self, newest: Path) -> None:
        """Delete the checkpoints that are not kept after `newest` has been written."""
        valid = self._valid()
        epochs = [folder for folder in valid if _is_of_epoch(folder)]
        kept = {newest.name, *(folder.name for folder in epochs[-self.keep :])}
        if self._has_partial:  # of a worker that was killed while it wrote; this one leaves none
            whole = {newest.name, *(folder.name for folder in valid)}
            for folder in self.folder.glob("epoch_*"):
                if folder.name not in whole and _position(folder):
                    remove_tree(folder)
            self._has_partial = False
        for old in valid:
            if old.name not in kept:
                # Invalidate it first, so that a partially deleted checkpoint is never read.
                (old / STATE_NAME).unlink(missing_ok=True)
                remove_tree(old)

    def read(self, world: World = SINGLE_WORKER, within_epochs: bool = True) -> Checkpoint | None:
        """Read the newest intact checkpoint, the same on all ranks; None if there is none yet.

        A collective: rank 0 chooses, the other ranks read what it has chosen. A checkpoint that is damaged,
        or that a rank cannot read, is skipped for the one before it, with a warning.

        Args:
            world: process group.
            within_epochs: read also those within an epoch.

        Raises:
            UserError: on all ranks, if there is no checkpoint that all can read, or the newest was written
                in another format.
        """
        candidates = _Candidates(self.folder, self._valid if within_epochs else self._valid_epochs)
        while (chosen := world.run_on_main_rank(candidates.read_next)) is not None:
            error = candidates.read_chosen(*chosen) if world.rank > 0 else ""
            if not any(errors := world.gather(error)):
                return candidates.current
            candidates.reject(next(filter(None, errors)))
        return None

    def exist(self, within_epochs: bool = False) -> bool:
        """Return whether there is a checkpoint after an epoch, or with `within_epochs` also one within."""
        with report_os_errors("listing", self.folder):
            return bool(repeat_transient(self._valid if within_epochs else self._valid_epochs))

    def _valid(self) -> list[Path]:
        folders = (path.parent for path in self.folder.glob(f"epoch_*/{STATE_NAME}"))
        return sorted(filter(_position, folders), key=_position)

    def _valid_epochs(self) -> list[Path]:
        return list(filter(_is_of_epoch, self._valid()))


def _is_of_epoch(folder: Path) -> bool:
    """Return whether a checkpoint is one after an epoch, not within the next."""
    return not _position(folder)[1]


def _position(folder: Path) -> tuple[int, ...]:
    """Return the finished epochs, and steps of the next, of a checkpoint; empty for another folder."""
    match = re.fullmatch(r"epoch_(\d+)(?:_step_(\d+))?", folder.name)
    return (int(match[1]), int(match[2] or 0)) if match else ()


class _Candidates:
    """Reads the checkpoints of a run, newest first, until all ranks can read one."""

    def __init__(self, folder: Path, list_valid: Callable[[], list[Path]]):
        self._folder, self._list_valid = folder, list_valid
        self._left: list[Path] | None = None
        self._errors: list[str] = []
        self.current: Checkpoint | None = None
        """The checkpoint that was read last."""

    def read_next(self) -> tuple[str, str] | None:
        """Read the next intact checkpoint on rank 0; return its name and digest, or None if there is none.

        Raises:
            UserError: none of them can be used, or the next was written in another format.
        """
        if self._left is None:
            with report_os_errors("listing", self._folder):
                self._left = repeat_transient(self._list_valid)
        while self._left:
            folder = self._left.pop()
            try:
                self.current, digest = _read(folder)
                return folder.name, digest
            except FormatVersionError:
                raise
            except UserError as error:
                self.reject(str(error))
        if not self._errors:
            return None
        raise UserError(
            f"no intact checkpoint in {self._folder}: {self._errors[0]}; "
            "choose another --run, or delete this one to start over"
        )

    def read_chosen(self, name: str, digest: str) -> str:
        """Read the checkpoint that rank 0 has read; return why it cannot be read here, or an empty text."""
        try:
            self.current, own_digest = _read(self._folder / name, is_known=True)
        except UserError as error:
            return f"{error} (worker on {socket.gethostname()})"
        return "" if own_digest == digest else f"{self._folder / name} differs on {socket.gethostname()}"

    def reject(self, error: str) -> None:
        """Record why the last checkpoint cannot be used."""
        self._errors.append(error)
        if self._left:
            logger.warning("%s: continuing from %s", error, self._left[-1].name)


def _read(folder: Path, is_known: bool = False) -> tuple[Checkpoint, str]:
    """Read a checkpoint; return it and its digest, the SHA-256 of its state, which contains all others.

    Args:
        folder: folder of the checkpoint.
        is_known: another rank has read it, so that a file which is missing here may only be late.

    Raises:
        UserError: it is damaged or cannot be read, or was written in another format.
    """
    path = folder / STATE_NAME
    content = _read_bytes(path, is_known)
    try:
        state = json.loads(content)
        digests = dict(state["digests"])
        check_format_version(state, path)
        if state.pop(_DIGEST_KEY, None) not in (None, _state_digest(state)):  # older ones have none
            raise ValueError("its content differs from its SHA-256")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error})") from None
    del state["format_version"], state["digests"]
    tensors = {}
    for name, digest in digests.items():
        file = folder / f"{name}.safetensors"
        data = _read_bytes(file, is_known)
        if hashlib.sha256(data).hexdigest() != digest:
            raise UserError(f"{file} is damaged")
        tensors[name] = load(data)
    return Checkpoint(tensors, state), hashlib.sha256(content).hexdigest()


def _state_digest(state: dict[str, Any]) -> str:
    """Return the SHA-256 of the content of `state.json`, by which a flipped bit becomes an error."""
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def _read_bytes(path: Path, is_known: bool) -> bytes:
    """Read a file of a checkpoint, repeatedly if the error may pass.

    Raises:
        UserError: it cannot be read.
    """

    def read() -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            if not is_known:
                raise
            # Network file systems remember for a while that a file did not exist.
            raise OSError(errno.ESTALE, "missing") from None

    try:
        return repeat_transient(read)
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except OSError as error:
        raise UserError(explain_os_error(error, f"reading {path}")) from None
