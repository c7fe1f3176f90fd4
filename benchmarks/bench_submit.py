"""From `melray submit` to the first step of a training, on a cluster that runs already, taken apart into its pieces.

    python -m benchmarks.bench_submit --shards FOLDER [--rounds 3]

The cluster is one node on this machine, which this starts and ends; no other may be up. The first round also warms it.
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
from pathlib import Path

from benchmarks.common import save, spread

MELRAY = str(Path(sys.executable).parent / "melray")


def submit(shards: Path, run: Path) -> dict[str, float]:
    """Seconds since the start of the command, at each of its marks."""
    words = [
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
    marks: dict[str, float] = {}
    start = time.perf_counter()

    def mark(name: str) -> None:
        marks.setdefault(name, time.perf_counter() - start)

    def watch() -> None:
        # Files that the job writes as it goes on.
        seen = {
            "run opened": run / "config.json",
            "workers claimed it": run / "owner.json",
            "first log of the workers": run / "tensorboard",
        }
        while "ended" not in marks:
            for name, path in seen.items():
                if path.exists():
                    mark(name)
            history = run / "metrics.jsonl"
            if history.is_file() and history.stat().st_size:
                mark("first epoch done")
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    job = subprocess.Popen(
        [MELRAY, "submit", "--preinstalled", "--follow", "--", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert job.stdout is not None
    for line in job.stdout:
        if line.startswith("package:"):
            mark("packed")
        elif line.startswith("job "):
            mark("submitted")
        elif line.startswith("shards:") or line.startswith("{"):
            mark("command runs")
    job.wait()
    mark("ended")
    watcher.join()
    if job.returncode:
        sys.exit(f"the job ended with {job.returncode}")
    return marks


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
    names = sorted(rounds[0], key=rounds[0].__getitem__)
    save(
        "submit",
        {
            "seconds_since_the_start": {
                name: spread([one[name] for one in rounds if name in one]) for name in names
            }
        },
    )


if __name__ == "__main__":
    main()
