"""Constant tensors that are computed once per process."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache

import torch
from torch import Tensor


def cached_tensor(make: Callable[..., Tensor], *args: Hashable) -> Tensor:
    """Return `make(*args)`, computed once per process for equal arguments, of which one is the device."""
    # A graph that is traced must not hold a tensor of the process, nor the cache one of the graph.
    return make(*args) if torch.compiler.is_compiling() else _cached(make, *args)


# No tensor is ever dropped, as CUDA graphs have their addresses. There are few, for each size of spectrogram.
@cache
def _cached(make: Callable[..., Tensor], *args: Hashable) -> Tensor:
    # Validation comes with inference mode, whose tensors are of no use to a later training step.
    with torch.inference_mode(False):
        return make(*args)


def clear_cached_tensors() -> None:
    """Compute all of them again when they are needed."""
    _cached.cache_clear()
