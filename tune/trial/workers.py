"""Workers of a trial with several (DDP): rank 0 is Ray Tune's process, the others are actors it starts.

The actors run in the trial's placement group and are owned by its process. So a trial acquires all its
resources or none, and releases all of them however it ends: stopped by the scheduler, failed or lost. A Ray
Train run inside a trial would have a separate placement group, which outlives a stopped trial
(docs/architecture.md).
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

# Time for all workers to start and import.
START_TIMEOUT = timedelta(seconds=120)
# After rank 0 has left the process group, workers that are still busy after this time are killed.
LEAVE_TIMEOUT_S = 5.0


class TrialWorkers:
    """Workers of the trials that one process runs, one trial after another; used by rank 0."""

    def __init__(self, spec: TrialSpec):
        self._spec = spec
        self._actors: list[Any] = []
        self._runs: list[Any] = []

    def begin(self, settings: list[TrainingConfig]) -> World:
        """Start the trial on the other workers, creating them if needed; return the world of rank 0."""
        if self._spec.workers > 1:
            self._actors = self._actors or [self._start_actor(rank) for rank in range(1, self._spec.workers)]
            address = f"tcp://{ray.util.get_node_ip_address()}:{_unused_port()}"
            self._runs = [
                actor.train.remote(self._spec, settings, rank, address)
                for rank, actor in enumerate(self._actors, start=1)
            ]
            _init_process_group(self._spec, 0, address)
        return World.current(device(self._spec), STEP_TIMEOUT_S)

    def _start_actor(self, rank: int) -> Any:
        placement_group: Any = ray.util.get_current_placement_group()
        strategy = PlacementGroupSchedulingStrategy(placement_group, placement_group_bundle_index=rank)
        actor_class: Any = ray.remote(_Worker)
        return actor_class.options(
            num_cpus=self._spec.cpus, num_gpus=self._spec.gpus, scheduling_strategy=strategy
        ).remote()

    def end(self) -> None:
        """Stop the trial on the other workers; the processes are reused for the next trial."""
        if not self._runs:
            return
        # Pending collectives on other workers then fail; a graceful shutdown would need all workers to join.
        with suppress(Exception):
            dist.distributed_c10d._abort_process_group()
        _, busy = ray.wait(self._runs, num_returns=len(self._runs), timeout=LEAVE_TIMEOUT_S)
        self._runs = []
        if busy:
            self.close()

    def close(self) -> None:
        """Kill the other workers."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []


class _Worker:
    """Worker of rank 1 or higher."""

    def train(self, spec: TrialSpec, settings: list[TrainingConfig], rank: int, address: str) -> None:
        torch.set_num_threads(spec.cpus)
        _init_process_group(spec, rank, address)
        try:
            for _ in trial_scores(spec, settings, World.current(device(spec), STEP_TIMEOUT_S)):
                pass
        except UserError:
            pass  # rank 0 has the same error and reports it
        finally:
            with suppress(Exception):
                dist.distributed_c10d._abort_process_group()


def device(spec: TrialSpec) -> torch.device:
    """Return the device of a worker: Ray makes only its own GPU visible."""
    return torch.device("cuda", 0) if spec.gpus else torch.device("cpu")


def _init_process_group(spec: TrialSpec, rank: int, address: str) -> None:
    # NCCL does not support two ranks on one GPU.
    backend = "nccl" if spec.gpus >= 1 else "gloo"
    dist.init_process_group(
        backend, init_method=address, rank=rank, world_size=spec.workers, timeout=START_TIMEOUT
    )


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
