"""Evaluation of a classifier: metrics as JSON, the confusion of classes as CSV, and an HTML report.

Of each clip only what the metrics need is kept (`models.metrics.ClipScores`), not the probabilities of all
classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.confusion import Confusion, count_confusions
from models.metrics import ClipScores, classification_metrics, concatenate, score_clips
from pipeline.classifier.clip_audio import row_audio
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.evaluation_rows import EvaluatedRows, check_classes, select_rows
from pipeline.classifier.examples import most_probable
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.multi_label.evaluation import (
    LabelSetPredictions,
    describe_metrics,
    join_label_set_predictions,
    score_label_sets,
    write_label_set_evaluation,
)
from pipeline.classifier.predictor_model import AnyClassifier, is_ensemble_of_runs, load_predictor
from pipeline.classifier.report import MAX_MISTAKES, Mistake, write_report
from pipeline.classifier.report_page import Example, evaluation_content
from pipeline.data.dataset import ShardDataset
from pipeline.data.label_sets import row_labels
from pipeline.data.loader import batch_slices
from pipeline.data.split_warnings import name_list
from pipeline.distributed.devices import process_device
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import csv_text, write_text_atomically
from pipeline.io.storage import check_writable
from pipeline.io.text import plural
from pipeline.training.run_content import CROSSVAL_NAME
from pipeline.training.run_folder import RunFolder

CHUNK_ROWS = 1024
CONFUSION_NAME, EVALUATION_NAME = "confusion.csv", "evaluation.json"


@dataclass(frozen=True)
class Predictions(EvaluatedRows):
    """Predictions of some rows of a dataset, of a model that predicts one class per clip."""

    scores: ClipScores
    """Of each row; classes are class indices of the model, probabilities float32."""


AnyPredictions = Predictions | LabelSetPredictions


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Write `evaluation.json`, `confusion.csv` and `report.html`; return the metrics.

    Raises:
        UserError: an unusable run, shards that the model cannot be evaluated on, or a folder that cannot be
            written to.
    """
    if config.out is None and (config.run / CROSSVAL_NAME).is_file():
        raise UserError(
            f"--run {config.run} is a cross-validation, evaluated already: {config.run / 'report.html'}; to "
            "evaluate its models together on other clips, add --shards and --out"
        )
    if config.shards is None and is_ensemble_of_runs(config.run):
        is_evaluated = (config.run / EVALUATION_NAME).is_file()
        raise UserError(
            f"--run {config.run} is an ensemble of other runs, "
            + ("evaluated when it was made" if is_evaluated else "which had no clips to be evaluated on")
            + "; to evaluate it on other clips, add --shards"
        )
    saved = load_predictor(config.run)
    out = config.out or config.run
    check_writable(out)
    dataset, rows, description = select_rows(config, saved)
    predictions = predict_any(saved, dataset, rows, config.tta_shifts, process_device(config.device))
    history = RunFolder(config.run).read_history()
    metrics = write_any(out, predictions, saved, history, description, config.tta_shifts)
    print(f"{description}: {plural(metrics['clips'], 'clip')}, {describe_scores(metrics)}")
    if missing := metrics["classes_without_clips"]:
        mean = "macro average precision" if saved.metadata.multi_label else "macro-F1"
        print(f"no clips of {name_list(missing)}: {mean} is the mean of the other classes")
    print(f"report: {out / 'report.html'}", flush=True)
    return metrics


def predict_any(
    saved: AnyClassifier,
    dataset: ShardDataset,
    rows: np.ndarray,
    tta_shifts: int,
    device: torch.device | None = None,
) -> AnyPredictions:
    """Predict some rows of a dataset by either kind of model, which is moved to `device` (default: CPU).

    Raises:
        UserError: as `score_any`.
    """
    model = saved.model.to(device)

    def probabilities(chunk: slice) -> np.ndarray:
        return predict_probabilities(model, dataset.mels[rows[chunk]], tta_shifts, device=device)

    return score_any(saved, dataset, rows, probabilities)


def score_any(
    saved: AnyClassifier,
    dataset: ShardDataset,
    rows: np.ndarray,
    probabilities: Callable[[slice], np.ndarray],
) -> AnyPredictions:
    """Return the predictions of some rows of a dataset by either kind of model.

    Args:
        saved: model.
        dataset: dataset of the rows.
        rows: indices of rows `[shape=(N,)]`.
        probabilities: returns the probabilities of a slice of the rows `[shape=(B, C)]`, float32. It is
            called for slices that fit into memory, as neither all rows of a large dataset nor their
            probabilities do.

    Raises:
        UserError: if a row has a class that is unknown to the model, or, unless this is a multi-label model,
            not exactly one.
    """
    check_classes(dataset, rows, saved)
    chunks = batch_slices(len(rows), CHUNK_ROWS)
    if saved.metadata.multi_label:
        values = np.concatenate([probabilities(chunk) for chunk in chunks])
        return score_label_sets(saved.metadata, dataset, rows, values)
    labels = row_labels(dataset.table.iloc[rows], saved.metadata.class_names, dataset.multi_label)
    scores = [score_clips(probabilities(chunk), labels[chunk]) for chunk in chunks]
    return Predictions(dataset, rows, concatenate(scores))


def write_any(
    out: Path,
    predictions: AnyPredictions,
    saved: AnyClassifier,
    history: list[dict[str, Any]],
    description: str,
    tta_shifts: int,
) -> dict[str, Any]:
    """Write the evaluation of either kind of model to `out`; return the metrics."""
    arguments = (saved, history, description, tta_shifts)
    if isinstance(predictions, LabelSetPredictions):
        return write_label_set_evaluation(out, predictions, *arguments)
    return write_evaluation(out, predictions, *arguments)


def join_predictions(dataset: ShardDataset, parts: Sequence[AnyPredictions]) -> AnyPredictions:
    """Return the predictions of all parts, which are of the same kind, as one."""
    label_set_parts = [part for part in parts if isinstance(part, LabelSetPredictions)]
    if label_set_parts:
        return join_label_set_predictions(dataset, label_set_parts)
    single_parts = [part for part in parts if isinstance(part, Predictions)]
    return Predictions(
        dataset,
        np.concatenate([part.rows for part in single_parts]),
        concatenate([part.scores for part in single_parts]),
    )


def write_evaluation(
    out: Path,
    predictions: Predictions,
    saved: AnyClassifier,
    history: list[dict[str, Any]],
    description: str,
    tta_shifts: int,
) -> dict[str, Any]:
    """Write `evaluation.json`, `confusion.csv` and `report.html` to `out`; return the metrics."""
    class_names = saved.metadata.class_names
    metrics: dict[str, Any] = classification_metrics(predictions.scores, class_names)
    confusion = count_confusions(predictions.scores.labels, predictions.scores.predictions, len(class_names))
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
    facts = {
        "evaluated on": f"{description} ({plural(metrics['clips'], 'clip')})",
        **_scored_classes(metrics),
        "accuracy, 95 % interval": _interval(metrics),
        **_ranking_facts(metrics),
    }
    examples = class_examples(predictions, class_names)
    with report_os_errors("writing to", out):
        out.mkdir(parents=True, exist_ok=True)
        RunFolder(out).write_json(EVALUATION_NAME, metrics)
        write_text_atomically(out / CONFUSION_NAME, confusion_csv(confusion, class_names))
        write_report(
            out / "report.html",
            evaluation_content(saved, predictions.dataset, facts, metrics, history, examples, tta_shifts),
            confusion=confusion,
            mistakes=mistakes,
        )
    return metrics


def describe_scores(metrics: dict[str, Any]) -> str:
    """Return the metrics of an evaluation of either kind of model as one line."""
    if "map" in metrics:
        return describe_metrics(metrics)
    return (
        f"accuracy {metrics['accuracy']:.1%} ({_interval(metrics)}), macro-F1 {metrics['macro_f1']:.3f}, "
        f"log loss {metrics['log_loss']:.3f}, calibration error {metrics['ece']:.3f}"
    )


def _interval(metrics: dict[str, Any]) -> str:
    low, high = metrics["intervals"]["accuracy"]
    return f"{low:.1%} to {high:.1%}"


def _ranking_facts(metrics: dict[str, Any]) -> dict[str, str]:
    """Return the metrics of ranking that are defined, for the top of the report."""
    top5, area, precision = (metrics[name] for name in ("top5_accuracy", "roc_auc", "average_precision"))
    facts = {} if top5 is None else {"top-5 accuracy": f"{top5:.1%}"}
    if area is not None:
        facts["ROC-AUC, average precision"] = f"{area:.3f}, {precision:.3f}"
    return facts


def _scored_classes(metrics: dict[str, Any]) -> dict[str, str]:
    """Return a fact for the top of the report if some classes have no clips."""
    missing = metrics["classes_without_clips"]
    return {"not scored": f"{name_list(missing)} (no clips)"} if missing else {}


def confusion_csv(confusion: Confusion, class_names: Sequence[str]) -> str:
    """Return the text of `confusion.csv`: a row per pair of true and predicted class that occurs."""
    names = np.array(class_names, object)
    rows = zip(names[confusion.true], names[confusion.predicted], confusion.count, strict=True)
    return csv_text(("label", "predicted", "clips"), rows)


def confident_mistakes(predictions: Predictions, class_names: Sequence[str]) -> list[Mistake]:
    """Return the misclassified clips with the highest confidence, most confident first."""
    labels, predicted, confidence = predictions.scores[:3]
    wrong = np.flatnonzero(predicted != labels)
    clip_ids = predictions.clip_ids
    most_confident = wrong[np.argsort(-confidence[wrong], kind="stable")][:MAX_MISTAKES]
    return [
        Mistake(
            str(clip_ids[i]),
            class_names[labels[i]],
            class_names[predicted[i]],
            float(confidence[i]),
            predictions.mel(i),
            row_audio(predictions.dataset, predictions.rows[i]),
        )
        for i in most_confident
    ]


def class_examples(predictions: Predictions, class_names: Sequence[str]) -> list[Example]:
    """Return the clip of each class that is classified correctly with the highest probability.

    Of many classes with clips, evenly spaced ones have an example.
    """
    labels, probability = predictions.scores.labels, predictions.scores.true_probability

    def clips_of(label: int) -> tuple[np.ndarray, np.ndarray]:
        clips = np.flatnonzero(labels == label)
        return clips, probability[clips]

    return most_probable(predictions, np.unique(labels), clips_of, class_names)
