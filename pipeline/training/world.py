"""Process-group helpers: rank, device, collectives."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.io.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The workers of a training, seen from one of them."""

    rank: int
    size: int
    device: torch.device
    timeout_s: float = 0.0
    """Seconds that a step may take before the process ends itself, to be replaced; 0: any."""

    @staticmethod
    def current(device: torch.device, patience: float = 0.0) -> World:
        """The world of the running process group, or of one."""
        if dist.is_available() and dist.is_initialized():
            return World(dist.get_rank(), dist.get_world_size(), device, patience)
        return World(0, 1, device, patience)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose gradients are averaged over workers; the model itself where there is one worker."""
        if self.size == 1:
            return model
        return DistributedDataParallel(
            model, device_ids=[self.device] if self.device.type == "cuda" else None
        )

    def average_gradients(self, model: nn.Module) -> None:
        """Means of the gradients over all workers, in one message; for where DDP's hooks don't fit: several backward passes a step,
        one of them twice differentiated."""
        if self.size == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients]) / self.size
        dist.all_reduce(flat)
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all workers; reached by each of them equally often."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def broadcast(self, tensors: list[Tensor]) -> None:
        """Gives every worker the values of the first."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def run_on_all_ranks(self, action: Callable[[], T]) -> T:
        """Runs `action` on every worker; if it fails for one, all raise its error, and none waits for another.

        Raises:
            UserError: the first worker's.
        """
        value: Any = None
        fault = None
        try:
            value = action()
        except UserError as error:
            fault = str(error)
        faults: list[str | None] = [fault]
        if self.size > 1:
            faults = [None] * self.size
            dist.all_gather_object(faults, fault)
        first = next((text for text in faults if text is not None), None)
        if first is not None:
            raise UserError(first)
        return value


# What runs on each worker: takes the settings of a training, returns its result.
TrainLoop = Callable[[Any, World], dict[str, Any]]
# A training that yields the entry of each epoch once it is published, and returns its result.
EpochGenerator = Generator[dict[str, Any], None, dict[str, Any]]


def exhaust(epochs: EpochGenerator) -> dict[str, Any]:
    """Runs a training to its end; returns its result."""
    while True:
        try:
            next(epochs)
        except StopIteration as end:
            return end.value


def rank_slice(size: int, world: World) -> slice:
    """This worker's part of `size` things; the parts differ by one at the most, and are all of them together."""
    bounds = [size * rank // world.size for rank in (world.rank, world.rank + 1)]
    return slice(*bounds)
