"""Latency from `melray submit` to the first epoch of a training run on a running cluster, by phase.

    python -m benchmarks.bench_submit --shards FOLDER [--rounds 3]

Starts and stops a local cluster of one node; no other may be running. The first round is a warmup and
excluded. Also counts the processes of a job that load torch: the worker alone needs it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.common import save_result, summarize

MELRAY = str(Path(sys.executable).parent / "melray")


def torch_processes() -> int:
    """Return the number of processes on this host that have loaded torch."""
    count = 0
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):  # a process that has ended
            count += "libtorch_cpu" in maps.read_text(encoding="utf-8", errors="replace")
    return count


def submit(shards: Path, run: Path) -> tuple[dict[str, float], int]:
    """Submit a training run.

    Returns:
        The seconds from the start of the command to each event, and the number of processes of the job that
        had loaded torch when the first epoch ended.
    """
    others, loaded = torch_processes(), 0
    command = [
        "train-classifier",
        "--shards",
        str(shards),
        "--run",
        str(run),
        "--epochs",
        "1",
        "--model.channels",
        "8",
        "16",
    ]
    events: dict[str, float] = {}
    start_time = time.perf_counter()

    def record(name: str) -> None:
        events.setdefault(name, time.perf_counter() - start_time)

    def watch_files() -> None:
        nonlocal loaded
        # Files that the job writes in this order.
        files = {
            "run folder created": run / "config.json",
            "run acquired by the worker": run / "owner.json",
            "training started": run / "tensorboard",
        }
        while "finished" not in events:
            for name, path in files.items():
                if path.exists():
                    record(name)
            history = run / "metrics.jsonl"
            if "first epoch" not in events and history.is_file() and history.stat().st_size:
                record("first epoch")
                loaded = torch_processes() - others
            time.sleep(0.02)

    watcher = threading.Thread(target=watch_files)
    watcher.start()
    job = subprocess.Popen(
        [MELRAY, "submit", "--preinstalled", "--follow", "--", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    assert job.stdout is not None
    for line in job.stdout:
        if line.startswith("package:"):
            record("package uploaded")
        elif line.startswith("job "):
            record("submitted")
        elif line.startswith("shards:") or line.startswith("{"):
            record("command started")
    job.wait()
    record("finished")
    watcher.join()
    if job.returncode:
        sys.exit(f"the job failed with exit code {job.returncode}")
    return events, loaded


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    subprocess.run([MELRAY, "cluster", "up", "--nodes", "1", "--cpus", str(os.cpu_count())], check=True)
    folder = Path(tempfile.mkdtemp())
    try:
        rounds = [
            submit(arguments.shards.absolute(), folder / str(number))
            for number in range(arguments.rounds + 1)
        ][1:]
    finally:
        subprocess.run([MELRAY, "cluster", "down"], check=True)
        shutil.rmtree(folder, ignore_errors=True)
    first, _ = rounds[0]
    names = sorted(first, key=first.__getitem__)
    save_result(
        "submit",
        {
            "seconds_since_start": {
                name: summarize([events[name] for events, _ in rounds if name in events]) for name in names
            },
            "processes_that_load_torch": summarize([loaded for _, loaded in rounds]),
        },
    )


if __name__ == "__main__":
    main()
