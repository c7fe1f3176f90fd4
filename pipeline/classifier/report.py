"""HTML report of a classifier's evaluation: metrics, figures, examples and most confident mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.confusion import Confusion
from pipeline.classifier.report_page import MAX_CLASSES, ReportContent, write_classifier_page
from pipeline.report.confusion import (
    COLOR_NOTE,
    confusion_chart,
    frequent_confusions,
    selection_note,
    top_confusions,
)
from pipeline.report.selection import describe_selection

MAX_MISTAKES = 12


@dataclass(frozen=True)
class Mistake:
    """A misclassified clip with the confidence in [0, 1]; `mel` is in dB `[shape=(n_mels, num_frames)]`."""

    clip_id: str
    label: str
    predicted: str
    confidence: float
    mel: np.ndarray
    audio: str | None = None
    """Data URI; None if its file is gone or has changed."""


def write_report(
    path: Path, content: ReportContent, *, confusion: Confusion, mistakes: Sequence[Mistake]
) -> None:
    """Write the report atomically.

    Args:
        path: HTML file; its folder is created.
        content: metrics of `models.metrics.classification_metrics`, examples and facts.
        confusion: counts of the pairs of true and predicted class.
        mistakes: misclassified clips, at least the 12 most confident ones, which are shown.
    """
    per_class = content.metrics["per_class"]
    names = [entry["name"] for entry in per_class]
    num_scored = sum(entry["support"] > 0 for entry in per_class)
    shown = sorted(mistakes, key=lambda mistake: -mistake.confidence)[:MAX_MISTAKES]
    classes = worst_classes(per_class)
    write_classifier_page(
        path,
        "classifier.html.j2",
        content,
        [mistake.mel for mistake in shown],
        num_classes=len(names),
        chance_log_loss=math.log(len(names)),
        confusion=confusion_chart(confusion, names),
        confusion_note=selection_note(confusion),
        color_note=COLOR_NOTE,
        top_confusions=top_confusions(confusion, names),
        frequent_confusions=frequent_confusions(confusion, names),
        classes=classes,
        class_note=describe_selection(len(classes), len(names), "those with the lowest F1"),
        overconfidence=_overconfidence(content.metrics),
        example_note=describe_selection(len(content.examples), num_scored),
        mistakes=shown,
        num_mistakes=int(confusion.count.sum()) - confusion.correct,
    )


def worst_classes(per_class: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return up to `MAX_CLASSES` classes with the lowest F1 first, and of equal F1 those with more clips.

    Classes without clips have no scores, and are last.
    """

    def key(entry: Mapping[str, Any]) -> tuple[Any, ...]:
        return not entry["support"], entry["f1"], -entry["support"], entry["name"]

    return sorted(per_class, key=key)[:MAX_CLASSES]


def _overconfidence(metrics: Mapping[str, Any]) -> float:
    """Return mean confidence minus accuracy over all clips."""
    filled = [entry for entry in metrics["calibration"] if entry["count"]]
    gap = sum(entry["count"] * (entry["confidence"] - entry["accuracy"]) for entry in filled)
    return float(gap / max(metrics["clips"], 1))
