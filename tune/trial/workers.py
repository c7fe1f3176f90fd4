"""Workers of a trial with several (DDP): rank 0 is Ray Tune's process, the others are actors it starts.

The actors run in the trial's placement group and are owned by its process. So a trial acquires all its
resources or none, and releases all of them however it ends: stopped by the scheduler, failed or lost. A Ray
Train run inside a trial would have a separate placement group, which outlives a stopped trial
(docs/architecture.md).
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import ray
import torch.distributed as dist
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pipeline.distributed.devices import collective_backend, worker_device
from pipeline.distributed.failures import WorkerLostError, is_worker_lost, root_cause
from pipeline.distributed.worker import COLLECTIVE_TIMEOUT_S, STEP_TIMEOUT_S, set_up_training
from pipeline.io.errors import UserError
from pipeline.training.config import TrainingConfig
from pipeline.training.world import World
from tune.trial.scores import trial_scores
from tune.trial.spec import TrialSpec

# Time for all workers to start and import.
START_TIMEOUT = timedelta(seconds=120)
# After rank 0 has left the process group, workers that are still busy after this time are killed.
LEAVE_TIMEOUT_S = 5.0


class _Runs:
    """Runs of one trial on the other workers, followed by a thread of rank 0.

    With NCCL rank 0 would wait in a collective forever for a worker that has failed or is lost: the thread
    ends the collective, which then fails. With gloo the connection is closed anyway.
    """

    def __init__(self, refs: Sequence[Any], backend: str):
        self.refs, self._backend = list(refs), backend
        self._error: BaseException | None = None
        self._has_left = False
        self._failed = threading.Event()
        threading.Thread(target=self._follow, daemon=True).start()

    def error(self, timeout_s: float) -> BaseException | None:
        """Return the error of another worker, also one within the next `timeout_s` seconds; None if none."""
        self._failed.wait(timeout_s)
        return self._error

    def leave(self) -> None:
        """Leave the process group: the other workers fail then."""
        self._has_left = True
        with suppress(Exception):
            dist.distributed_c10d._abort_process_group()

    def _follow(self) -> None:
        running = self.refs
        while running:
            (finished,), running = ray.wait(running)
            try:
                ray.get(finished)
            except Exception as error:
                cause = root_cause(error)
                if cause is not error:
                    cause.__cause__ = error  # has the traceback
                self._end(cause)
                return

    def _end(self, error: BaseException) -> None:
        if self._has_left:
            return
        self._error = error
        self._failed.set()
        if "nccl" in self._backend:
            if is_worker_lost(error):
                # Results of an aborted collective are undefined. Ray Tune repeats a trial that exits.
                os._exit(1)
            with suppress(Exception):
                dist.distributed_c10d._abort_process_group()


class TrialWorkers:
    """Workers of the trials that one process runs, one trial after another; used by rank 0."""

    def __init__(self, spec: TrialSpec):
        self._spec = spec
        self._actors: list[Any] = []
        self._runs: _Runs | None = None

    def begin(self, settings: list[TrainingConfig], only_new: bool = False) -> World:
        """Start the trial on the other workers, creating them if needed; return the world of rank 0.

        Rank 0 must pass the same arguments to `trial_scores` as the other workers do.
        """
        device = worker_device(self._spec.gpus)
        if self._spec.workers > 1:
            self._actors = self._actors or [self._start_actor(rank) for rank in range(1, self._spec.workers)]
            self._wait_for_start()
            address = ray.util.get_node_ip_address(), _unused_port()
            refs = [
                actor.train.remote(self._spec, settings, only_new, rank, address)
                for rank, actor in enumerate(self._actors, start=1)
            ]
            self._runs = _Runs(refs, collective_backend(self._spec.gpus))
            _init_process_group(self._spec, 0, *address)
        return World.current(device, STEP_TIMEOUT_S)

    def _wait_for_start(self) -> None:
        """Wait until the other workers have started and imported, so that they then connect within seconds.

        Raises:
            UserError: a worker cannot use its GPU.
            WorkerLostError: a worker does not start.
        """
        checks = [actor.check_device.remote(self._spec) for actor in self._actors]
        try:
            ray.get(checks, timeout=START_TIMEOUT.total_seconds())
        except ray.exceptions.GetTimeoutError:
            raise WorkerLostError(f"a worker of the trial did not start within {START_TIMEOUT}") from None
        except ray.exceptions.RayError as error:
            raise root_cause(error) from error

    def _start_actor(self, rank: int) -> Any:
        placement_group: Any = ray.util.get_current_placement_group()
        strategy = PlacementGroupSchedulingStrategy(placement_group, placement_group_bundle_index=rank)
        actor_class: Any = ray.remote(_Worker)
        return actor_class.options(
            num_cpus=self._spec.cpus, num_gpus=self._spec.gpus, scheduling_strategy=strategy
        ).remote()

    def end(self) -> None:
        """Stop the trial on the other workers; the processes are reused for the next trial."""
        if self._runs is None:
            return
        # Pending collectives on other workers then fail; a graceful shutdown would need all workers to join.
        self._runs.leave()
        refs = self._runs.refs
        _, busy = ray.wait(refs, num_returns=len(refs), timeout=LEAVE_TIMEOUT_S)
        self._runs = None
        if busy:
            self.close()

    def cause_of(self, error: BaseException) -> BaseException:
        """Return the error of another worker by which rank 0 has failed with `error`, or `error` itself."""
        if self._runs is None or isinstance(error, UserError):
            return error
        # A worker closes its connections just before its run ends with an error.
        return self._runs.error(LEAVE_TIMEOUT_S if is_worker_lost(error) else 0) or error

    def close(self) -> None:
        """Kill the other workers."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []


class _Worker:
    """Worker of rank 1 or higher."""

    def check_device(self, spec: TrialSpec) -> None:
        """Raise a `UserError` if this process cannot use its GPU."""
        worker_device(spec.gpus)

    def train(
        self,
        spec: TrialSpec,
        settings: list[TrainingConfig],
        only_new: bool,
        rank: int,
        address: tuple[str, int],
    ) -> None:
        set_up_training(spec.cpus)
        device = worker_device(spec.gpus)
        _init_process_group(spec, rank, *address)
        try:
            for _ in trial_scores(spec, settings, World.current(device, STEP_TIMEOUT_S), only_new):
                pass
        finally:
            with suppress(Exception):
                dist.distributed_c10d._abort_process_group()


def _init_process_group(spec: TrialSpec, rank: int, host: str, port: int) -> None:
    store = dist.TCPStore(host, port, spec.workers, is_master=rank == 0, timeout=START_TIMEOUT)
    backend = collective_backend(spec.gpus)
    dist.init_process_group(backend, store=store, rank=rank, world_size=spec.workers, timeout=START_TIMEOUT)
    # From here on workers wait for each other while one of them works alone; NCCL connects at the first
    # collective, by the store.
    timeout = timedelta(seconds=COLLECTIVE_TIMEOUT_S)
    store.set_timeout(timeout)
    dist.distributed_c10d._set_pg_timeout(timeout)


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
