"""Worker processes of training runs are set up before they allocate memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.distributed.processes import ProcessPool, start_fork_server, stop_fork_server
from pipeline.training.worker_process import run_single_worker

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def memory_in_huge_pages(*_: Any) -> dict[str, Any]:
    """Return how much of a large tensor, as a feature map is, lies in large pages, in bytes."""
    tensor = torch.ones(1 << 24)
    lines = Path("/proc/self/smaps").read_text().splitlines()
    huge = sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHugePages"))
    return {"threads": torch.get_num_threads(), "huge": huge, "size": tensor.nbytes}


@pytest.mark.skipif(
    not HUGE_PAGES.is_file() or "[never]" in HUGE_PAGES.read_text(), reason="the kernel has no large pages"
)
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
