"""Sends what is new in the run folders of a command to one tracker, and records what was sent.

The files of the run folders are the queue: nothing is kept in memory, and nothing is lost while a tracker is
down. An error ends the round; the next one continues with what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.io.storage import local_file
from pipeline.training.trackers import run_files
from pipeline.training.trackers.client import Artifact, NewRun, TrackerClient
from pipeline.training.trackers.record import TrackerRecord
from pipeline.training.trackers.tracked_runs import State, TrackedRun

# Assumed speed of a slow connection, in bytes per second, for the time that an upload may take.
SLOW_BYTES_PER_S = 500_000
# Runs of a command that cannot be sent, after which the others are not tried.
MAX_ERRORS = 3


@dataclass(frozen=True)
class Command:
    """The command whose runs are followed."""

    root: Path
    """Its run folder."""
    read_runs: Callable[[Path], Iterable[TrackedRun]]
    settings: dict[str, Any]
    """Its settings, which are parameters of its own run."""
    project: str
    """Project or experiment of new runs."""


class Follower:
    """Follows the runs of a command for one tracker."""

    def __init__(
        self, command: Command, tracker: str, client: TrackerClient, on_progress: Callable[[float], None]
    ):
        """`on_progress` is called before each request with the seconds that it may take beyond the usual."""
        self._command, self._tracker, self._client = command, tracker, client
        self._on_progress = on_progress
        self._records: dict[Path, TrackerRecord] = {}
        self._open: set[Path] = set()
        self._ended: set[Path] = set()

    def poll(self) -> None:
        """Send what is new in all runs, and end those that have ended; raises the first error."""
        for run in self._runs():
            self._send(run, run.state if run.has_ended else "")

    def finish(self, state: State) -> None:
        """Send everything that is left and end all runs, with `state` those that are not complete.

        Raises the first error, once all other runs were sent, unless there are many errors.
        """
        errors = []
        for run in self._runs():
            is_complete = (run.folder / "summary.json").is_file()
            try:
                self._send(run, run.state if run.has_ended or is_complete else state)
            except Exception as error:
                errors.append(error)
                if len(errors) == MAX_ERRORS:
                    break
        if errors:
            raise errors[0]

    def _runs(self) -> Iterator[TrackedRun]:
        """Yield the runs that exist and have not ended."""
        for run in self._command.read_runs(self._command.root):
            if run.folder not in self._ended and run.folder.is_dir():
                yield run

    def _send(self, run: TrackedRun, end: str) -> None:
        """Send what is new in a run; with `end`, also its results, and end it with this state."""
        record = self._record(run.folder)
        if run.has_ended and record.state == end:
            self._ended.add(run.folder)  # by an earlier command
            return
        self._open_run(run, record)
        self._send_epochs(run, record)
        if end:
            self._send_results(run, record)
            if run.folder == self._command.root:
                self._send_model(record)
            self._on_progress(0)
            self._client.close(record, end)
            record.state = end
            record.write(run.folder, self._tracker)
            self._ended.add(run.folder)

    def _record(self, folder: Path) -> TrackerRecord:
        if folder not in self._records:
            self._records[folder] = TrackerRecord.read(folder, self._tracker, self._command.project)
        return self._records[folder]

    def _open_run(self, run: TrackedRun, record: TrackerRecord) -> None:
        """Open the tracker's run unless it is open; its id is recorded before it is created."""
        if run.folder in self._open:
            return
        record.state = ""
        record.write(run.folder, self._tracker)
        self._on_progress(0)
        self._client.start(record, self._new_run(run))
        record.write(run.folder, self._tracker)
        self._open.add(run.folder)

    def _new_run(self, run: TrackedRun) -> NewRun:
        is_root = run.folder == self._command.root
        return NewRun(
            run.name,
            run.kind,
            self._command.root.name,
            "" if run.parent is None else self._record(run.parent).remote_id,
            run_files.parameters(run.folder, run.parameters | (self._command.settings if is_root else {})),
        )

    def _send_epochs(self, run: TrackedRun, record: TrackerRecord) -> None:
        """Send the epochs that the tracker does not have; one that was trained again is not sent again."""
        new = [metrics for metrics in run.history if metrics["epoch"] > record.epoch]
        samples = run_files.sample_folders(run.folder) if run.has_samples and new else {}
        for metrics in new:
            epoch = metrics["epoch"]
            folders = [name for name, sampled in samples.items() if sampled == epoch]
            names = [name for folder in folders for name in run_files.sample_files(run.folder, folder)]
            with _artifacts(run.folder, names) as files:
                self._on_progress(_upload_seconds(files))
                self._client.log_epoch(record, epoch, run_files.epoch_values(metrics), files)
            record.epoch = epoch
            record.write(run.folder, self._tracker)

    def _send_results(self, run: TrackedRun, record: TrackerRecord) -> None:
        """Send the results of a run and the files with them whose content the tracker does not have."""
        with _artifacts(run.folder, run_files.result_files(run.folder)) as files:
            digests = {file.name: run_files.digest(file.path) for file in files}
            new = [file for file in files if record.sent.get(file.name) != digests[file.name]]
            if new:
                self._on_progress(_upload_seconds(new))
                self._client.log_results(record, run_files.results(run.folder), new)
                self._add_sent(run.folder, record, digests)

    def _send_model(self, record: TrackerRecord) -> None:
        """Send the command's model, all its files as one version, unless the tracker has it."""
        root = self._command.root
        names = run_files.model_files(root)
        with _artifacts(root, names) as files:
            digests = {f"model: {file.name}": run_files.digest(file.path) for file in files}
            if digests.items() <= record.sent.items():
                return
            metadata = run_files.model_metadata(root, names)
            self._on_progress(_upload_seconds(files))
            name = f"{record.project}-{metadata.get('kind', 'model')}"
            self._client.log_model(record, name, files, metadata)
            self._add_sent(root, record, digests)

    def _add_sent(self, folder: Path, record: TrackerRecord, digests: dict[str, str]) -> None:
        record.sent |= digests
        record.write(folder, self._tracker)


@contextmanager
def _artifacts(folder: Path, names: Iterable[str]) -> Iterator[list[Artifact]]:
    """Provide files of a run folder on the local disk."""
    with ExitStack() as stack:
        yield [Artifact(name, stack.enter_context(local_file(folder / name))) for name in names]


def _upload_seconds(files: list[Artifact]) -> float:
    """Return the time that an upload takes on a slow connection, in seconds."""
    return sum(file.path.stat().st_size for file in files) / SLOW_BYTES_PER_S


def project_name(root: Path) -> str:
    """Return the default name of the project or experiment of a run: that of the folder that it is in."""
    return root.parent.name or "melray"
