"""Prediction of all windows of recordings: the batch job against a plain loop over the same windows.

    python -m benchmarks.bench_windows [--recordings 4 --minutes 30 --window 5 --hop 2.5]

The plain loop decodes a recording once and classifies its windows in batches, in one process on one core.
Windows per second of melray are measured within a running Ray session, with the start of worker processes and
loading of the model. The recordings are soundscapes of synthetic sounds; the model is hardly trained, which
makes no difference to its speed.

With `--opensoundscape PYTHON`, opensoundscape predicts the same windows with the same network in each round,
with one worker process per core; PYTHON is an interpreter that has opensoundscape and the dependencies of
melray.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import save_result, summarize, summarize_ratios, timed
from cluster.connection.session import session
from pipeline.audio.decode import decode
from pipeline.audio.features import FeatureConfig, spectrogram
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.predict import PredictConfig, write_predictions
from pipeline.classifier.predictor_model import PredictorModel, load_predictor
from pipeline.classifier.train import begin_run, train_in_process
from pipeline.data.windows import window_starts
from pipeline.distributed.batch_job import run_in_process
from pipeline.distributed.worker import disable_malloc_trim
from pipeline.extract import ExtractConfig, extract
from tests.helpers.soundscapes import SoundscapeConfig, write_soundscapes
from tests.helpers.source_sounds import synthetic_sounds

RATE = 22_050
BATCH = 32


def train_model(folder: Path, window: float) -> Path:
    """Train a classifier of windows for one epoch; return its run."""
    config = SoundscapeConfig(seconds=60.0, rate=RATE)
    table = write_soundscapes(folder / "train", synthetic_sounds(10, (1,), RATE), {1: 2}, config)
    shards = folder / "shards"
    settings = {"window": window, "hop": window / 2, "copies": 0, "features": {"mel": {"sample_rate": RATE}}}
    extract(ExtractConfig(data=table, out=shards, **settings), run_in_process)
    run = TrainClassifierConfig(shards=shards, run=folder / "run", epochs=1, val_fraction=0.0)
    begin_run(run)
    train_in_process(run)
    return run.run


def windows_of(samples: np.ndarray, features: FeatureConfig, hop: float) -> Iterator[np.ndarray]:
    """Yield the samples of the windows of a recording, shorter at its end."""
    rate = features.mel.sample_rate
    for start in window_starts(len(samples) / rate, features.seconds, hop):
        first = round(start * rate)
        yield samples[first : first + features.num_samples]


def plain_loop(saved: PredictorModel, paths: list[Path], hop: float) -> dict[str, float]:
    """Classify the windows of recordings on one core; return their number, and the seconds of each step."""
    features = saved.metadata.features
    seconds = {"decode": 0.0, "mel": 0.0, "network": 0.0}
    count = 0
    for path in paths:
        clock = [time.perf_counter()]
        samples = decode(path, features.mel.sample_rate)
        clock.append(time.perf_counter())
        windows = list(windows_of(samples, features, hop))
        mels = np.stack([spectrogram(window, features) for window in windows])
        clock.append(time.perf_counter())
        for first in range(0, len(mels), BATCH):
            predict_probabilities(saved.model, mels[first : first + BATCH])
        clock.append(time.perf_counter())
        count += len(windows)
        for name, duration in zip(seconds, np.diff(clock), strict=True):
            seconds[name] += float(duration)
    return {"windows": count, **seconds}


def opensoundscape_rate(arguments: argparse.Namespace, run: Path, audio: Path, cores: int) -> float:
    """Return the windows per second of opensoundscape, without its start."""
    module = [arguments.opensoundscape, "-m", "benchmarks.opensoundscape_windows"]
    options = ["--audio", audio, "--run", run, "--hop", arguments.hop, "--workers", cores]
    command = list(map(str, module + options))
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8").stdout
    return float(json.loads(output.splitlines()[-1])["windows_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recordings", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=30.0, help="length of each recording")
    parser.add_argument("--window", type=float, default=5.0)
    parser.add_argument("--hop", type=float, default=2.5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--opensoundscape", metavar="PYTHON", help="interpreter that has opensoundscape")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    disable_malloc_trim()
    cores = os.cpu_count() or 1
    rates: dict[str, list[float]] = {"melray": [], "plain_one_core": [], "opensoundscape": []}
    steps: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name, session():
        folder = Path(name)
        run = train_model(folder, arguments.window)
        saved = load_predictor(run)
        config = SoundscapeConfig(seconds=60 * arguments.minutes, rate=RATE)
        sounds = synthetic_sounds(10, (1,), RATE, seed=1)
        audio = write_soundscapes(folder / "audio", sounds, {1: arguments.recordings}, config).parent
        paths = sorted(audio.rglob("*.flac"))
        per_recording = len(window_starts(60 * arguments.minutes, arguments.window, arguments.hop))
        settings = {"run": run, "audio": audio, "window": arguments.window, "hop": arguments.hop}
        job = PredictConfig(out=folder / "out", **settings)
        for _ in range(arguments.rounds):
            shutil.rmtree(job.out, ignore_errors=True)
            seconds = timed(lambda: write_predictions(job))
            rates["melray"].append(len(paths) * per_recording / seconds)
            subset = paths[: max(1, len(paths) // cores)]
            steps.append(plain_loop(saved, subset, arguments.hop))
            count = steps[-1].pop("windows")
            rates["plain_one_core"].append(count / sum(steps[-1].values()))
            if arguments.opensoundscape:
                rates["opensoundscape"].append(opensoundscape_rate(arguments, run, audio, cores))
    result = {
        "recordings": len(paths),
        "windows": len(paths) * per_recording,
        **{f"{name}_windows_per_second": summarize(each) for name, each in rates.items() if each},
        "melray_to_plain_times_cores": summarize_ratios(
            rates["melray"], [cores * rate for rate in rates["plain_one_core"]]
        ),
        **step_fractions(steps, arguments.window, arguments.hop),
    }
    if arguments.opensoundscape:
        result["melray_to_opensoundscape"] = summarize_ratios(rates["melray"], rates["opensoundscape"])
    save_result("windows", result)


def step_fractions(steps: list[dict[str, float]], window: float, hop: float) -> dict[str, float]:
    """Return the fraction of each step of the plain loop, and what one spectrogram per recording would save.

    Overlapping windows compute each frame window / hop times.
    """
    totals = {name: sum(each[name] for each in steps) for name in steps[0]}
    fractions = {f"plain_fraction_{name}": value / sum(totals.values()) for name, value in totals.items()}
    saved = fractions["plain_fraction_mel"] * (1 - min(1.0, hop / window))
    return {**fractions, "fraction_that_shared_mel_saves": saved}


if __name__ == "__main__":
    main()
