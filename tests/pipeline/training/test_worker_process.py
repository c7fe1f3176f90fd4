"""Worker processes of training runs are set up before they allocate memory."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.distributed.processes import ProcessPool, start_fork_server, stop_fork_server
from pipeline.training.worker_process import run_single_worker

SIZE = 1 << 26


def huge_bytes() -> int:
    """Return how much of this process's memory lies in large pages."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHugePages"))


def has_huge_pages() -> bool:
    """Return whether the kernel provides large pages to a process that asks for them."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return False
    before = huge_bytes()
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            return False
        memory.write(b"1" * SIZE)
        return huge_bytes() - before > 0.9 * SIZE


def memory_in_huge_pages(*_: Any) -> dict[str, Any]:
    """Return how much of a large tensor, as a feature map is, lies in large pages, in bytes."""
    tensor = torch.ones(SIZE // 4)
    return {"threads": torch.get_num_threads(), "huge": huge_bytes(), "size": tensor.nbytes}


@pytest.mark.skipif(not has_huge_pages(), reason="the kernel provides no large pages")
def test_training_uses_large_pages() -> None:
    start_fork_server(["pipeline.classifier.loop", "pipeline.gan.loop"])
    try:
        with ProcessPool(1, threads=2) as pool:
            pool.submit("run", run_single_worker, memory_in_huge_pages, None, 2, 0.0)
            ((_, result, error),) = pool.results()
    finally:
        stop_fork_server()
    assert error is None and result["threads"] == 2
    assert result["huge"] > 0.9 * result["size"]
