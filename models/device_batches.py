"""Batches of inference on a device: how many items they hold, and how they are copied there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Fraction of a GPU's memory for the activations of a batch: the same GPU may hold the dataset and the state
# of a training run, or serve several workers. Of its total memory, not of what is free now: the same card
# always has the same batches, and with them the same last bits.
GPU_MEMORY_FRACTION = 1 / 8


def device_batch_size(item_bytes: float, device: torch.device, cpu: int, most: int) -> int:
    """Return the number of items of a batch.

    Args:
        item_bytes: memory that an item takes on the device during the computation, roughly.
        device: device of the computation.
        cpu: size on a CPU.
        most: maximum size on other devices, with which they are busy; fewer where memory is small.
    """
    if device.type == "cpu":
        return cpu
    if device.type != "cuda":
        return most
    memory = torch.cuda.get_device_properties(device).total_memory
    return max(1, min(most, int(GPU_MEMORY_FRACTION * memory / item_bytes)))


def to_device(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Copy values to a device without waiting for the copy; on a CPU they are not copied."""
    if isinstance(values, Tensor):
        tensor = values
    else:
        # A part of a read-only memory map is copied: PyTorch warns that it could be written to.
        tensor = torch.from_numpy(np.require(values, requirements=["C_CONTIGUOUS", "WRITEABLE"]))
    if device.type == "cuda" and tensor.device.type == "cpu":
        return pinned(tensor).to(device, non_blocking=True)
    return tensor.to(device)


def pinned(tensor: Tensor) -> Tensor:
    """Return a tensor in pinned memory, from which a GPU copies without waiting."""
    # Pinned memory has the strides of the tensor: an expanded one would be written to several times.
    return tensor.contiguous().pin_memory()
