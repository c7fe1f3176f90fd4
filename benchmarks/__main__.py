"""Run the benchmarks one after another: `python -m benchmarks AUDIO`; AUDIO has one folder per class."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path


def benchmark(name: str, *arguments: str) -> list[str]:
    """Return the command of a benchmark."""
    return [sys.executable, "-m", f"benchmarks.{name}", *arguments]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks FOLDER_OF_CLASS_FOLDERS   (make bench AUDIO=FOLDER)")
    audio = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards, run = str(folder / "shards"), str(folder / "run")
        melray = str(Path(sys.executable).parent / "melray")
        commands = [
            benchmark("bench_extract", "--audio", audio),
            benchmark("bench_memory", "--audio", audio),
            benchmark("bench_vocoder", "--audio", audio),
            [melray, "extract", "--data", audio, "--out", shards, "--copies", "2"],
            benchmark("bench_train", "--shards", shards),
            benchmark("bench_gan", "--shards", shards),
            benchmark("bench_tune", "--shards", shards, "--seeds", "0"),
            [melray, "train-classifier", "--shards", shards, "--run", run, "--epochs", "1"],
            benchmark("bench_predict", "--audio", audio, "--run", run),
            benchmark("bench_cloud", "--audio", audio, "--run", run),
        ]
        for command in commands:
            print("$", *command, flush=True)
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
