"""What the reports of both kinds of classifiers have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.classifier.clip_audio import audio_facts
from pipeline.classifier.predictor_model import AnyClassifier, model_facts
from pipeline.data.dataset import ShardDataset
from pipeline.report.charts import Chart, History, best_epoch, curve_charts, describe_epochs, has_key
from pipeline.report.clips import color_bar, decibel_scale, spectrogram
from pipeline.report.confusion import reliability_chart
from pipeline.report.page import write_page

if TYPE_CHECKING:
    from pipeline.audio.features import FeatureConfig

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
class ReportContent:
    """What a report shows of the evaluation of any classifier."""

    summary: Mapping[str, str]
    """Short facts of the run, shown below the title."""
    metrics: Mapping[str, Any]
    """Result of `classification_metrics` or `multi_label_metrics`."""
    history: History
    """One entry per epoch: `epoch` from 1, `train_loss`, `learning_rate`, `seconds`, and, with validation,
    `val_loss`, metrics of the kind of classifier, and `best` (whether the best so far)."""
    examples: Sequence[Example]
    """One clip of each class to show, in this order."""
    features: FeatureConfig
    """Settings of the spectrograms."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """More resolved settings, nested, listed with those of `features`."""
    title: str = "Sound classifier"
    """Heading of the page."""


def evaluation_content(
    saved: AnyClassifier,
    dataset: ShardDataset,
    facts: Mapping[str, str],
    metrics: Mapping[str, Any],
    history: History,
    examples: Sequence[Example],
    tta_shifts: int,
) -> ReportContent:
    """Return the content of the report of an evaluation.

    Args:
        saved: the model.
        dataset: dataset of the clips.
        facts: short facts of the evaluation, before those of the model.
        metrics: as `ReportContent.metrics`.
        history: as `ReportContent.history`.
        examples: as `ReportContent.examples`.
        tta_shifts: number of shifts that predictions are averaged over.
    """
    return ReportContent(
        summary={**facts, **model_facts(saved), **audio_facts(dataset), "TTA shifts": str(tta_shifts)},
        metrics=metrics,
        history=history,
        examples=examples,
        features=saved.metadata.features,
        settings=saved.metadata.training.get("config") or {},
    )


def write_classifier_page(
    path: Path, template: str, content: ReportContent, mels: Sequence[np.ndarray], **values: Any
) -> None:
    """Render the report of a classifier, and write it atomically.

    Args:
        path: HTML file; its folder is created.
        template: name of the template.
        content: what reports of all classifiers show.
        mels: spectrograms that it shows besides those of the examples.
        values: other variables of the template.
    """
    # One scale for all galleries, so that images are comparable.
    scale = decibel_scale([*(example.mel for example in content.examples), *mels])
    curves, curve_note = learning_curves(content.history)
    write_page(
        path,
        template,
        title=content.title,
        summary=content.summary,
        metrics=content.metrics,
        curves=curves,
        curve_note=curve_note,
        reliability=reliability_chart(content.metrics["calibration"]),
        examples=content.examples,
        plot=lambda mel: spectrogram(mel, content.features.mel, scale),
        color_bar=color_bar(scale),
        settings={**content.settings, "features": content.features.to_dict()},
        **values,
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
