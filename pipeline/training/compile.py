"""torch.compile with a fallback: where it cannot work, a warning says why and training continues without it.

On a GPU torch.compile writes kernels for Triton, which compiles their launchers in C; on a CPU it writes C++.
Without a compiler or Python's headers it would fail in the first step, with a long traceback.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.io.console import logger

# The oldest GPUs that Triton supports: Volta.
MIN_CUDA_CAPABILITY = (7, 0)


class CompiledModel(nn.Module):
    """A network compiled on its first call, once for all batch sizes; shares its weights.

    If the compiler fails, a warning is logged, and this call and all later ones run the network itself.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self._call: Any = torch.compile(model)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the network; the first axis of all tensors is the batch."""
        for tensor in _tensors((*args, *kwargs.values())):
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        try:
            if torch.is_grad_enabled():
                return self._call(*args, **kwargs)
            # Calls without gradients would be compiled separately, which takes longer than it saves.
            with torch.enable_grad():
                output = self._call(*args, **kwargs)
            return output.detach()
        except torch._dynamo.exc.TorchDynamoException as error:
            _warn(_first_line(error))
            self._call = self.model
            return self.model(*args, **kwargs)


def compile_model(model: nn.Module, enabled: bool) -> nn.Module:
    """Return a compiled version of a network, or the network itself if it is not wanted or cannot work.

    Args:
        model: network, on its device, possibly wrapped in DDP.
        enabled: whether to compile (`--compile`).
    """
    if not enabled:
        return model
    reason = missing_for_compile(next(model.parameters()).device)
    if reason is not None:
        _warn(reason)
        return model
    return CompiledModel(model)


def missing_for_compile(device: torch.device) -> str | None:
    """Return what torch.compile lacks on this node, with the fix; None if nothing is missing."""
    if device.type == "cuda":
        if find_spec("triton") is None:
            return "the package triton is not installed (pip install triton)"
        if torch.cuda.get_device_capability(device) < MIN_CUDA_CAPABILITY:
            return f"Triton does not support {torch.cuda.get_device_name(device)}"
        names, variable, package = ["gcc", "clang"], "CC", "gcc libc6-dev"
    else:
        names, variable, package = ["g++"], "CXX", "g++"
    if os.environ.get(variable):
        names = [os.environ[variable]]
    if not any(map(shutil.which, names)):
        return (
            f"no {'C' if variable == 'CC' else 'C++'} compiler ({' or '.join(names)}) in PATH "
            f"(apt install {package})"
        )
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.is_file():
        return f"Python's headers are not installed: no {header} (apt install python3-dev)"
    return None


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among arguments, and those in dataclasses among them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif is_dataclass(value):
            yield from _tensors(vars(value).values())


def _first_line(error: Exception) -> str:
    """Return type and first line of the innermost error, without the compiler's output."""
    cause = getattr(error, "inner_exception", error)
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"


def _warn(reason: str) -> None:
    logger.warning("--compile: %s; training without it", reason)
