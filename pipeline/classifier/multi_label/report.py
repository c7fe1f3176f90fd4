"""HTML report of a multi-label classifier's evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.classifier.report import MAX_CLASSES, Example, learning_curves
from pipeline.report.charts import History
from pipeline.report.clips import color_bar, decibel_scale, spectrogram
from pipeline.report.confusion import reliability_chart
from pipeline.report.page import write_page
from pipeline.report.precision_recall import MAX_CURVES, PrecisionRecall, precision_recall_chart
from pipeline.report.selection import describe_selection, evenly_spaced

if TYPE_CHECKING:
    from pipeline.audio.features import FeatureConfig


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
    *,
    summary: Mapping[str, str],
    metrics: Mapping[str, Any],
    curves: Sequence[PrecisionRecall],
    history: History,
    false_positives: Sequence[ClassError],
    false_negatives: Sequence[ClassError],
    examples: Sequence[Example],
    features: FeatureConfig,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write the report atomically.

    Args:
        path: HTML file; its folder is created.
        summary: short facts of the run, shown below the title.
        metrics: result of `models.multi_label_metrics.multi_label_metrics`.
        curves: precision-recall curves of the classes with clips.
        history: one entry per epoch, as for `pipeline.classifier.report.write_report`.
        false_positives: wrongly predicted classes, to be shown in this order.
        false_negatives: missed classes, to be shown in this order.
        examples: one clip of each class to show, in this order.
        features: settings of the spectrograms.
        settings: more resolved settings, nested, listed with those of `features`.
    """
    errors = [*false_positives, *false_negatives]
    scale = decibel_scale([clip.mel for clip in examples] + [clip.mel for clip in errors])
    learning, curve_note = learning_curves(history)
    total = len(metrics["per_class"])
    classes = weakest_classes(metrics["per_class"])
    support = np.array([entry["support"] for entry in metrics["per_class"]])
    num_scored = int((support > 0).sum())
    shown = shown_curves(curves)
    write_page(
        path,
        "multi_label.html.j2",
        title="Sound classifier",
        summary=summary,
        metrics=metrics,
        scored=f"{total} classes" if num_scored == total else f"{num_scored} of {total} classes with clips",
        # The expected average precision of random probabilities is about the frequency of the class.
        chance_map=float(support[support > 0].mean() / metrics["clips"]) if num_scored else None,
        curves=learning,
        curve_note=curve_note,
        precision_recall=precision_recall_chart(shown) if shown else None,
        precision_recall_note=describe_selection(
            len(shown), len(curves), "from the lowest to the highest average precision"
        ),
        classes=classes,
        class_note=describe_selection(len(classes), total, "those with the lowest average precision"),
        reliability=reliability_chart(metrics["calibration"]),
        examples=examples,
        example_note=describe_selection(len(examples), num_scored),
        false_positives=false_positives,
        false_negatives=false_negatives,
        plot=lambda mel: spectrogram(mel, features.mel, scale),
        color_bar=color_bar(scale),
        settings={**(settings or {}), "features": features.to_dict()},
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
