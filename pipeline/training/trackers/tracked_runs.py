"""Run folders of a command as parent and child runs, found by the names that the commands give them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.training.run_folder import METRICS_NAME, RunFolder
from pipeline.training.trackers.file_cache import FILES

# State of a run that has ended: `stopped` by the scheduler of a search, or with the command by its user.
State = Literal["finished", "stopped", "failed"]
# Names of the folders of child runs; the group is their kind.
_CHILD = re.compile(r"(fold|member)_\d+|(validated)")


@dataclass(frozen=True)
class TrackedRun:
    """A run folder as a run of a tracker."""

    folder: Path
    name: str
    """Path from the command's run folder, which comes first."""
    kind: str
    """`run` of the command itself; `fold`, `member` or `validated` run; `search`, `trial`."""
    parent: Path | None = None
    """Folder of the run that this one belongs to."""
    has_ended: bool = False
    """Whether nothing will be added, although the command runs on."""
    state: State = "finished"
    """State at the end."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Parameters in addition to those in its `config.json`."""
    scores: list[dict[str, Any]] = field(default_factory=list)
    """Metrics of epochs, if the folder has no history itself."""

    @property
    def has_samples(self) -> bool:
        """Whether generated clips are sent: not those of a search, whose trials are many."""
        return self.kind != "trial"

    @property
    def history(self) -> list[dict[str, Any]]:
        """Metrics of each epoch."""
        return FILES.read(self.folder / METRICS_NAME, RunFolder(self.folder).read_history) or self.scores


def training_runs(root: Path) -> Iterator[TrackedRun]:
    """Yield the run in a folder, and after it those that it consists of: folds, members, validated run."""
    run = TrackedRun(root, root.name, "run")
    yield run
    yield from child_runs(run)


def child_runs(parent: TrackedRun) -> Iterator[TrackedRun]:
    """Yield the runs in the folder of another, each before its own children."""
    for folder in subfolders(parent.folder):
        kind = _kind(folder.name)
        if kind:
            run = TrackedRun(folder, f"{parent.name}/{folder.name}", kind, parent.folder)
            yield run
            yield from child_runs(run)


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted; empty if it does not exist."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []


def _kind(name: str) -> str:
    """Return the kind of a child run by the name of its folder; empty if it is none."""
    match = _CHILD.fullmatch(name)
    return "" if match is None else match[1] or match[2]
