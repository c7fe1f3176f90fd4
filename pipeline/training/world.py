"""Process-group helpers: rank, device, collectives."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.distributed.worker import watchdog
from pipeline.io.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The process group of a training run as seen from one worker."""

    rank: int
    size: int
    device: torch.device
    timeout_s: float = 0.0
    """Time limit of a training step in seconds, after which the process exits; 0 disables it."""
    report: Callable[[dict[str, Any]], None] | None = None
    """Called with the metrics of each epoch, by all workers."""

    @staticmethod
    def current(device: torch.device, timeout_s: float = 0.0) -> World:
        """Return the initialized process group, or a world of one worker.

        Raises:
            ValueError: the process group has no backend for CPUs, by which objects are exchanged.
        """
        if dist.is_available() and dist.is_initialized():
            if dist.get_world_size() > 1 and "cpu:" not in dist.get_backend_config():
                raise ValueError(
                    f"process group of {dist.get_backend_config()} without a backend for CPUs: "
                    "use cpu:gloo,cuda:nccl"
                )
            return World(dist.get_rank(), dist.get_world_size(), device, timeout_s)
        return World(0, 1, device, timeout_s)

    def with_report(self, report: Callable[[dict[str, Any]], None]) -> World:
        """Return this world with a function that is called with the metrics of each epoch."""
        return replace(self, report=report)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Wrap a model in DDP, which averages gradients over workers; return it as is for a single worker."""
        if self.size == 1:
            return model
        return DistributedDataParallel(
            model, device_ids=[self.device] if self.device.type == "cuda" else None
        )

    def average_gradients(self, model: nn.Module) -> None:
        """Average the gradients over all workers in one all-reduce.

        For steps that DDP's hooks do not support: several backward passes, one of them twice differentiated.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients]) / self.size
        self.sum(flat)
        means = flat.split([gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all workers, in place; a collective, so every rank must call it."""
        self._check_device(values)
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def broadcast(self, tensors: list[Tensor]) -> None:
        """Overwrite the tensors of every rank with those of rank 0."""
        for tensor in tensors:
            self._check_device(tensor)
            if self.size > 1:
                dist.broadcast(tensor, 0)

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, by rank; a collective. They are pickled, so keep them small."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def run_on_all_ranks(self, action: Callable[[], T]) -> T:
        """Run `action` on every rank; if any rank fails, all ranks raise the first error.

        Raises:
            UserError: the error of the lowest rank that failed.
        """
        value, error_text = self._run(action)
        _raise_first(self.gather(error_text))
        return value

    def run_on_main_rank(self, action: Callable[[], T]) -> T:
        """Run `action` on rank 0; all ranks return its result, which is pickled, or raise its error.

        Raises:
            UserError: the error of `action`.
        """
        outcome: tuple[Any, str | None] = self._run(action) if self.rank == 0 else (None, None)
        value, error_text = self.gather(outcome)[0]
        _raise_first([error_text])
        return value

    def _run(self, action: Callable[[], Any]) -> tuple[Any, str | None]:
        """Return the result of `action` and None, or None and the text of its `UserError`.

        The other ranks wait for it without a limit, so the process exits if it hangs: long work calls
        `pipeline.distributed.worker.heartbeat`.
        """
        with watchdog(self.timeout_s):
            try:
                return action(), None
            except UserError as error:
                return None, str(error)

    def _check_device(self, tensor: Tensor) -> None:
        """Check that a collective gets a tensor of this worker's device: NCCL has no CPU tensors."""
        if tensor.device.type != self.device.type:
            raise ValueError(f"a tensor on {tensor.device} in a collective of a worker on {self.device}")


def _raise_first(error_texts: Sequence[str | None]) -> None:
    first_error = next((text for text in error_texts if text is not None), None)
    if first_error is not None:
        raise UserError(first_error)


# A single worker without process group, for what is done on a CPU.
SINGLE_WORKER = World(0, 1, torch.device("cpu"))
# Training loop of one worker: takes the settings of a run, returns its result.
TrainLoop = Callable[[Any, World], dict[str, Any]]
# Training loop that yields the metrics of each epoch once its checkpoint is written, and returns the result.
EpochGenerator = Generator[dict[str, Any], None, dict[str, Any]]


def exhaust(epochs: EpochGenerator, world: World) -> dict[str, Any]:
    """Run a training loop to its end, and report its epochs; return its result."""
    while True:
        try:
            metrics = next(epochs)
        except StopIteration as end:
            return end.value
        if world.report is not None:
            world.report(metrics)


def rank_slice(size: int, world: World) -> slice:
    """Return this rank's slice of `size` items; slices are disjoint, cover all, and differ by at most one."""
    start, stop = (size * rank // world.size for rank in (world.rank, world.rank + 1))
    return slice(start, stop)
