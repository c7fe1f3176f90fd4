"""Checkpoints within an epoch: after some minutes, and when a node is to be taken away.

The batches and the augmentation of a step depend on seed, epoch and step only. What a checkpoint within an
epoch holds in addition to the training state is therefore little: the number of finished steps, the sums of
the metrics, and the states of the random generators.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.training.checkpoint import POSITION_NAME
from pipeline.training.world import World

# Seconds between two checks whether a checkpoint is due, for which several workers wait for each other.
CHECK_S = 2.0
# Seconds between checkpoints while a node is about to be taken away.
PREEMPTION_CHECKPOINT_S = 30.0
# Added to the seeds of an epoch when it continues with another number of workers.
_CONTINUED = 1
# Tensors and values that a checkpoint within an epoch has in addition.
PositionTensors = tuple[dict[str, Tensor], dict[str, Any]]


@dataclass(frozen=True)
class EpochPosition:
    """Position of this rank in an unfinished epoch."""

    steps: int
    """Finished steps of the epoch."""
    seconds: float
    """Time that they took."""
    sums: Tensor
    """Sums of this rank's metrics over these steps, float32 `[shape=(K,)]`, on the CPU."""
    random_state: Tensor | None
    """State of this rank's random generator; None if the number of workers or the device has changed."""


def seed_epoch(seed: list[int], position: EpochPosition | None, device: torch.device) -> None:
    """Seed the random generator of this process for an epoch, or restore it within one.

    Args:
        seed: non-negative numbers that define the epoch.
        position: where the epoch continues; None at its start.
        device: device of the training.
    """
    if position is not None and position.random_state is not None:
        _set_random_state(position.random_state, device)
        return
    numbers = seed if position is None else [*seed, position.steps, _CONTINUED]
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def position_tensors(world: World, sums: Tensor, steps: int, seconds: float) -> PositionTensors:
    """Return the tensors and the values for a checkpoint within an epoch; a collective.

    Args:
        world: process group.
        sums: sums of this rank's metrics `[shape=(K,)]`.
        steps: finished steps of the epoch.
        seconds: time that they took.
    """
    ranks = world.gather((sums.detach().cpu().float().numpy(), _random_state(world.device).numpy()))
    tensors = {
        "sums": torch.from_numpy(np.stack([sums for sums, _ in ranks])),
        "random_states": torch.from_numpy(np.stack([state for _, state in ranks])),
    }
    return tensors, {"steps": steps, "seconds": seconds}


def read_position(
    world: World, tensors: dict[str, dict[str, Tensor]], values: dict[str, Any]
) -> EpochPosition | None:
    """Return the position of this rank that a checkpoint has; None for the checkpoint of an epoch."""
    if POSITION_NAME not in values:
        return None
    position, group = values[POSITION_NAME], tensors[POSITION_NAME]
    sums, states = group["sums"], group["random_states"]
    state: Tensor | None = None
    if len(sums) == world.size:
        # Copies: torch reads the state of a generator from the start of its memory.
        own, state = sums[world.rank].clone(), states[world.rank].clone()
        if len(state) != len(_random_state(world.device)):
            state = None  # of another kind of device, on which the epoch has begun
    else:
        own = sums.sum(dim=0) * (world.rank == 0)
    return EpochPosition(position["steps"], position["seconds"], own, state)


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


class EpochCheckpoints:
    """Decides after which steps a checkpoint within an epoch is written, the same on all ranks."""

    def __init__(
        self,
        world: World,
        minutes: float,
        is_preempted: Callable[[], bool],
        save: Callable[[PositionTensors], None],
    ):
        """Write checkpoints `minutes` minutes after the last (0: never), or if a node is to be taken away.

        Args:
            world: process group.
            minutes: minutes between checkpoints.
            is_preempted: returns whether this node is about to be taken away.
            save: writes one with the result of `position_tensors`; called on rank 0.
        """
        self._world, self._save, self._is_preempted = world, save, is_preempted
        self._interval_s = 60 * minutes if minutes else float("inf")
        self._was_preempted = False
        self.start_epoch(0)

    def start_epoch(self, steps: int) -> None:
        """Count the time from now, where an epoch starts or continues after a number of its steps."""
        self._last = time.monotonic()
        self._next_check, self._last_check = steps + 1, (steps, time.monotonic())

    def after_step(self, steps: int, sums: Tensor, seconds: float) -> None:
        """Write a checkpoint if one is due; a collective.

        Args:
            steps: finished steps of the epoch.
            sums: sums of this rank's metrics so far `[shape=(K,)]`.
            seconds: time that the epoch has taken so far.

        Raises:
            UserError: that of `save`, on all ranks.
        """
        if self._is_due(steps):
            self.write(steps, sums, seconds)
            self._last = time.monotonic()

    def write(self, steps: int, sums: Tensor, seconds: float) -> None:
        """Write a checkpoint now; the arguments and errors are those of `after_step`; a collective."""
        position = position_tensors(self._world, sums, steps, seconds)
        self._world.run_on_main_rank(partial(self._save, position))

    def _is_due(self, steps: int) -> bool:
        elapsed = time.monotonic() - self._last
        if self._world.size == 1:
            return self._wants(elapsed, self._is_preempted())
        if steps < self._next_check:
            return False
        # The clocks of the ranks differ: rank 0 decides, and all agree on the step of the next check.
        last_steps, last_time = self._last_check
        pace = (time.monotonic() - last_time) / max(1, steps - last_steps)
        ranks = self._world.gather((elapsed, pace, self._is_preempted()))
        self._last_check = (steps, time.monotonic())
        self._next_check = steps + max(1, round(CHECK_S / max(ranks[0][1], 1e-6)))
        return self._wants(ranks[0][0], any(preempted for _, _, preempted in ranks))

    def _wants(self, elapsed: float, preempted: bool) -> bool:
        """Return whether a checkpoint is due `elapsed` seconds after the last; at once after a notice."""
        is_new, self._was_preempted = preempted and not self._was_preempted, preempted
        interval = min(self._interval_s, PREEMPTION_CHECKPOINT_S) if preempted else self._interval_s
        return is_new or elapsed >= interval
