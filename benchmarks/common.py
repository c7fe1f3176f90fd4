"""Helpers shared by the benchmarks: WAV conversion, timing, hardware and result files."""

from __future__ import annotations

import csv
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

RESULTS = Path(__file__).parent / "results"


def convert_to_wav(source: Path, out: Path, repeat: int = 1) -> Path:
    """Convert all files below `source` to 16-bit WAV in `out/<class>`; repeat each by hard links."""
    marker = out / ".complete"
    if marker.is_file():
        return out
    for path in sorted(p for p in source.rglob("*") if p.suffix in (".ogg", ".wav", ".flac")):
        folder = out / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        wav = folder / f"{path.stem}.wav"
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(wav, samples, rate, subtype="PCM_16")
        for number in range(1, repeat):
            os.link(wav, folder / f"{path.stem}-{number:03d}.wav")
    marker.touch()
    return out


def write_links(folder: Path, names: Iterable[str]) -> None:
    """Write files of a few bytes; most are hard links, which are quick to create."""
    source, made = folder / ".source", set[str]()
    for index, name in enumerate(names):
        parent = name.rpartition("/")[0]
        if parent not in made:
            (folder / parent).mkdir(parents=True, exist_ok=True)
            made.add(parent)
        if index % 30_000 == 0:  # file systems limit the links of a file
            source.unlink(missing_ok=True)
            source.write_bytes(b"RIFF\x24\0\0\0WAVEfmt ")
        os.link(source, folder / name)
    source.unlink(missing_ok=True)


def write_clip_list(path: Path, clips: int) -> None:
    """Write a CSV of clips in ten classes, and their files next to it."""
    names = [
        f"recordings/station_{i % 97:02d}/2026-11-{i % 28 + 1:02d}/clip_{i:08d}.wav" for i in range(clips)
    ]
    write_links(path.parent, names)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group"])
        writer.writerows([name, f"class {i % 10}", f"station {i % 9973}"] for i, name in enumerate(names))


def timed(work: Callable[[], Any]) -> float:
    """Return the wall time of a call in seconds."""
    start_time = time.perf_counter()
    work()
    return time.perf_counter() - start_time


def summarize(values: Sequence[float]) -> dict[str, float]:
    """Return median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summarize_ratios(numerators: Sequence[float], denominators: Sequence[float]) -> dict[str, float]:
    """Return median, minimum and maximum of the ratios of two measurements per round."""
    return summarize([first / second for first, second in zip(numerators, denominators, strict=True)])


def held_out_scores(run: Path) -> dict[str, Any]:
    """Evaluate a run on its held-out fold without writing a report."""
    from models.metrics import classification_metrics
    from pipeline.classifier.command_configs import EvaluateConfig
    from pipeline.classifier.evaluate import Predictions, predict_any
    from pipeline.classifier.evaluation_rows import select_rows
    from pipeline.training.model_file import load_classifier

    saved = load_classifier(run)
    rows, index, _ = select_rows(EvaluateConfig(run=run, split="held-out"), saved)
    scored = predict_any(saved, rows, index, 1)
    assert isinstance(scored, Predictions)
    return classification_metrics(scored.scores, list(saved.metadata.class_names))


class HeldOut(NamedTuple):
    """A classifier and the clips of the fold that it was trained without."""

    model: Any
    mels: np.ndarray
    """Spectrograms in dB `[shape=(N, n_mels, num_frames)]`."""
    labels: np.ndarray
    """`[shape=(N,)]`"""
    clip_ids: np.ndarray
    """`[shape=(N,)]`"""

    def probabilities(self, shifts: int = 1) -> np.ndarray:
        """Return the probabilities of the clips `[shape=(N, C)]`, means over time shifts."""
        from pipeline.classifier.inference import predict_probabilities

        return predict_probabilities(self.model, self.mels, shifts)


def train_without_fold(**settings: Any) -> HeldOut:
    """Train a classifier of these settings in this process, on one core, unless its run is complete.

    In a spawned process, which imports torch only here.
    """
    import torch

    from pipeline.classifier.config import TrainClassifierConfig
    from pipeline.classifier.predictor_model import load_predictor
    from pipeline.classifier.train import begin_run, train_in_process
    from pipeline.data.dataset import open_dataset
    from pipeline.data.split import split_rows

    torch.set_num_threads(1)
    config = TrainClassifierConfig(val_fraction=0.0, **settings)
    if begin_run(config) is None:
        train_in_process(config)
    dataset = open_dataset(config.shards)
    rows = split_rows(dataset, config).held_out
    mels = np.stack([dataset.mels[row] for row in rows])
    ids = dataset.table["clip_id"].to_numpy()[rows]
    return HeldOut(load_predictor(config.run).model, mels, dataset.labels[rows], ids)


def hardware_info() -> dict[str, Any]:
    """Describe the hardware and the versions of the libraries."""
    import numpy
    import ray
    import torch

    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if "model name" in line
        ),
        "",
    )
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ray": ray.__version__,
        "numpy": numpy.__version__,
    }


def save_result(name: str, result: dict[str, Any]) -> None:
    """Write `results/<name>.json` with command, hardware and date, and print the result."""
    write_result(RESULTS / f"{name}.json", result)
    print(json.dumps(result, indent=1))


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result with command, hardware and date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = [Path(text).name if os.sep in text else text for text in sys.argv[1:]]
    command = f"python -m benchmarks.{Path(sys.argv[0]).stem} {' '.join(arguments)}".strip()
    record = {"date": time.strftime("%Y-%m-%d"), "command": command, "hardware": hardware_info(), **result}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
