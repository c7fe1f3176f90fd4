"""HTML report of a multi-label classifier's evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.classifier.report_page import MAX_CLASSES, ReportContent, write_classifier_page
from pipeline.report.precision_recall import MAX_CURVES, PrecisionRecall, precision_recall_chart
from pipeline.report.selection import describe_selection, evenly_spaced


@dataclass(frozen=True)
class ClassError:
    """A class that is wrongly predicted or missed; `mel` is in dB `[shape=(n_mels, num_frames)]`."""

    clip_id: str
    classes: str
    """True classes of the clip, or `background`."""
    name: str
    probability: float
    """Of the class `name`."""
    mel: np.ndarray
    audio: str | None = None
    """Data URI; None if its file is gone or has changed."""


def write_multi_label_report(
    path: Path,
    content: ReportContent,
    *,
    curves: Sequence[PrecisionRecall],
    false_positives: Sequence[ClassError],
    false_negatives: Sequence[ClassError],
    num_errors: tuple[int, int],
) -> None:
    """Write the report atomically.

    Args:
        path: HTML file; its folder is created.
        content: metrics of `models.multi_label_metrics.multi_label_metrics`, examples and facts.
        curves: precision-recall curves of the classes with clips.
        false_positives: wrongly predicted classes, to be shown in this order.
        false_negatives: missed classes, to be shown in this order.
        num_errors: number of all wrongly predicted and of all missed classes.
    """
    metrics, total = content.metrics, len(content.metrics["per_class"])
    classes = weakest_classes(metrics["per_class"])
    support = np.array([entry["support"] for entry in metrics["per_class"]])
    num_scored = int((support > 0).sum())
    shown = shown_curves(curves)
    write_classifier_page(
        path,
        "multi_label.html.j2",
        content,
        [clip.mel for clip in (*false_positives, *false_negatives)],
        scored=f"{total} classes" if num_scored == total else f"{num_scored} of {total} classes with clips",
        # The expected average precision of random probabilities is about the frequency of the class.
        chance_map=float(support[support > 0].mean() / metrics["clips"]) if num_scored else None,
        precision_recall=precision_recall_chart(shown) if shown else None,
        precision_recall_note=describe_selection(
            len(shown), len(curves), "from the lowest to the highest average precision"
        ),
        classes=classes,
        class_note=describe_selection(len(classes), total, "those with the lowest average precision"),
        example_note=describe_selection(len(content.examples), num_scored),
        false_positives=false_positives,
        false_negatives=false_negatives,
        num_false_positives=num_errors[0],
        num_false_negatives=num_errors[1],
    )


def weakest_classes(per_class: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return up to `MAX_CLASSES` classes, the lowest average precision first, those without clips last."""

    def key(entry: Mapping[str, Any]) -> tuple[Any, ...]:
        return not entry["support"], entry["average_precision"] or 0.0, -entry["support"], entry["name"]

    return sorted(per_class, key=key)[:MAX_CLASSES]


def shown_curves(curves: Sequence[PrecisionRecall]) -> list[PrecisionRecall]:
    """Return up to `MAX_CURVES` curves, evenly spaced from the lowest to the highest average precision."""
    ordered = sorted(curves, key=lambda curve: (curve.average_precision, curve.name))
    return [ordered[i] for i in evenly_spaced(len(ordered), MAX_CURVES)]
