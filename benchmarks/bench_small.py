"""Small work, everything included from the command line to its exit: with and without Ray, and librosa.

    python -m benchmarks.bench_small --audio FOLDER_OF_CLASS_FOLDERS

Each round starts all commands one after another as processes of their own: extraction of 80 clips by librosa
with joblib, by melray, and by melray on Ray; prediction of 20 files and training for three epochs, each on
this host and on Ray. Ratios are computed per round.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import convert_to_wav, save_result, summarize, summarize_ratios, timed

CORES = os.cpu_count() or 1
MELRAY = [sys.executable, "-c", "from cluster.cli import main; main()"]
# What a user would write: load, trim, fix the length, log-mel; on all cores, into one Parquet file.
LIBROSA = """
import sys
import joblib, librosa, numpy as np, pyarrow as pa, pyarrow.parquet as pq
from pathlib import Path

def row(path):
    samples, rate = librosa.load(path, sr=22050)
    samples = librosa.util.fix_length(librosa.effects.trim(samples, top_db=60)[0], size=5 * rate)
    return librosa.power_to_db(librosa.feature.melspectrogram(y=samples, sr=rate)).astype(np.float16)

paths = sorted(Path(sys.argv[1]).rglob("*.wav"))
rows = joblib.Parallel(n_jobs=int(sys.argv[3]))(joblib.delayed(row)(path) for path in paths)
pq.write_table(pa.table({"mel": [row.reshape(-1) for row in rows]}), sys.argv[2])
"""
PREDICTED_FILES = 20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-ray", action="store_true", help="leave out the slow commands on Ray")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["MELRAY_CACHE"] = str(folder / "cache")
        wav = convert_to_wav(arguments.audio, folder / "wav")
        audio = select_clips(wav, folder / "clips", arguments.clips)
        few = select_clips(wav, folder / "few", PREDICTED_FILES)
        commands = make_commands(audio, few, folder, not arguments.no_ray)
        for run in commands.values():  # files and bytecode in the page cache, and a model to predict with
            run()
        seconds: dict[str, list[float]] = {key: [] for key in commands}
        for _ in range(arguments.rounds):
            for key, run in commands.items():
                seconds[key].append(timed(run))
    save_result("small", report(seconds, arguments))


def select_clips(wav: Path, out: Path, count: int) -> Path:
    """Link the first clips of each class to a folder, `count` in all; return the folder."""
    by_rank = sorted(
        (rank, path)
        for class_folder in sorted(wav.iterdir())
        if class_folder.is_dir()
        for rank, path in enumerate(sorted(class_folder.iterdir()))
    )
    for _, path in by_rank[:count]:
        (out / path.parent.name).mkdir(parents=True, exist_ok=True)
        os.link(path, out / path.parent.name / path.name)
    return out


def make_commands(audio: Path, few: Path, folder: Path, with_ray: bool) -> dict[str, Callable[[], None]]:
    """Return what is measured by name, in an order in which each finds what it needs."""
    shards, run = folder / "extract", folder / "train"
    network = "--epochs 3 --model.channels 16 32 64 128 --model.convs-per-block 1".split()
    melray: dict[str, list[Any]] = {
        "extract": ["extract", "--data", audio, "--copies", 0],
        "train": ["train-classifier", "--shards", shards, *network],
        "predict": ["predict", "--run", run, "--audio", few],
    }
    commands: dict[str, Callable[[], None]] = {"librosa": partial(extract_with_librosa, audio, folder)}
    for suffix in ("", "_ray") if with_ray else ("",):
        for command, flags in melray.items():
            out_flag = "--run" if command == "train" else "--out"
            where = ["--ray"] if suffix else []
            out = folder / (command + suffix)
            commands[command + suffix] = partial(run_melray, [*flags, *where, out_flag, out], out)
    return commands


def extract_with_librosa(audio: Path, folder: Path) -> None:
    command = [sys.executable, "-c", LIBROSA, audio, folder / "librosa.parquet", str(CORES)]
    subprocess.run(command, check=True)


def run_melray(flags: list[Any], out: Path) -> None:
    """Run a command whose output folder does not exist."""
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run([*MELRAY, *map(str, flags)], check=True, capture_output=True)


def report(seconds: dict[str, list[float]], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return medians and ratios per round."""
    result: dict[str, Any] = {
        "clips": arguments.clips,
        "predicted_files": PREDICTED_FILES,
        "rounds": arguments.rounds,
        "seconds": {key: summarize(values) for key, values in seconds.items()},
        "ratio_to_librosa": {
            key: summarize_ratios(values, seconds["librosa"])
            for key, values in seconds.items()
            if key != "librosa"
        },
    }
    on_ray = [key for key in seconds if f"{key}_ray" in seconds]
    result["ray_to_this_host"] = {
        key: summarize_ratios(seconds[f"{key}_ray"], seconds[key]) for key in on_ray
    }
    return result


if __name__ == "__main__":
    main()
