"""Weights & Biases, online or offline (`WANDB_MODE=offline`): a project with grouped runs, and artifacts."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.io.errors import UserError
from pipeline.io.storage import is_remote
from pipeline.training.trackers.client import Artifact, NewRun
from pipeline.training.trackers.record import TrackerRecord

START_TIMEOUT_S = 20
# Characters that names of its artifacts must not have.
_INVALID = re.compile(r"[^\w.-]+")


class WandbTracker:
    """Sends runs as its environment variables and `wandb login` say; its own files are in RUN/wandb."""

    def __init__(self, root: Path):
        """`root` is the command's run folder; if it is in an object store, these files are temporary.

        Raises:
            UserError: they would be the only result, as it is offline, and be lost.
        """
        os.environ.setdefault("WANDB_SILENT", "true")
        self._runs: dict[str, Any] = {}
        self._folder = os.environ.get("WANDB_DIR") or str(root)
        if self._folder == str(root) and is_remote(root):
            if os.environ.get("WANDB_MODE") == "offline":
                raise UserError(
                    f"WANDB_MODE=offline: its files cannot be in {root}; set WANDB_DIR to a folder"
                )
            # Deleted at the end of this process.
            self._temporary = tempfile.TemporaryDirectory(prefix="melray-", ignore_cleanup_errors=True)
            self._folder = self._temporary.name

    def start(self, record: TrackerRecord, new: NewRun) -> None:
        import wandb

        run = wandb.init(
            project=_name(record.project),
            id=record.id,
            name=new.name,
            group=new.group,
            job_type=new.kind,
            config={"melray_parent": new.parent_id, **new.parameters},
            dir=self._folder,
            resume="allow",
            # Runs of a command are open at the same time.
            reinit="create_new",
            settings=wandb.Settings(
                init_timeout=START_TIMEOUT_S,
                # Of the process that sends, not of the training.
                console="off",
                disable_code=True,
                disable_git=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )
        self._runs[record.id] = run
        record.remote_id = record.id
        if not run.offline:
            # What the server has, not what was recorded: it may have been down.
            record.epoch = max(run.starting_step - 1, 0)

    def log_epoch(
        self, record: TrackerRecord, epoch: int, metrics: Mapping[str, float], samples: Sequence[Artifact]
    ) -> None:
        import wandb

        media = {}
        for file in samples:
            kind = wandb.Audio if file.path.suffix == ".wav" else wandb.Image
            folder = "real" if "/real/" in file.name else "samples"
            media[f"{folder}/{file.path.stem}"] = kind(str(file.path))
        self._runs[record.id].log({**metrics, **media}, step=epoch)

    def log_results(
        self, record: TrackerRecord, results: Mapping[str, float], files: Sequence[Artifact]
    ) -> None:
        run = self._runs[record.id]
        run.summary.update(dict(results))
        self._log_artifact(record, f"results-{record.id}", "results", files, {})

    def log_model(
        self, record: TrackerRecord, name: str, files: Sequence[Artifact], metadata: Mapping[str, Any]
    ) -> None:
        self._log_artifact(record, name, "model", files, metadata)

    def _log_artifact(
        self,
        record: TrackerRecord,
        name: str,
        kind: str,
        files: Sequence[Artifact],
        metadata: Mapping[str, Any],
    ) -> None:
        import wandb

        artifact = wandb.Artifact(_name(name), type=kind, metadata=dict(metadata))
        for file in files:
            artifact.add_file(str(file.path), name=file.name)
        self._runs[record.id].log_artifact(artifact)

    def close(self, record: TrackerRecord, state: str) -> None:
        run = self._runs.pop(record.id)
        run.summary["state"] = state
        run.finish(exit_code=int(state == "failed"))


def _name(text: str) -> str:
    """Return a valid name of a project or an artifact."""
    return _INVALID.sub("-", text)[:128]
