"""Run folder: the files that training writes and later commands read.

RUN/config.json             resolved configuration, digest of the shards, format version
RUN/split.parquet           clips that the run trains on, validates on and holds out
RUN/metrics.jsonl           metrics, one line per epoch
RUN/tensorboard/            the same for TensorBoard
RUN/tracker_mlflow.json     id of the run in MLflow, and what it has; the same for W&B
RUN/progress.json           current step
RUN/notes.json              warnings of the workers, such as rollbacks, and other notes
RUN/owner.json              id of the process that writes to the run
RUN/checkpoints/            full training states, to resume from
RUN/samples/                GAN: generated audio and images of some epochs
RUN/reference_classifiers/  GAN: run folders of its reference classifiers
RUN/validated/              classifier that is trained again on all clips: run folder of its first training
RUN/member_1/ …             ensemble: run folders of its members, which ensemble.json names
RUN/model.safetensors       model with its metadata; model.json is a readable copy of the metadata
RUN/summary.json            result; exists once training is complete
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from models.config import diff_settings, with_missing
from pipeline.data.dataset_identity import (
    DatasetIdentity,
    current_digests,
    renewed_digests,
    rows_digests,
)
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import create_text_atomically, remove_temporary_files, write_text_atomically
from pipeline.io.storage import check_right_to_delete
from pipeline.training.format_version import FORMAT_VERSION, check_format_version
from pipeline.training.run_content import (
    CROSSVAL_NAME,
    ENSEMBLE_NAME,
    SEARCH_NAME,
    check_run_folder,
    first_fold,
)

METRICS_NAME, NOTES_NAME = "metrics.jsonl", "notes.json"
# Record of a trial in its run folder, which the process of the search writes.
TRIAL_NAME = "trial.json"
# Start of the ids of the runs that this process acquires.
_THIS_PROCESS = uuid.uuid4().hex[:12]
# What to do about a damaged file: those of the first kind cannot be written again.
RESTORE = "restore it from a copy, or start over in another --run"
_DELETE = "delete it and run the command again"
_AGAIN = "run its command again to finish it"


class RunFolder:
    """Reads and writes the JSON files of a run."""

    def __init__(self, path: Path):
        self.path = path

    def begin(
        self,
        command: str,
        settings: dict[str, Any],
        shards: Path,
        datasets: Sequence[DatasetIdentity],
        defaults: dict[str, Any] | None = None,
    ) -> None:
        """Create and acquire the run, or check that an existing one has the same settings and clips.

        The path and the digests of the shards in an existing one become the current ones: they may have been
        moved or extracted again, and what follows the training reads them from there.

        Args:
            command: command that trains the run.
            settings: settings that define the run, JSON-serializable.
            shards: current path of the shards.
            datasets: the dataset in them, and those of additional training rows.
            defaults: values of settings that are missing in a run of an older version. A new setting has the
                default that was the only possibility before.

        Raises:
            UserError: if the folder contains a run with other settings or shards, or of another format, or
                its object store refuses to delete objects.
        """
        requested = {
            "format_version": FORMAT_VERSION,
            "command": command,
            **current_digests(datasets),
            "config": settings,
        }
        while (recorded := self.read_config()) is None:
            # The rest of a run without `config.json`, which cannot be continued, is replaced.
            check_run_folder(self.path, ("training run",))
            if self._create({**requested, "rows_digests": rows_digests(datasets), "shards": str(shards)}):
                return
        renewed = {**recorded, **renewed_digests(recorded, datasets), "shards": str(shards)}
        changes = diff_settings(with_missing(renewed, {"config": defaults or {}}), requested, "")
        if changes:
            change = describe_change(changes[0], shards)
            # Its learning rate has reached its end, so that more epochs are another training.
            # Not of a classifier, which may be a fold or a member of an ensemble.
            is_longer = command == "train-gan" and change.startswith("epochs = ")
            longer = f" with --init-from {self.path}" if is_longer else ""
            raise UserError(
                f"--run {self.path} contains a run with {change}; choose another --run{longer}, or "
                "delete the folder to start over"
            )
        if renewed != recorded:
            with report_os_errors("writing to", self.path):
                self.write_json("config.json", renewed)

    def _create(self, config: dict[str, Any]) -> bool:
        """Write `config.json` and acquire the run; return False if another command has just begun one.

        The owner says later which of two commands that start at the same moment has created the run.
        """
        with report_os_errors("creating", self.path):
            check_right_to_delete(self.path, "--run")
            self.path.mkdir(parents=True, exist_ok=True)
            if not create_text_atomically(self.path / "config.json", _json_text(config)):
                return False
        self.acquire()
        return True

    def acquire(self) -> str:
        """Make the caller the owner of the run; return its id.

        Workers of an earlier command that are still running stop before their next write. Files that it was
        writing are deleted now rather than by `begin`, which a command that is refused calls as well.
        """
        owner = f"{_THIS_PROCESS}-{uuid.uuid4().hex}"
        with report_os_errors("writing to", self.path):
            self.write_json("owner.json", owner)
            remove_temporary_files(self.path, keep=(TRIAL_NAME,))
        return owner

    def check_owner(self, owner: str | None) -> None:
        """Raise `UserError` if another command has acquired the run, or the folder has been deleted.

        An `owner` of None is not checked.
        """
        if owner is None:
            return
        current = self.read_json("owner.json")
        if current is None:
            raise UserError(f"--run {self.path}: files of the run were deleted while it was training")
        if current != owner:
            raise UserError(f"--run {self.path}: another process has taken over this run")

    def is_acquired_here(self) -> bool:
        """Return whether the owner of the run is this process."""
        return str(self.read_json("owner.json")).startswith(_THIS_PROCESS)

    def check_single_model(self, flag: str) -> None:
        """Raise `UserError`, which names `flag` and a model, if this is a folder of several runs."""
        if (self.path / SEARCH_NAME).is_file():
            best = self.path / "best"
            is_finished = best.is_dir()
            state, fix = ("a", f"give its best run, {best}") if is_finished else ("an unfinished", _AGAIN)
            raise UserError(f"{flag} {self.path} is {state} search: {fix}")
        for record, kind in ((ENSEMBLE_NAME, "an ensemble"), (CROSSVAL_NAME, "a cross-validation")):
            if (self.path / record).is_file():
                member = "member_1" if record == ENSEMBLE_NAME else first_fold(self.path)
                raise UserError(
                    f"{flag} {self.path} is {kind}: give one of its models, such as {self.path / member}"
                )
        if first_fold(self.path):
            raise UserError(f"{flag} {self.path} is an unfinished cross-validation: {_AGAIN}")

    def read_config(self, keys: Collection[str] = ()) -> dict[str, Any] | None:
        """Read `config.json`; None if it does not exist.

        Raises:
            UserError: if it is damaged or lacks one of `keys`, or is of another format.
        """
        content = self.read_object("config.json", fix=RESTORE)
        if content is None:
            return None
        check_format_version(content, self.path / "config.json")
        return self.read_object("config.json", keys, RESTORE)

    def write_json(self, name: str, values: Any) -> None:
        """Write a JSON file atomically."""
        write_text_atomically(self.path / name, _json_text(values))

    def read_json(self, name: str, fix: str = _DELETE) -> Any:
        """Read a JSON file; None if it does not exist. `fix` is what to do if it is damaged.

        Raises:
            UserError: if it is not JSON.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise UserError(f"{self.path} is a file: give the folder of a run") from None
        except ValueError as error:
            raise UserError(f"{self.path / name} is damaged ({error}): {fix}") from None

    def read_object(self, name: str, keys: Collection[str] = (), fix: str = _DELETE) -> dict[str, Any] | None:
        """Read a JSON file that holds an object with at least these keys; None if it does not exist.

        Raises:
            UserError: if it is not such a file.
        """
        content = self.read_json(name, fix)
        if content is None and not (self.path / name).is_file():
            return None
        if not isinstance(content, dict):
            raise UserError(f"{self.path / name} is damaged (not a JSON object): {fix}")
        if missing := [key for key in keys if key not in content]:
            raise UserError(f"{self.path / name} is damaged (no '{missing[0]}'): {fix}")
        return content

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Replace `metrics.jsonl`, so that a resumed run has no duplicate lines."""
        write_text_atomically(
            self.path / METRICS_NAME,
            "".join(json.dumps(epoch_metrics) + "\n" for epoch_metrics in history),
        )

    def read_history(self) -> list[dict[str, Any]]:
        """Read the lines of `metrics.jsonl`, one per epoch.

        Raises:
            UserError: if it is damaged.
        """
        path = self.path / METRICS_NAME
        try:
            history = [json.loads(line) for line in path.read_bytes().splitlines()]
            if not all(isinstance(epoch_metrics, dict) for epoch_metrics in history):
                raise ValueError("a line is not a JSON object")
            return history
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise UserError(
                f"{path} is damaged ({error}): delete it; resuming writes it again from the checkpoint"
            ) from None


def _json_text(values: Any) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False)


def describe_change(change: str, shards: Path) -> str:
    """Return the first item of `diff_settings` for users, who do not know the digests of datasets."""
    if change.startswith("shards_digest = "):
        return f"other clips than --shards {shards} has now"
    if change.startswith("extra_digests = "):
        return "other clips than --extra-shards has now"
    return change.removeprefix("config.")
