"""All benchmarks, one after the other: `python -m benchmarks AUDIO`, where AUDIO holds one folder a class."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks FOLDER_OF_CLASS_FOLDERS   (make bench AUDIO=FOLDER)")
    audio = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        melray = str(Path(sys.executable).parent / "melray")
        steps = [
            [sys.executable, "-m", "benchmarks.bench_extract", "--audio", audio],
            [sys.executable, "-m", "benchmarks.bench_memory", "--audio", audio],
            [sys.executable, "-m", "benchmarks.bench_vocoder", "--audio", audio],
            [melray, "extract", "--data", audio, "--out", str(folder / "shards"), "--copies", "2"],
            [sys.executable, "-m", "benchmarks.bench_train", "--shards", str(folder / "shards")],
            [sys.executable, "-m", "benchmarks.bench_gan", "--shards", str(folder / "shards")],
            [
                sys.executable,
                "-m",
                "benchmarks.bench_tune",
                "--shards",
                str(folder / "shards"),
                "--seeds",
                "0",
            ],
            [
                melray,
                "train-classifier",
                "--shards",
                str(folder / "shards"),
                "--run",
                str(folder / "run"),
                "--epochs",
                "1",
            ],
            [
                sys.executable,
                "-m",
                "benchmarks.bench_predict",
                "--audio",
                audio,
                "--run",
                str(folder / "run"),
            ],
        ]
        for command in steps:
            print("$", *command, flush=True)
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
