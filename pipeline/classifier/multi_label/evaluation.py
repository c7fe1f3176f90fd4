"""Evaluation of a multi-label classifier: metrics as JSON, and an HTML report.

The probabilities of all clips and classes are kept, 4 bytes each: average precision ranks all clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.group_bootstrap import map_interval
from models.multi_label_metrics import (
    choose_thresholds,
    multi_label_metrics,
    rank_classes,
    rank_clips,
)
from pipeline.classifier.clip_audio import row_audio
from pipeline.classifier.evaluation_rows import EvaluatedRows
from pipeline.classifier.examples import most_probable
from pipeline.classifier.multi_label.report import ClassError, write_multi_label_report
from pipeline.classifier.predictor_model import AnyClassifier
from pipeline.classifier.report import MAX_MISTAKES
from pipeline.classifier.report_page import Example, evaluation_content
from pipeline.data.dataset import ShardDataset
from pipeline.data.label_sets import label_sets
from pipeline.io.errors import report_os_errors
from pipeline.io.text import plural
from pipeline.report.page import number
from pipeline.report.precision_recall import PrecisionRecall
from pipeline.training.model_file import ClassifierMetadata
from pipeline.training.run_folder import RunFolder

BACKGROUND = "background"


@dataclass(frozen=True)
class LabelSetPredictions(EvaluatedRows):
    """Predictions of a multi-label model for some rows of a dataset."""

    targets: np.ndarray
    """Which classes each row has, bool `[shape=(N, C)]`."""
    probabilities: np.ndarray
    """Probability of each class, float32 `[shape=(N, C)]`."""
    thresholds: np.ndarray
    """Probability from which on each class counts as present `[shape=(C,)]`, or of each row, `(N, C)`."""

    @property
    def recordings(self) -> np.ndarray:
        """Recording of each row `[shape=(N,)]`."""
        return self.dataset.table["group"].to_numpy()[self.rows]

    def classes(self, i: int, class_names: Sequence[str]) -> str:
        """Return the true classes of the `i`-th of the rows as text."""
        return ", ".join(class_names[c] for c in np.flatnonzero(self.targets[i]).tolist()) or BACKGROUND


def score_label_sets(
    metadata: ClassifierMetadata, dataset: ShardDataset, rows: np.ndarray, probabilities: np.ndarray
) -> LabelSetPredictions:
    """Return the predictions of some rows of a dataset, whose classes the model knows, at its thresholds."""
    classes = label_sets(dataset.table.iloc[rows], metadata.class_names, dataset.multi_label)
    return LabelSetPredictions(dataset, rows, classes[:], probabilities, metadata.class_thresholds())


def join_label_set_predictions(
    dataset: ShardDataset, parts: Sequence[LabelSetPredictions]
) -> LabelSetPredictions:
    """Return the predictions of all parts, each by a model of its own and at its own thresholds."""
    return LabelSetPredictions(
        dataset,
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.targets for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([np.broadcast_to(part.thresholds, part.targets.shape) for part in parts]),
    )


def with_cross_thresholds(parts: Sequence[LabelSetPredictions]) -> list[LabelSetPredictions]:
    """Return the predictions of folds, each at the thresholds that those of all other folds choose.

    Thresholds that were chosen on the clips that they are scored on would make F1 too high.
    """
    scored = []
    for i, part in enumerate(parts):
        others = [*parts[:i], *parts[i + 1 :]]
        targets = np.concatenate([other.targets for other in others])
        probabilities = np.concatenate([other.probabilities for other in others])
        thresholds = choose_thresholds(rank_classes(targets, probabilities), targets, probabilities)
        scored.append(replace(part, thresholds=thresholds))
    return scored


def best_thresholds(predictions: LabelSetPredictions, class_names: Sequence[str]) -> dict[str, float]:
    """Return the threshold of each class that these predictions would choose."""
    values = predictions.targets, predictions.probabilities
    thresholds = choose_thresholds(rank_classes(*values), *values)
    return dict(zip(class_names, thresholds.tolist(), strict=True))


def write_label_set_evaluation(
    out: Path,
    predictions: LabelSetPredictions,
    saved: AnyClassifier,
    history: list[dict[str, Any]],
    description: str,
    tta_shifts: int,
) -> dict[str, Any]:
    """Write `evaluation.json` and `report.html` to `out`; return the metrics."""
    class_names = saved.metadata.class_names
    p = predictions
    interval = map_interval(p.targets, p.probabilities, p.recordings)
    false_positives, false_negatives = class_errors(p, class_names, 1), class_errors(p, class_names, -1)
    metrics: dict[str, Any] = {
        "multi_label": True,
        **multi_label_metrics(p.targets, p.probabilities, p.thresholds, class_names),
        "intervals": {"map": interval},
        "recordings": len(np.unique(p.recordings)),
        "split": description,
        "tta_shifts": tta_shifts,
        "false_positives": [_error_entry(error) for error in false_positives],
        "false_negatives": [_error_entry(error) for error in false_negatives],
    }
    facts = {
        "evaluated on": f"{description} ({plural(metrics['clips'], 'clip')} of "
        f"{plural(metrics['recordings'], 'recording')}, {metrics['background_clips']:,} without any class)",
        "macro average precision, 95 % interval": describe_interval(metrics),
        "log loss": f"{metrics['log_loss']:.3f}",
    }
    examples = class_examples(p, class_names)
    with report_os_errors("writing to", out):
        out.mkdir(parents=True, exist_ok=True)
        RunFolder(out).write_json("evaluation.json", metrics)
        write_multi_label_report(
            out / "report.html",
            evaluation_content(saved, predictions.dataset, facts, metrics, history, examples, tta_shifts),
            curves=precision_recall_curves(p, metrics["per_class"]),
            false_positives=false_positives,
            false_negatives=false_negatives,
            num_errors=(int(_are_errors(p, 1).sum()), int(_are_errors(p, -1).sum())),
        )
    return metrics


def describe_metrics(metrics: dict[str, Any]) -> str:
    """Return the metrics of a multi-label evaluation as one line."""
    return (
        f"macro average precision {number(metrics['map'], '.3f')} ({describe_interval(metrics)}), padded "
        f"{metrics['padded_map']:.3f}, ROC-AUC {number(metrics['roc_auc'], '.3f')}, "
        f"micro-F1 {metrics['micro_f1']:.3f}, log loss {metrics['log_loss']:.3f}, "
        f"calibration error {metrics['ece']:.3f}"
    )


def describe_interval(metrics: dict[str, Any]) -> str:
    """Return the interval of the macro average precision as text."""
    bounds = metrics["intervals"]["map"]
    return "too few recordings for an interval" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def precision_recall_curves(
    predictions: LabelSetPredictions, per_class: Sequence[dict[str, Any]]
) -> list[PrecisionRecall]:
    """Return the curve of each class that has clips."""
    curves = []
    for c, entry in enumerate(per_class):
        if entry["support"]:
            ranking = rank_clips(predictions.targets[:, c], predictions.probabilities[:, c])
            chosen = (entry["recall"], entry["precision"])
            curves.append(
                PrecisionRecall(
                    entry["name"], entry["average_precision"], ranking.recall, ranking.precision, chosen
                )
            )
    return curves


def class_errors(predictions: LabelSetPredictions, class_names: Sequence[str], sign: int) -> list[ClassError]:
    """Return up to `MAX_MISTAKES` wrong predictions of a class at its threshold, most confident first.

    Args:
        predictions: predictions.
        class_names: names of the classes.
        sign: 1 for false positives, -1 for false negatives.
    """
    probabilities = predictions.probabilities
    clips, labels = np.nonzero(_are_errors(predictions, sign))
    order = np.argsort(-sign * probabilities[clips, labels], kind="stable")[:MAX_MISTAKES]
    clip_ids = predictions.clip_ids
    return [
        ClassError(
            str(clip_ids[i]),
            predictions.classes(i, class_names),
            class_names[c],
            float(probabilities[i, c]),
            predictions.mel(i),
            row_audio(predictions.dataset, predictions.rows[i]),
        )
        for i, c in zip(clips[order].tolist(), labels[order].tolist(), strict=True)
    ]


def _are_errors(predictions: LabelSetPredictions, sign: int) -> np.ndarray:
    """Return which predictions are false positives, or with `sign` -1 false negatives `[shape=(N, C)]`."""
    targets, is_predicted = predictions.targets, predictions.probabilities >= predictions.thresholds
    return is_predicted & ~targets if sign > 0 else targets & ~is_predicted


def _error_entry(error: ClassError) -> dict[str, Any]:
    return {
        "clip_id": error.clip_id,
        "classes": error.classes,
        "class": error.name,
        "probability": error.probability,
    }


def class_examples(predictions: LabelSetPredictions, class_names: Sequence[str]) -> list[Example]:
    """Return the clip of each class in which it is most probable; of many classes, evenly spaced ones."""
    targets, probabilities = predictions.targets, predictions.probabilities

    def clips_of(label: int) -> tuple[np.ndarray, np.ndarray]:
        clips = np.flatnonzero(targets[:, label])
        return clips, probabilities[clips, label]

    return most_probable(predictions, np.flatnonzero(targets.any(axis=0)), clips_of, class_names)
