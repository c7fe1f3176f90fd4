"""Count of copies from the host to a device, without a GPU: the device is `meta`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")


class CountCopies(TorchDispatchMode):
    """Counts the operations that read a CPU tensor and write one on `meta`."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        devices = [
            {leaf.device.type for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)}
            for values in ((args, kwargs), out)
        ]
        if "cpu" in devices[0] and "meta" in devices[0] | devices[1]:
            self.names.append(str(func))
        return out


class NoOptimizer(torch.optim.Optimizer):
    """Optimizer that does nothing; the fused ones, which copy nothing, do not run on `meta`."""

    def __init__(self, model: nn.Module):
        super().__init__(model.parameters(), {"lr": torch.zeros((), device=META)})

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        pass
