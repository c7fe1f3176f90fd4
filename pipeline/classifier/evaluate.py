"""Evaluation of a classifier: metrics as JSON, and an HTML report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from models.config import Config
from models.metrics import classification_metrics
from pipeline.audio.features import FeatureConfig, feature_mismatch
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.report import Example, Mistake, write_report
from pipeline.data.dataset import ShardDataset, open_dataset
from pipeline.data.loader import batch_slices
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.storage import PathOrURI
from pipeline.training.model_file import SavedClassifier, load_classifier
from pipeline.training.run import load_run_data
from pipeline.training.run_folder import RunFolder

MAX_MISTAKES = 12
CHUNK_ROWS = 1024


class EvaluateConfig(Config):
    """Evaluate a classifier on labeled clips, or a generator by the clips it generates."""

    run: PathOrURI
    """Run folder."""
    shards: PathOrURI | None = None
    """Evaluate on all clips of these shards instead of the run's own data."""
    split: Literal["auto", "validation", "held-out", "all"] = "auto"
    """Clips to evaluate on: auto is the held-out fold if there is one, else the validation clips."""
    tta_shifts: int = Field(1, ge=1, le=64)
    """Test-time augmentation: circular time shifts to average over."""
    clips_per_class: int = Field(30, ge=2)
    """Generators only: clips to generate and score per class."""
    out: PathOrURI | None = None
    """Folder for evaluation.json and report.html (default: the run folder)."""


@dataclass(frozen=True)
class Predictions:
    """Predicted class probabilities of some rows of a dataset."""

    dataset: ShardDataset
    rows: np.ndarray
    """Row indices `[shape=(N,)]`."""
    labels: np.ndarray
    """True classes, as class indices of the model `[shape=(N,)]`."""
    probabilities: np.ndarray
    """`[shape=(N, C)]`, float32."""

    @property
    def clip_ids(self) -> np.ndarray:
        """Clip id of each row `[shape=(N,)]`."""
        return self.dataset.table["clip_id"].to_numpy()[self.rows]

    def mel(self, i: int) -> np.ndarray:
        """Spectrogram of the `i`-th of the rows, in dB `[shape=(n_mels, num_frames)]`."""
        return np.asarray(self.dataset.mels[self.rows[i]])


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Write `evaluation.json` and `report.html`; return the metrics.

    Raises:
        UserError: an unusable run, or shards that the model cannot be evaluated on.
    """
    saved = load_classifier(config.run)
    dataset, rows, description = select_rows(config, saved)
    predictions = predict_rows(saved, dataset, rows, config.tta_shifts)
    out = config.out or config.run
    history = RunFolder(config.run).read_history()
    metrics = write_evaluation(out, predictions, saved, history, description, config.tta_shifts)
    print(
        f"{description}: {metrics['clips']} clips, accuracy {metrics['accuracy']:.1%}, "
        f"macro-F1 {metrics['macro_f1']:.3f}, log-loss {metrics['log_loss']:.3f}, "
        f"calibration error {metrics['ece']:.3f}\nreport: {out / 'report.html'}",
        flush=True,
    )
    return metrics


def select_rows(config: EvaluateConfig, saved: SavedClassifier) -> tuple[ShardDataset, np.ndarray, str]:
    """Return the dataset, the indices of the rows to evaluate on, and their description."""
    if config.shards is not None:
        dataset = open_dataset(config.shards)
        check_features(dataset.features, saved.metadata.features, config.shards)
        return dataset, _original_rows(dataset), f"all of {config.shards}"
    train_config, dataset, split = load_run_data(
        config.run, TrainClassifierConfig, "give the clips to evaluate on by --shards"
    )
    rows_by_split = {
        "held-out": split.held_out,
        "validation": split.val,
        "all": _original_rows(dataset),
    }
    name = config.split
    if name == "auto":
        name = "held-out" if len(split.held_out) else "validation"
    if len(rows_by_split[name]) == 0:
        raise UserError(
            f"--split {name}: no such clips in this run; choose another split, or labeled clips by --shards"
        )
    description = f"fold {train_config.fold}, held out" if name == "held-out" else f"{name} clips"
    return dataset, rows_by_split[name], description


def _original_rows(dataset: ShardDataset) -> np.ndarray:
    """Return the indices of the rows that are not augmented copies."""
    return np.flatnonzero(dataset.table["copy"].to_numpy() == 0)


def check_features(shards: FeatureConfig, model: FeatureConfig, path: Path) -> None:
    """Check that shards have the spectrograms that a model was trained on.

    Raises:
        UserError: with the first setting that differs.
    """
    mismatch = feature_mismatch(shards, model, "the model uses")
    if mismatch is not None:
        raise UserError(f"--shards {path} use {mismatch}; extract with the settings of the model")


def predict_rows(
    saved: SavedClassifier, dataset: ShardDataset, rows: np.ndarray, tta_shifts: int
) -> Predictions:
    """Predict some rows of a dataset.

    Raises:
        UserError: if a row has a class that is unknown to the model.
    """
    class_names = saved.metadata.class_names
    class_index = {name: i for i, name in enumerate(class_names)}
    label_names = dataset.table["label"].to_numpy()[rows]
    unknown = sorted(set(label_names) - class_index.keys())
    if unknown:
        raise UserError(f"unknown class '{unknown[0]}'; classes of the model: {', '.join(class_names)}")
    labels = np.array([class_index[name] for name in label_names])
    # In chunks: the rows of a large dataset do not fit into memory.
    chunks = [
        predict_probabilities(saved.model, dataset.mels[rows[chunk]], tta_shifts)
        for chunk in batch_slices(len(rows), CHUNK_ROWS)
    ]
    return Predictions(dataset, rows, labels, np.concatenate(chunks))


def write_evaluation(
    out: Path,
    predictions: Predictions,
    saved: SavedClassifier,
    history: list[dict[str, Any]],
    description: str,
    tta_shifts: int,
) -> dict[str, Any]:
    """Compute the metrics, write `evaluation.json` and `report.html` to `out`; return the metrics."""
    class_names, training = saved.metadata.class_names, saved.metadata.training
    metrics: dict[str, Any] = classification_metrics(
        predictions.probabilities, predictions.labels, list(class_names)
    )
    mistakes = confident_mistakes(predictions, class_names)
    metrics |= {
        "split": description,
        "tta_shifts": tta_shifts,
        "mistakes": [
            {
                "clip_id": mistake.clip_id,
                "label": mistake.label,
                "predicted": mistake.predicted,
                "confidence": mistake.confidence,
            }
            for mistake in mistakes
        ],
    }
    with report_os_errors("writing to", out):
        out.mkdir(parents=True, exist_ok=True)
        RunFolder(out).write_json("evaluation.json", metrics)
        write_report(
            out / "report.html",
            title="Sound classifier",
            summary={
                "evaluated on": f"{description} ({metrics['clips']} clips)",
                "checkpoint epoch": str(training.get("epoch", "?")),
                "TTA shifts": str(tta_shifts),
            },
            metrics=metrics,
            history=history,
            mistakes=mistakes,
            examples=class_examples(predictions, class_names),
            features=saved.metadata.features,
            settings=training.get("config"),
        )
    return metrics


def confident_mistakes(predictions: Predictions, class_names: tuple[str, ...]) -> list[Mistake]:
    """Return the misclassified clips with the highest confidence, most confident first."""
    predicted = predictions.probabilities.argmax(1)
    confidence = predictions.probabilities.max(1)
    wrong = np.flatnonzero(predicted != predictions.labels)
    clip_ids = predictions.clip_ids
    most_confident = wrong[np.argsort(-confidence[wrong], kind="stable")][:MAX_MISTAKES]
    return [
        Mistake(
            str(clip_ids[i]),
            class_names[predictions.labels[i]],
            class_names[predicted[i]],
            float(confidence[i]),
            predictions.mel(i),
        )
        for i in most_confident
    ]


def class_examples(predictions: Predictions, class_names: tuple[str, ...]) -> list[Example]:
    """Return the clip of each class that is classified correctly with the highest probability."""
    examples, clip_ids = [], predictions.clip_ids
    for label, name in enumerate(class_names):
        class_clips = np.flatnonzero(predictions.labels == label)
        if class_clips.size:
            best = class_clips[predictions.probabilities[class_clips, label].argmax()]
            examples.append(Example(str(clip_ids[best]), name, predictions.mel(best)))
    return examples
