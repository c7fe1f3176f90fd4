"""Adam and AdamW without PyTorch's compiler, whose import takes each process seconds and memory.

PyTorch's own methods import it before their first use, only to exclude themselves from compiled code. melray
compiles networks alone, and an optimizer is never called from compiled code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer

OptimizerT = TypeVar("OptimizerT", bound=Optimizer)


def _unwrap(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return what PyTorch has decorated; the method itself in releases that do not decorate it."""
    return getattr(method, "__wrapped__", method)


def _without_compiler(kind: type[OptimizerT]) -> type[OptimizerT]:
    """Derive a class of optimizers with the same results.

    The decorator of `step` also disables gradients, that of the other methods does nothing else.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods: dict[str, Any] = {name: _unwrap(getattr(kind, name)) for name in names}
    methods["step"] = torch.no_grad()(_unwrap(kind.step))
    return type(kind.__name__, (kind,), methods)


Adam = _without_compiler(torch.optim.Adam)
AdamW = _without_compiler(torch.optim.AdamW)
