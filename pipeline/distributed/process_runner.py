"""Runs the work units of a batch job in worker processes of this host, if they are few.

As on Ray, an attempt whose process is lost is repeated, which `pipeline/distributed/attempts.py` limits, and
clips that crash or hang a process are quarantined by the stages.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.distributed.attempt_record import forget_lost_attempts
from pipeline.distributed.attempts import counted_attempt
from pipeline.distributed.batch_job import Runner, StageBuilder, UnitResult, run_stages
from pipeline.distributed.execution import local_cpus, runs_here
from pipeline.distributed.failures import WorkerLostError
from pipeline.distributed.processes import ProcessPool
from pipeline.distributed.ray_runner import RayRunner
from pipeline.distributed.work_unit import WorkUnit, units_per_cpu
from pipeline.distributed.worker import build_once
from pipeline.io.console import logger


@dataclass(frozen=True)
class ProcessRunner:
    """Runs units in worker processes, by default `units_per_cpu` of each CPU."""

    workers: int | None = None
    """Maximum number of concurrent units."""
    memory_hint: str = "lower --workers"
    """Suggestion in the error message of lost workers, for which lack of memory is the usual cause."""

    def __call__(self, units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
        """Yield the result of each unit as soon as it is finished."""
        for folder in {unit.folder for unit in units}:
            forget_lost_attempts(folder)
        run = partial(_run_unit, uuid.uuid4().hex, stages, self.memory_hint)
        with ProcessPool(self.workers or units_per_cpu(units) * local_cpus()) as pool:
            for unit in units:
                pool.submit(unit, run, unit)
            for unit, result, error in pool.results():
                if isinstance(error, WorkerLostError):
                    logger.debug("%s: %s", unit.name, error)
                    pool.submit(unit, run, unit)
                elif error is not None:
                    raise error
                else:
                    yield result


@dataclass(frozen=True)
class SizedRunner:
    """Runs units in worker processes of this host if their work is small, else on Ray."""

    seconds_per_clip: float
    """Estimated CPU time."""
    ray_runner: RayRunner
    """Runs large work; its limits and hints hold for both."""

    def __call__(self, units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
        """Yield the result of each unit as soon as it is finished.

        Raises:
            UserError: Ray cannot be started, has too few resources, or cannot run a unit.
        """
        runner: Runner = self.ray_runner
        if runs_here(self.seconds_per_clip * sum(unit.clips for unit in units)):
            runner = ProcessRunner(self.ray_runner.workers, self.ray_runner.memory_hint)
        yield from runner(units, stages)


def _run_unit(job: str, stages: Sequence[StageBuilder], memory_hint: str, unit: WorkUnit) -> UnitResult:
    attempt = counted_attempt(unit, memory_hint)
    return run_stages(unit, partial(build_once, job, stages), attempt=attempt)
