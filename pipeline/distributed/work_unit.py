"""Work units of a batch job: neighboring clips that become one output file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.distributed.clip_list import ByteRange, read_clips, write_clip_lists
from pipeline.distributed.unit_digests import digest, to_arrow, unit_digests
from pipeline.io.errors import UserError, check_not_storage, report_os_errors
from pipeline.io.storage import is_remote


@dataclass(frozen=True)
class WorkUnit:
    """Neighboring clips of a job that become one output file."""

    name: str
    """Name of the output file."""
    clips: int
    """Number of clips."""
    folder: Path
    """Folder of the outputs and of the clip list."""
    index: int
    """Position among the units of the job."""
    list_name: str
    """Name of the clip list, which contains a digest of the plan: no other plan's list is ever read."""
    position: ByteRange
    """Where the clips are in the list."""
    windows: bool = False
    """Whether the clips are windows of recordings, of which parts are read."""

    @property
    def path(self) -> Path:
        """Output file; it exists if and only if the unit is finished."""
        return self.folder / self.name

    def read_clips(self) -> list[dict[str, Any]]:
        """Read the clips of the unit from the job's list, with the columns of the manifest.

        Raises:
            OSError: the list cannot be read.
        """
        return read_clips(self.folder / self.list_name, self.position)


def make_work_units(clips: pd.DataFrame, clips_per_unit: int, settings: Any, folder: Path) -> list[WorkUnit]:
    """Split a manifest into work units of neighboring clips, and write these to `folder`.

    The arguments are those of `BatchJob`.

    Raises:
        UserError: the list cannot be written.
    """
    table = to_arrow(clips)
    digests = unit_digests(table, clips_per_unit, settings)
    with report_os_errors("writing the list of clips to", folder):
        positions = write_clip_lists(table, clips_per_unit, folder, digest(digests))
    return [
        WorkUnit(
            f"part-{index:05d}-{unit_digest}.parquet",
            min(clips_per_unit, len(clips) - index * clips_per_unit),
            folder,
            index,
            list_name,
            position,
            "start" in clips,
        )
        for index, (unit_digest, (list_name, position)) in enumerate(zip(digests, positions, strict=True))
    ]


def units_per_cpu(units: Sequence[WorkUnit]) -> int:
    """Return how many units share a CPU: two whose outputs are in an object store.

    One of them computes while the other waits for its list of clips, its first clips, or its output.
    """
    return 2 if any(is_remote(unit.folder) for unit in units) else 1


def damaged_output(unit: WorkUnit, error: Exception) -> UserError:
    """Return the error for an output that cannot be read, perhaps left by an interrupted job.

    Raises:
        UserError: its storage cannot be read.
    """
    check_not_storage(error, unit.path)
    reason = " ".join(str(error).split())
    return UserError(f"{unit.path} is damaged ({reason}): delete it and run the command again to resume")
