"""Limits of a device, the time in which it is busy, and the floating-point operations and bytes of a step.

On a CPU, for which the benchmarks run only to test themselves, there is no busy time.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

# Categories of a profiler trace in which the GPU works.
BUSY_CATEGORIES = ("kernel", "gpu_memcpy", "gpu_memset")


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Return the wall time of a call in seconds, until the device has finished its work."""
    synchronize(device)
    start_time = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start_time


def device_limits(device: torch.device) -> dict[str, float]:
    """Measure a large bfloat16 matrix product in FLOP/s, and a large copy in bytes/s, read and written."""
    size, values, repeats = (8192, 2**30, 20) if device.type == "cuda" else (256, 2**20, 2)
    first, second = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    source = torch.zeros(values, dtype=torch.float16, device=device)
    target = torch.empty_like(source)
    actions: dict[str, tuple[float, Callable[[], Any]]] = {
        "flops": (2.0 * size**3, lambda: first @ second),
        "bandwidth": (2.0 * source.nbytes, lambda: target.copy_(source)),
    }
    limits = {}
    for name, (amount, action) in actions.items():
        action()
        seconds = [device_seconds(lambda: [action() for _ in range(repeats)], device) for _ in range(3)]  # noqa: B023
        limits[name] = amount * repeats / min(seconds)
    return limits


def busy_seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Run `work` under the profiler; return the seconds in which any kernel, copy or fill was running."""
    if device.type != "cuda":
        return math.nan
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
        synchronize(device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    spans = [
        (float(event["ts"]), float(event["ts"]) + float(event["dur"]))
        for event in events
        if event.get("cat") in BUSY_CATEGORIES and "dur" in event
    ]
    return union_length(spans) / 1e6


def union_length(spans: list[tuple[float, float]]) -> float:
    """Return the length of the union of intervals `(start, end)`."""
    total, covered_until = 0.0, -math.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, covered_until))
        covered_until = max(covered_until, end)
    return total


class TrafficCounter(TorchDispatchMode):
    """Counts the bytes of the tensors that each operation reads and writes, views excluded.

    It is the traffic of kernels that are not fused; caches serve a part of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not (getattr(func, "is_view", False) or "empty" in name or name == "detach"):
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
            self.bytes += sum(x.numel() * x.element_size() for x in tensors)
        return out


def step_cost(step: Callable[[], Any]) -> dict[str, float]:
    """Return the floating-point operations and the bytes of a training step."""
    with FlopCounterMode(display=False) as flops:
        step()
    with TrafficCounter() as traffic:
        step()
    return {"flops": float(flops.get_total_flops()), "bytes": float(traffic.bytes)}
