"""Time and success of `melray cluster up`, while other processes keep the CPUs busy.

    python -m benchmarks.bench_cluster_up [--starts 10] [--nodes 3] [--busy 4]

No local cluster may be running.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.common import save_result, summarize, timed

MELRAY = [sys.executable, "-c", "from cluster.cli import main; main()"]


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Run `count` processes that compute without end."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def start_and_stop(nodes: int) -> dict[str, Any]:
    """Start a cluster of nodes with one CPU each, and stop it; return the seconds of both, and any error."""
    result: dict[str, Any] = {}

    def run(*arguments: str) -> None:
        process = subprocess.run(
            [*MELRAY, "cluster", *arguments], capture_output=True, text=True, encoding="utf-8"
        )
        if process.returncode:
            result["error"] = process.stderr.strip().splitlines()[-1]

    result["up"] = timed(lambda: run("up", "--nodes", str(nodes), "--cpus", "1"))
    result["down"] = timed(lambda: run("down"))
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--busy", type=int, default=2 * (os.cpu_count() or 1), help="other busy processes")
    arguments = parser.parse_args()
    with busy_processes(arguments.busy):
        starts = [start_and_stop(arguments.nodes) for _ in range(arguments.starts)]
    failed = [start["error"] for start in starts if "error" in start]
    save_result(
        "cluster_up",
        {
            "nodes": arguments.nodes,
            "busy_processes": arguments.busy,
            "started": f"{len(starts) - len(failed)} of {len(starts)}",
            "errors": failed,
            "seconds_up": summarize([start["up"] for start in starts]),
            "seconds_down": summarize([start["down"] for start in starts]),
        },
    )


if __name__ == "__main__":
    main()
