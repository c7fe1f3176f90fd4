"""A device for tests without a GPU: its tensors have values, but do not mix with those of the CPU.

A `DeviceTensor` reports the device `meta`, for which code takes the path of a GPU. Operations on it, within
`simulated_device()`, compute on the CPU; they fail if they mix its tensors with those of the CPU, as on a
GPU. Copies between the devices are counted: those to the CPU wait for the device.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from models.cached_tensors import clear_cached_tensors

DEVICE = torch.device("meta")
TO_DEVICE, TO_CPU = "to the device", "to the CPU"


class DeviceTensor(Tensor):
    """Tensor of the simulated device."""

    values: Tensor
    """Its values, on the CPU."""

    @staticmethod
    def __new__(cls, values: Tensor) -> DeviceTensor:
        """Return a tensor of the device with these values, which are not copied."""
        tensor: DeviceTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=DEVICE,
        )
        tensor.values = values
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse operations that are not within `simulated_device()`."""
        raise RuntimeError(f"{func}: a tensor of the simulated device outside of simulated_device()")


class _SimulatedDevice(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.copies: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_device = any(isinstance(tensor, DeviceTensor) for tensor in tensors)
        if kwargs.get("device") is not None:
            on_device = torch.device(kwargs["device"]) == DEVICE
            kwargs["device"] = torch.device("cpu")
        name = func.overloadpacket.__name__
        if name == "copy_":
            on_device = isinstance(args[0], DeviceTensor)
            self._count_copy(args[1], on_device)
        elif name == "_to_copy":
            self._count_copy(args[0], on_device)
        elif name == "_local_scalar_dense":
            self._count_copy(args[0], False)
        elif any(isinstance(tensor, DeviceTensor) for tensor in tensors):
            _check_devices(func, tensors)
        result = func(*tree_map(_values, args), **tree_map(_values, kwargs))
        return _on_device(tensors, result) if on_device else result

    def _count_copy(self, source: Tensor, to_device: bool) -> None:
        if isinstance(source, DeviceTensor) != to_device:
            self.copies[TO_DEVICE if to_device else TO_CPU] += 1


def _check_devices(func: Any, tensors: list[Tensor]) -> None:
    # As on a GPU, scalars of the CPU are allowed.
    for tensor in tensors:
        if not isinstance(tensor, DeviceTensor) and tensor.ndim:
            raise RuntimeError(f"{func}: tensors of the device and of the CPU {tuple(tensor.shape)}")


def _values(argument: Any) -> Any:
    return argument.values if isinstance(argument, DeviceTensor) else argument


def _on_device(arguments: list[Tensor], result: Any) -> Any:
    """Return results as tensors of the device; an operation in place returns its argument."""
    known = {id(tensor.values): tensor for tensor in arguments if isinstance(tensor, DeviceTensor)}

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else DeviceTensor(value)

    return tree_map(wrap, result)


@contextmanager
def simulated_device() -> Iterator[Counter[str]]:
    """Let tensors of `DEVICE` have values; provide the number of copies in each direction."""
    with _SimulatedDevice() as device:
        try:
            yield device.copies
        finally:  # its tensors are of no use to later tests
            clear_cached_tensors()
