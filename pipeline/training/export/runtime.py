"""Exported models as functions of arrays, on one thread, and how long a call takes."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch

# Calls that are timed, after one that is not, and the seconds after which no further one begins.
TIMED_CALLS, MAX_TIMED_S = 30, 5.0


@dataclass(frozen=True)
class ExportedModel:
    """An exported model, loaded; a call returns its first output."""

    outputs: Callable[..., Sequence[np.ndarray]]
    """Returns all outputs of one or several inputs."""

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        return self.outputs(*inputs)[0]


def run_onnx(content: bytes) -> ExportedModel:
    """Load an ONNX model, to be run by ONNX Runtime on a CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    return ExportedModel(lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True))))


def run_program(content: bytes) -> ExportedModel:
    """Load a program of `torch.export`."""
    module: Any = torch.export.load(io.BytesIO(content)).module()

    def outputs(*inputs: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            result = module(*map(torch.from_numpy, inputs))
        return [value.numpy() for value in (result if isinstance(result, tuple) else (result,))]

    return ExportedModel(outputs)


def milliseconds_per_call(work: Callable[[], Any]) -> float:
    """Return the median wall time of a call in milliseconds, with torch on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work()
        times: list[float] = []
        begin = time.perf_counter()
        while len(times) < TIMED_CALLS and time.perf_counter() - begin < MAX_TIMED_S:
            start_time = time.perf_counter()
            work()
            times.append(time.perf_counter() - start_time)
    finally:
        torch.set_num_threads(threads)
    return 1000 * median(times)
