"""Runs the work units of a batch job on a Ray cluster by Ray Data: as tasks, or on GPUs as actors.

Between stages and back to the driver a result travels as bytes in a row, whatever its type. Ray repeats an
attempt whose process or node is lost; `pipeline/distributed/attempts.py` limits that.
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.distributed.attempt_record import forget_lost_attempts
from pipeline.distributed.attempts import counted_attempt
from pipeline.distributed.batch_job import Stage, StageBuilder, UnitResult, run_stages
from pipeline.distributed.clip_list import ByteRange
from pipeline.distributed.resources import (
    NodeResources,
    ResourceRequest,
    max_workers,
    wait_for_resources,
)
from pipeline.distributed.unit_sequence import run_sequence, unit_groups
from pipeline.distributed.work_unit import WorkUnit, units_per_cpu
from pipeline.distributed.worker import build_once
from pipeline.io.errors import UserError
from pipeline.io.storage import to_path


@dataclass(frozen=True)
class RayRunner:
    """Runs units on a Ray cluster, with one Ray Data task per unit on whichever CPU is free.

    Tasks rather than actors: they use nodes that join later, free their CPU between units so that other jobs
    can run, and count as demand for the autoscaler. A worker process serves many tasks and keeps the stages
    that it has built. With GPUs one stage runs on a pool of actors: a process cannot change its GPU.
    """

    wait_for_nodes: float = 0.0
    """Minutes to wait for missing nodes."""
    workers: int | None = None
    """Maximum number of concurrent units (default: one per CPU, two of windows in an object store, or one per
    GPU)."""
    gpus: float = 0.0
    """GPUs per worker; the other stages run in separate CPU tasks then."""
    gpu_stage: int = -1
    """Index of the stage that runs on GPUs."""
    hint: str = "lower --workers"
    """Suggestion in the error message of missing resources."""
    memory_hint: str = "lower --workers"
    """Suggestion in the error message of lost workers, for which lack of memory is the usual cause."""

    def __call__(self, units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
        """Yield the result of each unit as soon as it is finished.

        Raises:
            UserError: the cluster has too few resources, or Ray cannot run a unit.
        """
        nodes = self._wait_for_resources(len(stages))
        for folder in {unit.folder for unit in units}:
            forget_lost_attempts(folder)
        if self.gpus:
            rows = _dataset([_to_row(unit) for unit in units])
            rows = self._map_on_gpus(rows, stages, self._actor_pool(nodes, len(units)))
            yield from _results(rows)
        else:
            yield from self._run_on_cpus(units, stages, nodes)

    def _run_on_cpus(
        self, units: Sequence[WorkUnit], stages: Sequence[StageBuilder], nodes: Sequence[NodeResources]
    ) -> Iterator[UnitResult]:
        """Run units by tasks with one or several units each; yield the results of a task when it ends."""
        groups = unit_groups(units, self.workers or max_workers(self._need, nodes))
        # Windows are read by requests in between, which a second unit on the same CPU hides.
        num_cpus = 1 if self.workers or not units[0].windows else 1 / units_per_cpu(units)
        function = _group_function(stages, self.memory_hint)
        rows = _dataset([{"units": pickle.dumps(group)} for group in groups])
        rows = _map_on_cpus(rows, function, num_cpus, self.workers and min(self.workers, len(groups)))
        for row in _rows(rows):
            for result in pickle.loads(row["results"]):
                yield result if result.error else result._replace(summary=pickle.loads(result.summary))

    @property
    def _need(self) -> ResourceRequest:
        # Without a given number one worker is enough to start: waiting tasks then request more nodes.
        return ResourceRequest(self.workers or 1, 0 if self.gpus else 1, self.gpus)

    def _wait_for_resources(self, num_stages: int) -> list[NodeResources]:
        """Return the nodes of the cluster once all stages can run: Ray Data would wait without a message."""
        if self.gpus and num_stages > 1:
            # For the stages without a GPU: on any node, and not one for each GPU.
            wait_for_resources(ResourceRequest(1, 1), self.wait_for_nodes, "start Ray with more CPUs")
        return wait_for_resources(self._need, self.wait_for_nodes, self.hint)

    def _actor_pool(self, nodes: Sequence[NodeResources], units: int) -> Any:
        """Return a pool with an actor for each GPU, also for those of nodes that join later.

        It can start with one: another job may use the other GPUs for long.
        """
        import ray.data

        limit = min(self.workers or units, units)
        present = max(1, min(max_workers(self._need, nodes), limit))
        return ray.data.ActorPoolStrategy(
            min_size=1, max_size=limit, initial_size=present, max_tasks_in_flight_per_actor=2
        )

    def _map_on_gpus(self, rows: Any, stages: Sequence[StageBuilder], pool: Any) -> Any:
        """Map the GPU stage over the rows by actors, and the stages before and after it by CPU tasks."""
        index = self.gpu_stage % len(stages)
        before, gpu_stages, after = stages[:index], stages[index : index + 1], stages[index + 1 :]
        if before:
            rows = rows.map(_row_function(before, self.memory_hint))
        # Ray's default of a CPU per actor would leave none for the other stages, which then never run.
        actor = _row_class(gpu_stages, self.memory_hint)
        rows = rows.map(actor, compute=pool, num_cpus=0, num_gpus=self.gpus)
        return rows.map(_row_function(after, self.memory_hint)) if after else rows


def _results(rows: Any) -> Iterator[UnitResult]:
    """Yield the results of all units."""
    yield from map(_to_result, _rows(rows))


def _rows(rows: Any) -> Iterator[dict[str, Any]]:
    """Yield computed rows; errors of Ray itself become a `UserError` of one line."""
    try:
        yield from rows.iter_rows()
    except Exception as error:
        raise UserError(f"Ray could not run a work unit: {_last_line(error)}") from error


def _last_line(error: Exception) -> str:
    """Return the cause at the end of Ray's text of a remote error, which is a traceback."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def _dataset(rows: list[dict[str, Any]]) -> Any:
    """Return a Ray dataset with one block per row: each row is a task with its own progress and retries."""
    import ray.data

    return ray.data.from_items(rows, override_num_blocks=len(rows))


def _map_on_cpus(rows: Any, function: Callable[..., Any], num_cpus: float, max_concurrent: int | None) -> Any:
    import ray.data

    rows = rows.map(function, compute=ray.data.TaskPoolStrategy(max_concurrent), num_cpus=num_cpus)
    # Ray Data reserves resources for each operator so that none starves; with a single one that idles a CPU.
    rows.context.op_resource_reservation_enabled = False
    return rows


def _row_function(
    stages: Sequence[StageBuilder], memory_hint: str = ""
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the function that Ray Data maps over rows, with the name that Ray shows for its tasks."""
    build = partial(build_once, uuid.uuid4().hex, stages)
    run = partial(_run_row, build=build, memory_hint=memory_hint, stages=_display_name(stages))

    def run_row(row: dict[str, Any]) -> dict[str, Any]:
        return run(row)

    run_row.__name__ = _display_name(stages)
    return run_row


def _group_function(
    stages: Sequence[StageBuilder], memory_hint: str
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the function that Ray Data maps over groups of units, named as that over rows."""
    build = partial(build_once, uuid.uuid4().hex, stages)

    def build_all() -> list[Stage]:
        return [*build(), _dump_value]  # as a stage, so that its errors are values too

    def run_group(row: dict[str, Any]) -> dict[str, Any]:
        results = list(run_sequence(pickle.loads(row["units"]), build_all, memory_hint))
        return {"results": pickle.dumps(results)}

    run_group.__name__ = _display_name(stages)
    return run_group


def _row_class(stages: Sequence[StageBuilder], memory_hint: str) -> type:
    """Return the actor class that Ray Data maps over rows, with the name that Ray shows for its actors."""
    run = _row_function(stages, memory_hint)

    class RowActor:
        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            return run(row)

    RowActor.__name__ = _display_name(stages)
    return RowActor


def _display_name(stages: Sequence[StageBuilder]) -> str:
    return "+".join(getattr(build, "func", build).__name__ for build in stages)


def _to_row(unit: WorkUnit) -> dict[str, Any]:
    """Return a unit as a row of Ray Data."""
    row = {"name": unit.name, "clips": unit.clips, "folder": str(unit.folder), "index": unit.index}
    row |= {"list_name": unit.list_name, "list_start": unit.position.start, "list_size": unit.position.size}
    return row | {"value": b"", "error": "", "traceback": ""}


def _run_row(
    row: dict[str, Any], build: Callable[[], Sequence[Stage]], memory_hint: str, stages: str
) -> dict[str, Any]:
    """Run stages, of that name, on the unit of a row; return it with the pickled result, or with an error."""
    if row["error"]:
        return row
    folder = to_path(Path(row["folder"]))
    position = ByteRange(row["list_start"], row["list_size"])
    unit = WorkUnit(row["name"], row["clips"], folder, row["index"], row["list_name"], position)
    arguments = [row["value"]] if row["value"] else []

    def build_all() -> list[Stage]:
        # As stages, so that their errors are values too: a result may not fit into memory.
        return [*([_load_value] if arguments else []), *build(), _dump_value]

    attempt = counted_attempt(unit, memory_hint, later_stages=f".{stages}" if arguments else "")
    result = run_stages(unit, build_all, *arguments, attempt=attempt)
    value = b"" if result.error else result.summary
    return row | {"value": value, "error": result.error, "traceback": result.traceback}


def _load_value(unit: WorkUnit, value: bytes) -> Any:
    return pickle.loads(value)


def _dump_value(unit: WorkUnit, value: Any) -> bytes:
    return pickle.dumps(value)


def _to_result(row: dict[str, Any]) -> UnitResult:
    summary = pickle.loads(row["value"]) if row["value"] else None
    return UnitResult(row["name"], summary, row["error"], row["traceback"])
