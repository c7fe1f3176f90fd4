"""What a tracker can do: interface of the client libraries, as `follower.py` uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pipeline.training.trackers.record import TrackerRecord


class Artifact(NamedTuple):
    """A file of a run."""

    name: str
    """Path in the run folder."""
    path: Path
    """Local file with its content."""


class NewRun(NamedTuple):
    """What a tracker's run is created with."""

    name: str
    kind: str
    group: str
    """Name of the command's run, which all runs of the command share."""
    parent_id: str
    """Id of the tracker's run that this one belongs to; may be empty."""
    parameters: Mapping[str, Any]


class TrackerClient(Protocol):
    """A tracker; every function may raise any error of its library."""

    def start(self, record: TrackerRecord, new: NewRun) -> None:
        """Continue the run of a record, or create it; sets `remote_id` and `epoch` of the record."""

    def log_epoch(
        self, record: TrackerRecord, epoch: int, metrics: Mapping[str, float], samples: Sequence[Artifact]
    ) -> None:
        """Send the metrics of an epoch, and the generated clips that were written after it."""

    def log_results(
        self, record: TrackerRecord, results: Mapping[str, float], files: Sequence[Artifact]
    ) -> None:
        """Send the results of a run and the files that have them."""

    def log_model(
        self, record: TrackerRecord, name: str, files: Sequence[Artifact], metadata: Mapping[str, Any]
    ) -> None:
        """Send a model, and register it as a new version of the model `name`."""

    def close(self, record: TrackerRecord, state: str) -> None:
        """End a run with one of the values of `State`; it may be opened again."""
