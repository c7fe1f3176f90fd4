"""Costs of thousands of classes: validation, evaluation, and the merge of predictions, against ten classes.

    python -m benchmarks.bench_classes [--clips 20000 --classes 10 5000]

1. Validation of an epoch with the small network of `melray demo`; a larger one hides the cost of classes.
2. Evaluation after the network: metrics, `evaluation.json`, `confusion.csv` and report of random predictions.
3. Prediction after the network: tables of 32 clips each, their merge, and a submission of all probabilities.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from benchmarks.common import save_result, timed
from models.classifier import Classifier, ClassifierConfig
from models.metrics import concatenate, score_clips
from pipeline.audio.features import FeatureConfig
from pipeline.classifier.evaluate import CHUNK_ROWS, Predictions, write_evaluation
from pipeline.classifier.loop import evaluate_epoch
from pipeline.classifier.predict import CLIPS_PER_UNIT
from pipeline.classifier.prediction.merge import merge_predictions
from pipeline.classifier.prediction.tables import unit_table, write_unit
from pipeline.classifier.submission.plan import plan_submission
from pipeline.data.loader import BatchLoader, batch_slices
from pipeline.distributed.batch_job import BatchJob
from pipeline.training.model_file import ClassifierMetadata, SavedClassifier
from pipeline.training.world import SINGLE_WORKER

FEATURES = FeatureConfig()
NETWORK = ClassifierConfig(channels=(16, 32, 64, 128), convs_per_block=1, embedding_dim=128)


def names_of(classes: int) -> tuple[str, ...]:
    return tuple(f"species {number:05d}" for number in range(classes))


def same_mels(clips: int) -> np.ndarray:
    """Return spectrograms that take no memory, in dB `[shape=(clips, n_mels, num_frames)]`."""
    mel = np.random.default_rng(0).normal(-50, 15, FEATURES.shape).astype(np.float16)
    return np.broadcast_to(mel, (clips, *FEATURES.shape))


def validation_seconds(classes: int, clips: int) -> float:
    """Measure the validation of an epoch, in seconds."""
    model = Classifier(NETWORK, FEATURES.mel.n_mels, classes).eval()
    state = SimpleNamespace(
        world=SINGLE_WORKER,
        dataset=SimpleNamespace(class_names=names_of(classes)),
        split=SimpleNamespace(val=np.arange(clips)),
        data=SimpleNamespace(local_rows=lambda world, rows: rows),
        labels=np.random.default_rng(0).integers(0, classes, clips),
        loader=BatchLoader([same_mels(clips)], SINGLE_WORKER.device),
        ema=SimpleNamespace(model=model),
        autocast=nullcontext,
    )
    return timed(lambda: evaluate_epoch(cast(Any, state)))


def random_probabilities(rng: np.random.Generator, clips: int, classes: int) -> np.ndarray:
    """Return probabilities of which few are large `[shape=(clips, classes)]`, float32."""
    odds = rng.standard_exponential((clips, classes), np.float32) ** 4
    return odds / odds.sum(axis=1, keepdims=True)


def evaluation_metrics(classes: int, clips: int, folder: Path) -> dict[str, float]:
    """Measure the reduction of probabilities and the evaluation in seconds, and its files in kB."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, clips)
    chunks, seconds = [], 0.0
    for rows in batch_slices(clips, CHUNK_ROWS):
        probabilities = random_probabilities(rng, len(labels[rows]), classes)
        seconds += timed(lambda: chunks.append(score_clips(probabilities, labels[rows])))  # noqa: B023
    table = pd.DataFrame({"clip_id": [f"clip {number}.wav" for number in range(clips)]})
    dataset = SimpleNamespace(table=table, mels=same_mels(clips))
    predictions = Predictions(cast(Any, dataset), np.arange(clips), concatenate(chunks))
    metadata = ClassifierMetadata(
        model=NETWORK, features=FEATURES, class_names=names_of(classes), training={}
    )
    saved = SavedClassifier(cast(Any, None), metadata)
    write = timed(lambda: write_evaluation(folder, predictions, saved, [], "random clips", 1))
    sizes = {f"{path.name}_kb": path.stat().st_size / 1e3 for path in sorted(folder.iterdir())}
    return {"reduce_seconds": seconds, "write_seconds": write, **sizes}


def prediction_metrics(classes: int, clips: int, folder: Path) -> dict[str, float]:
    """Measure the tables of work units and their merge in seconds, and the size of its files in MB."""
    rng, names = np.random.default_rng(0), names_of(classes)
    manifest = pd.DataFrame({"clip_id": [f"{number:07d}.wav" for number in range(clips)], "path": "x"})
    job = BatchJob("measuring", manifest, CLIPS_PER_UNIT, classes, folder / ".parts")
    tables = 0.0
    for unit in job.units:
        records = unit.read_clips()
        probabilities = random_probabilities(rng, len(records), classes)
        texts = [""] * len(records)
        tables += timed(
            lambda: write_unit(unit.path, unit_table(records, texts, texts, probabilities, names))  # noqa: B023
        )
    result = {"unit_tables_seconds": tables}
    for kind, requested in (("labels", "label"), ("probabilities", "probability")):
        plan = plan_submission(None, manifest, names, cast(Any, requested))
        result[f"merge_with_{kind}_seconds"] = timed(
            lambda: merge_predictions(job.units, folder, plan, names)  # noqa: B023
        )
        result[f"submission_of_{kind}_mb"] = (folder / "submission.csv").stat().st_size / 1e6
    return result | {"predictions_mb": (folder / "predictions.parquet").stat().st_size / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 5000])
    parser.add_argument("--rounds", type=int, default=1, help="validations of each number of classes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"clips": arguments.clips, "classes": {}}
    for classes in arguments.classes:
        rounds = [validation_seconds(classes, arguments.clips) for _ in range(arguments.rounds)]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            result["classes"][str(classes)] = {
                "validation_seconds": min(rounds),
                "evaluation": evaluation_metrics(classes, arguments.clips, folder / "evaluation"),
                "prediction": prediction_metrics(classes, arguments.clips, folder / "prediction"),
            }
    seconds = [values["validation_seconds"] for values in result["classes"].values()]
    result["validation_ratio_last_to_first"] = seconds[-1] / seconds[0]
    save_result("classes", result)


if __name__ == "__main__":
    main()
