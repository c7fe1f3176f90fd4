"""The report of a trained classifier: how good it is, where it errs, and what it heard, in one HTML file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.report import page
from pipeline.report.charts import best_epoch, describe_epochs, line_chart, lines
from pipeline.report.clips import Scale, color_bar, decibel_scale, gallery_figure
from pipeline.report.confusion import COLOR_NOTE, confusion_chart, reliability_chart, top_confusions
from pipeline.report.page import Section, escape, percent

if TYPE_CHECKING:
    from pipeline.audio.features import FeatureConfig
    from pipeline.audio.mel import MelConfig

MAX_MISTAKES = 12


@dataclass(frozen=True)
class Example:
    """A clip of a class; `mel` is in dB `[shape=(n_mels, num_frames)]`."""

    clip_id: str
    label: str
    mel: np.ndarray


@dataclass(frozen=True)
class Mistake:
    """A clip taken for another class with some confidence in [0, 1]; `mel` is in dB `[shape=(n_mels, num_frames)]`."""

    clip_id: str
    label: str
    predicted: str
    confidence: float
    mel: np.ndarray


def write_report(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, str],
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    mistakes: Sequence[Mistake],
    examples: Sequence[Example],
    features: FeatureConfig,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Writes the page in full or not at all.

    Args:
        path: the HTML file; its folder is made.
        title: heading of the page.
        summary: short facts of the run, shown under the title.
        metrics: what `models.metrics.classification_metrics` returns.
        history: one entry per epoch: `epoch` from 1, `train_loss`, `learning_rate`, `seconds`, and where validated
            `val_loss`, `val_accuracy`, `val_macro_f1`, `best` (true where it was the best so far).
        mistakes: the most confident ones are shown, up to 12.
        examples: one clip per class, in the order to be shown.
        features: how the spectrograms were made.
        settings: further resolved settings, nested, listed beside those of `features`.
    """
    # One scale for both galleries, so that their pictures compare.
    shown = sorted(mistakes, key=lambda mistake: -mistake.confidence)[:MAX_MISTAKES]
    scale = decibel_scale([one.mel for one in examples] + [one.mel for one in shown])
    sections = [
        curves_section(history),
        _confusion_section(metrics),
        _class_section(metrics["per_class"]),
        _calibration_section(metrics),
        _example_section(examples, features.mel, scale),
        _mistake_section(shown, len(mistakes), features.mel, scale),
        Section(
            "Settings",
            page.settings({**(settings or {}), "features": features.to_dict()}, "All resolved settings"),
        ),
    ]
    page.write_page(path, page.render_page(title, sections, summary, _headline(metrics)))


def _headline(metrics: Mapping[str, Any]) -> str:
    classes = len(metrics["per_class"])
    return page.cards(
        [
            (
                "Accuracy",
                percent(metrics["accuracy"]),
                f"of {metrics['clips']:,} clips; guessing gives {percent(1 / classes)}",
            ),
            ("Macro-F1", percent(metrics["macro_f1"]), "mean over classes, each counting the same"),
            (
                "Log-loss",
                f"{metrics['log_loss']:.3f}",
                f"lower is better; guessing gives {math.log(classes):.3f}",
            ),
            ("Calibration error", percent(metrics["ece"]), "ECE: mean gap between confidence and accuracy"),
        ]
    )


def curves_section(history: Sequence[Mapping[str, Any]]) -> Section:
    """Loss, validation scores and learning rate by epoch; a line that no epoch has a value of is left out."""
    quality = lines(history, val_accuracy="accuracy", val_macro_f1="macro-F1")
    best = best_epoch(history) if quality else None
    charts = [
        line_chart("Loss", lines(history, train_loss="training", val_loss="validation"), "epoch", mark=best)
    ]
    if quality:
        charts.append(
            line_chart("Validation", quality, "epoch", lambda value: percent(value, 0), (0.0, 1.0), best)
        )
    if rates := lines(history, learning_rate="learning rate"):
        charts.append(line_chart("Learning rate", rates, "epoch", mark=best))
    note = describe_epochs(history)
    note += "." if best is None else f"; the dashed upright line marks the best, epoch {best}."
    note += "" if quality else " Trained without validation."
    return Section("Learning curves", page.panel(f'<div class="charts">{"".join(charts)}</div>'), note)


def _confusion_section(metrics: Mapping[str, Any]) -> Section:
    names = [entry["name"] for entry in metrics["per_class"]]
    note = f"Each row holds the clips of one class; {COLOR_NOTE}."
    if worst := top_confusions(metrics["confusion"], names):
        note += f" Most frequent: {worst}."
    return Section("Confusion matrix", page.panel(confusion_chart(metrics["confusion"], names)), note)


def _class_section(per_class: Sequence[Mapping[str, Any]]) -> Section:
    # Without clips there is nothing to score: such a class goes last and is not called the worst.
    ordered = sorted(per_class, key=lambda entry: (not entry["support"], entry["f1"], entry["name"]))
    rows = []
    for entry in ordered:
        ratios = [page.bar(entry[key]) if entry["support"] else "–" for key in ("f1", "precision", "recall")]
        rows.append([escape(entry["name"]), *ratios, f"{entry['support']:,}"])
    body = page.table(
        ["class", "F1", "precision", "recall", "clips#"], rows, "Scores by class, worst F1 first"
    )
    note = "Precision: how many of the clips given this name have it. Recall: how many of the class's clips were found."
    return Section("Classes", page.panel(body), note)


def _calibration_section(metrics: Mapping[str, Any]) -> Section:
    filled = [entry for entry in metrics["calibration"] if entry["count"]]
    lean = sum(entry["count"] * (entry["confidence"] - entry["accuracy"]) for entry in filled) / max(
        metrics["clips"], 1
    )
    verdict = "surer of itself than it is right" if lean > 0 else "right more often than it is sure of itself"
    text = (
        f"<div><p>On average the model is {verdict}, by {percent(abs(lean))}.</p>"
        '<p class="note">Orange is confidence without the accuracy to match, green is accuracy beyond the confidence; '
        "a perfect model follows the dashed line. The lower strip shows how many clips each bin holds.</p></div>"
    )
    note = f"Is the model right on 80\u202f% of the clips it is 80\u202f% sure of? The mean gap (ECE) is {percent(metrics['ece'])}."
    body = f'<div class="beside">{reliability_chart(metrics["calibration"])}{text}</div>'
    return Section("Calibration", page.panel(body), note)


def _example_section(examples: Sequence[Example], mel: MelConfig, scale: Scale) -> Section:
    if not examples:
        return Section("Examples", '<p class="note">No examples.</p>')
    figures = []
    for one in examples:
        alt = f"Spectrogram of {one.clip_id}, {one.label}"
        figures.append(gallery_figure(f"<b>{escape(one.label)}</b>", one.clip_id, one.mel, mel, scale, alt))
    note = "One clip of each class: frequency on the mel scale over time, all in the same colours."
    return Section("Examples", gallery(figures, scale), note)


def _mistake_section(mistakes: Sequence[Mistake], total: int, mel: MelConfig, scale: Scale) -> Section:
    title = "Most confident mistakes"
    if not mistakes:
        return Section(title, '<p class="note">Not one clip was taken for another class.</p>')
    figures = []
    for one in mistakes:
        sure = percent(one.confidence, 0)
        caption = f'said <b class="wrong">{escape(one.predicted)}</b> ({escape(sure)}), is <b>{escape(one.label)}</b>'
        alt = f"Spectrogram of {one.clip_id}: said {one.predicted} ({sure}), is {one.label}"
        figures.append(gallery_figure(caption, one.clip_id, one.mel, mel, scale, alt))
    start = f"{len(mistakes)} of {total}, the surest first." if total > len(mistakes) else "The surest first."
    return Section(title, gallery(figures, scale), f"{start} A clip with a wrong label often shows up here.")


def gallery(figures: Sequence[str], scale: Scale) -> str:
    """Figures side by side, under the legend of their colours."""
    return f'{color_bar(scale)}<div class="gallery">{"".join(figures)}</div>'
