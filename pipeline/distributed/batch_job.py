"""A job over many clips, cut into units that are done whole or not at all.

A unit's name holds a digest of all that goes into it: the settings, and each clip's name, label, size and time. What is
there under that name is therefore what would be made, and a job that runs again makes only what is missing.

The clips of all units lie in one file, which workers read a unit of: so neither the driver nor Ray holds a list of millions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pipeline.distributed.resources import ResourceRequest, max_workers, wait_for_resources
from pipeline.io.errors import report_os_errors
from pipeline.io.files import write_atomically
from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import to_path

LIST_NAME = ".units.arrow"


@dataclass(frozen=True)
class WorkUnit:
    """Some clips of a job, and the name of the file that they become."""

    name: str
    clips: int
    """How many."""
    folder: Path
    """Where the list of all lies."""
    index: int


def make_work_units(clips: pd.DataFrame, size: int, settings: Any, folder: Path) -> list[WorkUnit]:
    """Cuts a manifest into units of `size` neighbouring clips, the same for any cluster, and writes the list that workers read.

    Args:
        clips: the manifest.
        size: clips of a unit; the last may have fewer.
        settings: JSON-able; all else that decides what a unit becomes.
        folder: where the list goes; it must be there.

    Raises:
        UserError: when the list can't be written.
    """
    units = []
    for index, start in enumerate(range(0, len(clips), size)):
        records: list[Any] = clips.iloc[start : start + size].to_dict("records")
        digest = hashlib.sha256(json.dumps([settings, records], sort_keys=True).encode()).hexdigest()[:12]
        units.append(WorkUnit(f"part-{index:05d}-{digest}.parquet", len(records), folder, index))
    table = pa.Table.from_pandas(clips, preserve_index=False).combine_chunks()

    def write(file: Any) -> None:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=size)

    with report_os_errors("writing", folder / LIST_NAME):
        write_atomically(folder / LIST_NAME, write)
    return units


def unit_to_row(unit: WorkUnit) -> dict[str, Any]:
    """A unit as a row of Ray Data."""
    return {"name": unit.name, "folder": str(unit.folder), "index": unit.index}


def read_unit_clips(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The clips of a packed unit.

    Raises:
        OSError: when the list can't be read.
    """
    path = to_path(Path(row["folder"])) / LIST_NAME
    source = path.open_input() if isinstance(path, RemotePath) else pa.memory_map(str(path))
    with source, pa.ipc.open_file(source) as reader:
        return reader.get_batch(int(row["index"])).to_pylist()


def dataset_of_units(units: list[WorkUnit]) -> Any:
    """A dataset with one block a unit: Ray's default would put many into one task, and their progress and retries with them."""
    import ray.data

    return ray.data.from_items([unit_to_row(unit) for unit in units], override_num_blocks=len(units))


def iter_single_stage(data: Any) -> Iterator[dict[str, Any]]:
    """The rows of a dataset with a single stage after its source, as they come.

    Ray Data sets resources aside for each stage, so that none starves another. With one stage that only keeps a CPU idle: on
    two CPUs one task ran at a time.
    """
    data.context.op_resource_reservation_enabled = False
    yield from data.iter_rows()


def actor_pool(workers: int | None, units: int, minutes: float, gpus: float = 0.0) -> Any:
    """A pool of as many actors as asked for, or as the cluster has room for and there are units; with a CPU each, or `gpus` GPUs.

    It may start with one actor: a fixed one would wait for ever where another job holds a CPU. Where there is no room for all,
    it waits `minutes` for machines.

    Raises:
        UserError: when the cluster has no room for so many.
    """
    import ray.data

    need = ResourceRequest(workers or 1, 0 if gpus else 1, gpus)
    nodes = wait_for_resources(need, minutes, "lower --workers")
    wanted = workers or max(1, min(max_workers(need, nodes), units))
    return ray.data.ActorPoolStrategy(
        min_size=1, max_size=wanted, initial_size=wanted, max_tasks_in_flight_per_actor=2
    )
