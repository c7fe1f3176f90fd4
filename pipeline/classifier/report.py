"""HTML report of a classifier's evaluation: metrics, figures, examples and most confident mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.confusion import Confusion
from pipeline.report.charts import Chart, History, best_epoch, curve_charts, describe_epochs, has_key
from pipeline.report.clips import color_bar, decibel_scale, spectrogram
from pipeline.report.confusion import (
    COLOR_NOTE,
    confusion_chart,
    frequent_confusions,
    reliability_chart,
    selection_note,
    top_confusions,
)
from pipeline.report.page import write_page
from pipeline.report.selection import describe_selection

if TYPE_CHECKING:
    from pipeline.audio.features import FeatureConfig

MAX_MISTAKES = 12
# Rows of the table of classes.
MAX_CLASSES = 100


@dataclass(frozen=True)
class Example:
    """A clip of a class; `mel` is in dB `[shape=(n_mels, num_frames)]`."""

    clip_id: str
    label: str
    mel: np.ndarray
    audio: str | None = None
    """Data URI; None if its file is gone or has changed."""


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
    path: Path,
    *,
    title: str,
    summary: Mapping[str, str],
    metrics: Mapping[str, Any],
    confusion: Confusion,
    history: History,
    mistakes: Sequence[Mistake],
    examples: Sequence[Example],
    features: FeatureConfig,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write the report atomically.

    Args:
        path: HTML file; its folder is created.
        title: heading of the page.
        summary: short facts of the run, shown below the title.
        metrics: result of `models.metrics.classification_metrics`.
        confusion: counts of the pairs of true and predicted class.
        history: one entry per epoch: `epoch` from 1, `train_loss`, `learning_rate`, `seconds`, and, with
            validation, `val_loss`, `val_accuracy`, `val_macro_f1` and `best` (whether the best so far).
        mistakes: misclassified clips; the 12 most confident ones are shown.
        examples: one clip of each class to show, in this order.
        features: settings of the spectrograms.
        settings: more resolved settings, nested, listed with those of `features`.
    """
    names = [entry["name"] for entry in metrics["per_class"]]
    shown = sorted(mistakes, key=lambda mistake: -mistake.confidence)[:MAX_MISTAKES]
    # One scale for both galleries, so that images are comparable.
    scale = decibel_scale([example.mel for example in examples] + [mistake.mel for mistake in shown])
    curves, curve_note = learning_curves(history)
    classes = worst_classes(metrics["per_class"])
    write_page(
        path,
        "classifier.html.j2",
        title=title,
        summary=summary,
        metrics=metrics,
        num_classes=len(names),
        chance_log_loss=math.log(len(names)),
        curves=curves,
        curve_note=curve_note,
        confusion=confusion_chart(confusion, names),
        confusion_note=selection_note(confusion),
        color_note=COLOR_NOTE,
        top_confusions=top_confusions(confusion, names),
        frequent_confusions=frequent_confusions(confusion, names),
        classes=classes,
        class_note=describe_selection(len(classes), len(names), "those with the lowest F1"),
        reliability=reliability_chart(metrics["calibration"]),
        overconfidence=_overconfidence(metrics),
        examples=examples,
        example_note=describe_selection(
            len(examples), sum(entry["support"] > 0 for entry in metrics["per_class"])
        ),
        mistakes=shown,
        num_mistakes=len(mistakes),
        plot=lambda mel: spectrogram(mel, features.mel, scale),
        color_bar=color_bar(scale),
        settings={**(settings or {}), "features": features.to_dict()},
    )


def learning_curves(history: History) -> tuple[list[Chart], str]:
    """Return charts of loss, validation metrics and learning rate over epochs, and a note on them."""
    validated = has_key(history, "val_loss")
    best = best_epoch(history) if validated else None
    curves = {
        "Loss": {"train_loss": "training", "val_loss": "validation"},
        "Validation": {
            "val_accuracy": "accuracy",
            "val_macro_f1": "macro-F1",
            "val_map": "macro average precision",
        },
        "Learning rate": {"learning_rate": "learning rate"},
    }
    note = describe_epochs(history, best, "best") + ("" if validated else " Trained without validation.")
    return curve_charts(history, curves, best, as_percent={"Validation"}), note


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
