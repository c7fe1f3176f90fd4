"""What a tracker has of a run, recorded in its folder: a resumed run continues the same run of the tracker.

RUN/tracker_mlflow.json, RUN/tracker_wandb.json
"""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Self

from pipeline.training.run_folder import RunFolder


@dataclass
class TrackerRecord:
    """Record of one tracker in a run folder."""

    project: str
    """Project or experiment in which the run was created."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    """Chosen before the tracker's run is created, which therefore is never created twice."""
    remote_id: str = ""
    """Id of the tracker's run, once it exists."""
    epoch: int = 0
    """Last epoch that was sent."""
    state: str = ""
    """State with which the tracker's run was ended; empty while it is open."""
    sent: dict[str, str] = field(default_factory=dict)
    """Digests of the files that were sent, by their path in the run folder; folders of samples have none."""

    @staticmethod
    def file_name(tracker: str) -> str:
        """Return the name of the file of a tracker."""
        return f"tracker_{tracker}.json"

    @classmethod
    def read(cls, folder: Path, tracker: str, project: str) -> Self:
        """Read the record of a run folder; a new one, in `project`, if there is none.

        Raises:
            UserError: it is damaged.
        """
        content = RunFolder(folder).read_object(cls.file_name(tracker), ("project", "id"))
        if content is None:
            return cls(project)
        names = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in content.items() if name in names})

    def write(self, folder: Path, tracker: str) -> None:
        """Write the record atomically."""
        RunFolder(folder).write_json(self.file_name(tracker), asdict(self))
