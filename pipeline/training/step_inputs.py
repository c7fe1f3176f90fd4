"""Inputs of a training step: sampled on the host, copied to the device in one piece.

A blocking copy to a GPU costs more than most kernels of a step. All arrays of a step are therefore packed
into one pinned buffer, copied by one asynchronous copy, and are views of it on the device.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")

# Alignment of each array in the buffer, in bytes: that of the widest vector load of a GPU.
ALIGNMENT = 16
# Batches that are prepared ahead of the GPU.
PREFETCHED_BATCHES = 4


@dataclass(frozen=True)
class Layout:
    """Names, types and shapes of packed arrays, in order; equal layouts can share a CUDA graph."""

    fields: tuple[tuple[str, torch.dtype, tuple[int, ...]], ...]

    def offsets(self) -> list[int]:
        """Return the first byte of each array, and last the size of the buffer."""
        offsets = [0]
        for _, dtype, shape in self.fields:
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            offsets.append(offsets[-1] + -(-size // ALIGNMENT) * ALIGNMENT)
        return offsets

    def views(self, buffer: Tensor) -> dict[str, Tensor]:
        """Return the arrays as views of a buffer of bytes."""
        offsets = self.offsets()
        return {
            name: buffer[start : start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize]
            .view(dtype)
            .view(shape)
            for (name, dtype, shape), start in zip(self.fields, offsets, strict=False)
        }


@dataclass(frozen=True)
class PackedInputs:
    """Inputs of a step on the host, as one buffer of bytes that is pinned if a GPU is to read it."""

    layout: Layout
    buffer: Tensor


# Inputs of a step by name: tensors on its device; on a CPU its scalars are numbers instead.
Inputs = Mapping[str, Any]


def pack(arrays: Mapping[str, np.ndarray | float], pin: bool) -> PackedInputs:
    """Copy arrays, and numbers as float32, into one buffer.

    Args:
        arrays: values by name.
        pin: use pinned memory, from which a GPU copies asynchronously.
    """
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(value))
        if isinstance(value, np.ndarray)
        else torch.tensor(value, dtype=torch.float32)
        for name, value in arrays.items()
    }
    layout = Layout(tuple((name, value.dtype, tuple(value.shape)) for name, value in tensors.items()))
    # Pinned memory comes from a cache, which reuses it only after the copies from it are finished.
    buffer = torch.empty(layout.offsets()[-1], dtype=torch.uint8, pin_memory=pin)
    for name, view in layout.views(buffer).items():
        view.copy_(tensors[name])
    return PackedInputs(layout, buffer)


def prepare_inputs(arrays: Mapping[str, np.ndarray | float], device: torch.device) -> PackedInputs | Inputs:
    """Prepare the inputs of a step for `StepRunner.run`: tensors for a CPU, a packed buffer for others."""
    if device.type == "cpu":
        return {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for name, value in arrays.items()
        }
    return pack(arrays, pin=device.type == "cuda")


def prefetch(
    function: Callable[[int], T], count: int, device: torch.device, depth: int = PREFETCHED_BATCHES
) -> Generator[T, None, None]:
    """Yield `function(0)`, …, `function(count - 1)`; for a GPU they are computed ahead in a thread.

    On a CPU, whose cores all compute, each is computed when it is needed.

    Raises:
        Exception: as `function` does, at the item that failed.
    """
    if device.type != "cuda":
        yield from map(function, range(count))
        return
    with closing(_Prefetcher(function, count, depth)) as prefetcher:
        yield from prefetcher


class _Prefetcher(Generic[T]):
    """Thread that computes items ahead, at most `depth` of them."""

    def __init__(self, function: Callable[[int], T], count: int, depth: int):
        self._function, self._count = function, count
        self._items: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        for _ in range(self._count):
            item, error = self._items.get()
            if error is not None:
                raise error
            yield item  # type: ignore[misc]

    def _run(self) -> None:
        for number in range(self._count):
            item: tuple[T | None, BaseException | None]
            try:
                item = (self._function(number), None)
            except BaseException as error:
                item = (None, error)
            while not self._stopped.is_set():
                try:
                    self._items.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._stopped.is_set() or item[1] is not None:
                return

    def close(self) -> None:
        """Stop the thread, also if items are left."""
        self._stopped.set()
        self._thread.join()
