"""CPUs, GPUs and memory of this host that a process may use, as Ray counts them."""

from __future__ import annotations

import os
from pathlib import Path

# CPU time and period of the cgroup of a container, in version 2 in one file, in version 1 in two.
_QUOTA_FILES = (
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
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
    """Return the memory of this host in bytes."""
    import psutil

    return float(psutil.virtual_memory().total)
