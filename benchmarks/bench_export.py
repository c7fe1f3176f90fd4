"""Exported classifiers against melray: size, time per clip on one thread, and accuracy on a held-out fold.

python -m benchmarks.bench_export --run RUN [--clips N] [--rounds N]

RUN is a classifier trained with `--fold`, whose shards and audio files are still there. Accuracies are those
of the whole path from the samples of the files.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import save_result, summarize, timed
from pipeline.classifier.clip_audio import read_row
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.export import export_classifier
from pipeline.classifier.export_checks import predict_sound
from pipeline.classifier.predictor_model import PredictorModel, load_predictor
from pipeline.data.label_sets import row_labels
from pipeline.data.loader import subsample_evenly
from pipeline.training.export.config import ExportConfig
from pipeline.training.export.runtime import run_onnx, run_program
from pipeline.training.run import load_run_data

# From the samples of a sound to the probability of each class.
Predict = Callable[[np.ndarray], np.ndarray]
MODELS: dict[str, dict[str, Any]] = {
    "model.onnx": {},
    "int8.onnx": {"quantize": "int8"},
    "model.pt2": {},
}


def held_out_sounds(run: Path, saved: PredictorModel, clips: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the samples of held-out clips, not trimmed, and their classes."""
    _, dataset, split = load_run_data(run, TrainClassifierConfig)
    rows = subsample_evenly(split.held_out, clips)
    features = saved.metadata.features.model_copy(update={"trim_db": None})
    sounds = [read_row(dataset.table.iloc[row], features) for row in rows]
    if any(samples is None for samples in sounds):
        raise SystemExit("some held-out clips are windows in an object store")
    labels = row_labels(dataset.table.iloc[rows], saved.metadata.class_names, dataset.multi_label)
    return [samples for samples in sounds if samples is not None], labels


def export_models(run: Path, folder: Path) -> tuple[dict[str, Predict], dict[str, float]]:
    """Return the exported models as functions, and their sizes in MB."""
    predictors: dict[str, Predict] = {}
    sizes = {}
    for name, settings in MODELS.items():
        path = folder / name
        export_classifier(ExportConfig(run=run, out=path, **settings))
        content = path.read_bytes()
        model = run_onnx(content) if path.suffix == ".onnx" else run_program(content)
        predictors[name] = lambda samples, model=model: model(samples[None])[0]  # type: ignore[misc]
        sizes[name] = len(content) / 1e6
    return predictors, sizes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    saved = load_predictor(arguments.run)
    sounds, labels = held_out_sounds(arguments.run, saved, arguments.clips)
    with tempfile.TemporaryDirectory() as name:
        exported, sizes = export_models(arguments.run, Path(name))
    predictors = {"melray": partial(predict_sound, saved, trim=True), **exported}
    probabilities = {
        name: np.stack([predict(samples) for samples in sounds]) for name, predict in predictors.items()
    }
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for _ in range(arguments.rounds):  # in rotation, so that all see the same load of the host
        for name, predict in predictors.items():
            seconds = timed(lambda: [predict(samples) for samples in sounds])  # noqa: B023
            times[name].append(1000 * seconds / len(sounds))
    reference = probabilities["melray"]
    models = {
        name: {
            "megabytes": sizes.get(name),
            "milliseconds_per_clip": summarize(times[name]),
            "accuracy": float(np.mean(values.argmax(axis=1) == labels)),
            "same_class_as_melray": float(np.mean(values.argmax(axis=1) == reference.argmax(axis=1))),
            "largest_difference": float(np.abs(values - reference).max()),
        }
        for name, values in probabilities.items()
    }
    result = {"clips": len(sounds), "seconds_per_clip": saved.metadata.features.seconds, "models": models}
    save_result("export", result)


if __name__ == "__main__":
    main()
