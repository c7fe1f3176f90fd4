"""The workers of a trial that has several: the first is Tune's own process, the others are actors beside it.

They live in the trial's placement group and belong to its process. So a trial takes all it needs at once or waits as a whole, and
whatever ends it, a scheduler or a fault, gives everything back. A Ray Train run inside a trial has a placement group of its own,
which outlives a stopped trial (docs/architecture.md).
"""

from __future__ import annotations

import socket
from contextlib import suppress
from datetime import timedelta
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pipeline.distributed.worker import STEP_TIMEOUT_S
from pipeline.io.errors import UserError
from pipeline.training.config import TrainingConfig
from pipeline.training.world import World
from tune.trial.scores import trial_scores
from tune.trial.spec import TrialSpec

# Workers start and import within this time, or something is wrong.
START_TIMEOUT = timedelta(seconds=120)
# Workers whose first one left the process group are free again within so many seconds, or are ended.
LEAVE_SECONDS = 5.0


class TrialWorkers:
    """All workers of the trials that one process runs, one trial after the other, from the first worker's side."""

    def __init__(self, job: TrialSpec):
        self._job = job
        self._others: list[Any] = []
        self._runs: list[Any] = []

    def begin(self, settings: list[TrainingConfig]) -> World:
        """Has the other workers, started where there are none, train along; returns the world of the first."""
        if self._job.workers > 1:
            self._others = self._others or [self._start(rank) for rank in range(1, self._job.workers)]
            address = f"tcp://{ray.util.get_node_ip_address()}:{_free_port()}"
            self._runs = [
                actor.train.remote(self._job, settings, rank, address)
                for rank, actor in enumerate(self._others, start=1)
            ]
            _init_process_group(self._job, 0, address)
        return World.current(device(self._job), STEP_TIMEOUT_S)

    def _start(self, rank: int) -> Any:
        own: Any = ray.util.get_current_placement_group()
        place = PlacementGroupSchedulingStrategy(own, placement_group_bundle_index=rank)
        worker: Any = ray.remote(_Worker)
        return worker.options(
            num_cpus=self._job.cpus, num_gpus=self._job.gpus, scheduling_strategy=place
        ).remote()

    def end(self) -> None:
        """Has the other workers leave the trial, wherever they are; they wait for the next one."""
        if not self._runs:
            return
        # Whoever waits for this process in a sum then gets an error. In order, all would have to be asked first.
        with suppress(Exception):
            dist.distributed_c10d._abort_process_group()
        _, busy = ray.wait(self._runs, num_returns=len(self._runs), timeout=LEAVE_SECONDS)
        self._runs = []
        if busy:
            self.close()

    def close(self) -> None:
        """Ends the other workers."""
        for actor in self._others:
            ray.kill(actor)
        self._others = []


class _Worker:
    """Any worker but the first."""

    def train(self, job: TrialSpec, settings: list[TrainingConfig], rank: int, address: str) -> None:
        torch.set_num_threads(job.cpus)
        _init_process_group(job, rank, address)
        try:
            for _ in trial_scores(job, settings, World.current(device(job), STEP_TIMEOUT_S)):
                pass
        except UserError:
            pass  # the first worker has the same, and tells it
        finally:
            with suppress(Exception):
                dist.distributed_c10d._abort_process_group()


def device(job: TrialSpec) -> torch.device:
    """Where a trial's worker computes: Ray shows it its own GPU only."""
    return torch.device("cuda", 0) if job.gpus else torch.device("cpu")


def _init_process_group(job: TrialSpec, rank: int, address: str) -> None:
    # NCCL refuses two workers on one GPU.
    backend = "nccl" if job.gpus >= 1 else "gloo"
    dist.init_process_group(
        backend, init_method=address, rank=rank, world_size=job.workers, timeout=START_TIMEOUT
    )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]
