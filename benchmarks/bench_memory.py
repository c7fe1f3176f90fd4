"""Peak memory of the driver and of the largest worker, as the dataset grows a hundredfold.

python -m benchmarks.bench_memory --audio FOLDER_OF_CLASS_FOLDERS
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import convert_to_wav, save_result, timed
from cluster.connection.session import session
from pipeline.extract import ExtractConfig, extract


class PeakMemory:
    """Peak resident memory of this process and of its largest Ray worker during a `with` block, in MiB."""

    def __enter__(self) -> PeakMemory:
        self.driver = self.worker = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        process = psutil.Process()
        while not self._stop.wait(0.1):
            self.driver = max(self.driver, process.memory_info().rss / 2**20)
            for child in process.children(recursive=True):
                try:
                    if child.cmdline() and child.cmdline()[0].startswith("ray::"):
                        # Shared memory (object store, libraries) is not attributed to a worker.
                        memory = child.memory_info()
                        self.worker = max(self.worker, (memory.rss - memory.shared) / 2**20)
                except psutil.Error:
                    continue


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--repeats", type=int, nargs="+", default=[1, 10, 100])
    arguments = parser.parse_args()
    sizes: list[dict[str, Any]] = []
    for repeat in arguments.repeats:
        with tempfile.TemporaryDirectory() as name, session():
            audio = convert_to_wav(arguments.audio, Path(name) / "wav", repeat)
            clips = sum(1 for _ in audio.rglob("*.wav"))
            out = Path(name) / "out"
            with PeakMemory() as peak:
                elapsed = timed(lambda: extract(ExtractConfig(data=audio, out=out, copies=0)))  # noqa: B023
            sizes.append(
                {
                    "clips": clips,
                    "driver_mib": round(peak.driver),
                    "largest_worker_mib": round(peak.worker),
                    "seconds": round(elapsed, 1),
                }
            )
            print(sizes[-1], flush=True)
            shutil.rmtree(out)
    save_result("memory", {"sizes": sizes, "cores": os.cpu_count()})


if __name__ == "__main__":
    main()
