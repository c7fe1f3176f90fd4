"""Prediction and vocoder on a GPU, against CPU cores: `python -m benchmarks.gpu_inference FILE`.

Prediction is the batch job on the host, within a running session. Its rate is that of the additional clips of
a large job over a small one, which is run twice: startup of workers and loading of the model cancel out. It
is compared to a plain loop on one core, times the number of cores.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.bench_predict import plain_loop
from benchmarks.common import timed
from benchmarks.gpu_data import link_copies
from benchmarks.gpu_measure import device_seconds
from benchmarks.gpu_rows import PartResult, measured, part_arguments, run_attempts
from cluster.connection.session import session
from models.classifier import Classifier, ClassifierConfig
from pipeline.audio.features import FeatureConfig, load_clip, spectrogram
from pipeline.audio.synthesize import CLASS_NAMES
from pipeline.audio.synthetic_dataset import write_dataset
from pipeline.audio.vocoder import Vocoder
from pipeline.classifier.predict import PredictConfig, predict
from pipeline.classifier.predictor_model import load_predictor
from pipeline.distributed.devices import Device
from pipeline.distributed.worker import disable_malloc_trim
from pipeline.training.model_file import ClassifierMetadata, save_model

FEATURES = FeatureConfig()
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Setup:
    """Files, device, and size of the measurements."""

    clips: list[Path]
    run: Path
    device: torch.device
    folder: Path
    quick: bool


def save_untrained(run: Path) -> Path:
    """Write a run with the default network and random weights."""
    run.mkdir(parents=True)
    config = ClassifierConfig()
    model = Classifier(config, FEATURES.mel.n_mels, len(CLASS_NAMES))
    model.set_statistics(torch.full((FEATURES.mel.n_mels,), -50.0), torch.full((FEATURES.mel.n_mels,), 15.0))
    metadata = ClassifierMetadata(model=config, features=FEATURES, class_names=CLASS_NAMES, training={})
    save_model(run, model, metadata)
    return run


def prediction(setup: Setup, result: PartResult) -> None:
    """Measure clips per second of the job with and without a GPU, and of a loop on one core."""
    saved = load_predictor(setup.run)
    subset = setup.clips[:8] if setup.quick else setup.clips[:64]
    plain_loop(saved, subset[:4])
    one_core = len(subset) / timed(lambda: plain_loop(saved, subset))
    result.add(measured("prediction: loop on one core", one_core, "clips/s"))
    sizes = (16, 64) if setup.quick else (100 * CORES, 300 * CORES)
    folders = {
        size: link_copies(setup.clips, setup.folder / f"audio-{size}", size // len(setup.clips) + 1)
        for size in sizes
    }
    with session():
        devices: dict[str, Device] = {"CPUs": "cpu"} | (
            {"one GPU": "cuda"} if setup.device.type == "cuda" else {}
        )
        for name, device in devices.items():
            with result.attempt(f"prediction: {name}"):
                # The first job only starts worker processes.
                jobs = [job(setup, folders[size], device) for size in (sizes[0], *sizes)][1:]
                (small, small_seconds), (large, large_seconds) = jobs
                rate = (large - small) / (large_seconds - small_seconds)
                note = f"{large} clips in {large_seconds:.1f} s, {small} in {small_seconds:.1f} s"
                result.add(measured(f"prediction: {name}", rate, "clips/s", note=note), jobs=jobs)
                goal = 1.0 if device == "cuda" else None
                name = f"prediction: {name} / {CORES} cores x loop"
                result.add(measured(name, rate / one_core / CORES, goal=goal))


def job(setup: Setup, audio: Path, device: Device) -> tuple[int, float]:
    """Predict all clips of a folder; return their number and the seconds."""
    config = PredictConfig(run=setup.run, audio=audio, out=setup.folder / "out", device=device)
    shutil.rmtree(config.out, ignore_errors=True)
    clips: list[int] = []
    seconds = timed(lambda: clips.append(len(predict(config))))
    return clips[0], seconds


def vocoder(setup: Setup, result: PartResult) -> None:
    """Measure clips per second of the vocoder on one CPU core and on the device."""
    count = 2 if setup.quick else 64
    mels = np.stack([spectrogram(load_clip(path, FEATURES), FEATURES) for path in setup.clips[:count]])
    mel_BMT = torch.from_numpy(mels)
    rates = {}
    for name, device, batch in (("one core", torch.device("cpu"), 8), ("device", setup.device, count)):
        synthesize = Vocoder(FEATURES.mel, device=device)
        clips = mel_BMT[:batch]
        synthesize(clips, FEATURES.num_samples)
        seconds = device_seconds(lambda: synthesize(clips, FEATURES.num_samples), device)  # noqa: B023
        rates[name] = len(clips) / seconds
        result.add(measured(f"vocoder: {name}", rates[name], "clips/s"))
    result.add(measured("vocoder: device / one core", rates["device"] / rates["one core"]))


def main() -> None:
    arguments = part_arguments()
    torch.set_num_threads(1)
    disable_malloc_trim()
    result = PartResult(arguments.file)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / "data", train_per_class=1 if arguments.quick else 10, test_per_class=0)
        clips = sorted((folder / "data").rglob("*.wav"))
        device = torch.device(arguments.device)
        setup = Setup(clips, save_untrained(folder / "run"), device, folder, arguments.quick)
        actions: dict[str, Callable[[], None]] = {
            "vocoder": lambda: vocoder(setup, result),
            "prediction": lambda: prediction(setup, result),
        }
        run_attempts(result, actions)


if __name__ == "__main__":
    main()
