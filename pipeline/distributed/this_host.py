"""CPUs, GPUs and memory of this host that a process may use, as Ray counts them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

# CPU time and period of the cgroup of a container, in version 2 in one file, in version 1 in two.
_QUOTA_FILES = (
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
# For version 2 and 1 of cgroups: folder, files with limit and usage of the memory, and prefix of the sizes of
# cached files in memory.stat.
_MEMORY_FILES = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", ""),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)
_GPU_FOLDER = Path("/proc/driver/nvidia/gpus")


def host_cpus() -> int:
    """Return the number of CPUs that Slurm, taskset or a container leave to this process; at least 1."""
    has_affinity = hasattr(os, "sched_getaffinity")  # Linux
    count = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    quota = _container_cpus()
    return count if quota is None else max(1, min(count, int(quota)))


def _container_cpus() -> float | None:
    """Return the CPUs to which a container is limited; None without a limit."""
    for paths in _QUOTA_FILES:
        try:
            quota, period = " ".join(Path(path).read_text(encoding="ascii") for path in paths).split()
            if int(quota) > 0:
                return int(quota) / int(period)
        except (OSError, ValueError):  # no such file, or `max`: not limited
            continue
    return None


def host_gpus() -> int:
    """Return the number of GPUs, also if torch is built without CUDA; imports torch, which is slow."""
    import torch

    if torch.backends.cuda.is_built():
        return torch.cuda.device_count()
    try:
        return len(list(_GPU_FOLDER.iterdir()))
    except OSError:
        return 0


def host_memory() -> float:
    """Return the memory of this host, or of the container that this process is in, in bytes."""
    import psutil

    container = _container_memory()
    total = float(psutil.virtual_memory().total)
    return total if container is None else min(total, container.limit)


def available_memory() -> float:
    """Return how much of the memory is available to new processes, in bytes."""
    import psutil

    container = _container_memory()
    available = float(psutil.virtual_memory().available)
    return available if container is None else max(0.0, min(available, container.limit - container.used))


class _ContainerMemory(NamedTuple):
    """Memory of a container in bytes."""

    limit: int
    used: int
    """Without cached files, which give way to other data."""


def _container_memory() -> _ContainerMemory | None:
    """Return the memory to which a container is limited; None without a limit."""
    for folder, *names, prefix in _MEMORY_FILES:
        try:
            limit, usage, statistics = (
                Path(folder, name).read_text(encoding="ascii") for name in (*names, "memory.stat")
            )
            sizes = dict(line.split() for line in statistics.splitlines())
            cached = int(sizes[f"{prefix}active_file"]) + int(sizes[f"{prefix}inactive_file"])
            return _ContainerMemory(int(limit), int(usage) - cached)
        except (OSError, ValueError, KeyError):  # no such file, or `max`: not limited
            continue
    return None
