"""The report of a trained classifier: how good it is, where it errs, and what it heard, in one HTML file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import page
from pipeline.charts import Series, line_chart, short
from pipeline.class_charts import confusion_chart, reliability_chart
from pipeline.page import Section, escape, percent
from pipeline.plots import Scale, colour_bar, decibel_scale, spectrogram_picture

if TYPE_CHECKING:
    from pipeline.features import FeatureConfig
    from pipeline.mel import MelConfig

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
            `val_loss`, `val_accuracy`, `val_macro_f1`.
        mistakes: the most confident ones are shown, up to 12.
        examples: one clip per class, in the order to be shown.
        features: how the spectrograms were made.
        settings: further resolved settings, nested, listed beside those of `features`.
    """
    # One scale for both galleries, so that their pictures compare.
    shown = sorted(mistakes, key=lambda mistake: -mistake.confidence)[:MAX_MISTAKES]
    scale = decibel_scale([clip.mel for clip in (*examples, *shown)])
    sections = [
        curves_section(history),
        _confusion_section(metrics),
        _class_section(metrics["per_class"]),
        _calibration_section(metrics),
        _example_section(examples, features.mel, scale),
        _mistake_section(shown, len(mistakes), features.mel, scale),
        Section("Settings", page.settings({**(settings or {}), "features": features.values()}, "All resolved settings")),
    ]
    page.write_page(path, page.render_page(title, sections, summary, _headline(metrics)))


def _headline(metrics: Mapping[str, Any]) -> str:
    classes = len(metrics["per_class"])
    return page.cards(
        [
            ("Accuracy", percent(metrics["accuracy"]), f"of {metrics['clips']:,} clips; guessing gives {percent(1 / classes)}"),
            ("Macro-F1", percent(metrics["macro_f1"]), "mean over classes, each counting the same"),
            ("Log-loss", f"{metrics['log_loss']:.3f}", f"lower is better; guessing gives {math.log(classes):.3f}"),
            ("Calibration error", percent(metrics["ece"]), "ECE: mean gap between confidence and accuracy"),
        ]
    )


def curves_section(history: Sequence[Mapping[str, Any]]) -> Section:
    """Loss, accuracy and learning rate by epoch; a value that no epoch has is left out."""

    def line(key: str, name: str) -> list[Series]:
        values = [entry.get(key) for entry in history]
        return [Series(name, [entry["epoch"] for entry in history], values)] if any(v is not None for v in values) else []

    losses = line("train_loss", "training") + line("val_loss", "validation")
    quality = line("val_accuracy", "accuracy") + line("val_macro_f1", "macro-F1")
    charts = [line_chart("Loss", losses, "epoch")]
    if quality:
        charts.append(line_chart("Validation", quality, "epoch", lambda value: percent(value, 0), (0.0, 1.0)))
    rates = line("learning_rate", "learning rate")
    if rates:
        top = max(value for value in rates[0].y if value is not None)
        charts.append(line_chart("Learning rate", rates, "epoch", short, (0.0, top) if top > 0 else None))
    taken = sum(entry.get("seconds") or 0.0 for entry in history)
    note = f"{len(history)} epoch{'' if len(history) == 1 else 's'} in {_duration(taken)}."
    if not quality:
        note += " Trained without validation."
    return Section("Learning curves", page.panel(f'<div class="charts">{"".join(charts)}</div>'), note)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{seconds:.1f} s" if seconds < 60 else f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _confusion_section(metrics: Mapping[str, Any]) -> Section:
    names = [entry["name"] for entry in metrics["per_class"]]
    counts = np.array(metrics["confusion"])
    np.fill_diagonal(counts, 0)
    worst = [divmod(int(i), len(names)) for i in np.argsort(-counts, axis=None, kind="stable")[:3] if counts.flat[i]]
    note = "Each row holds the clips of one class; blue is right, orange is wrong, stronger for a larger share of the row."
    if worst:
        note += " Most frequent: " + ", ".join(f"{names[t]} taken for {names[p]} ({counts[t, p]})" for t, p in worst) + "."
    return Section("Confusion matrix", page.panel(confusion_chart(metrics["confusion"], names)), note)


def _class_section(per_class: Sequence[Mapping[str, Any]]) -> Section:
    # A class that has no clip and was never predicted has no score: it goes last and does not count as the worst.
    ordered = sorted(per_class, key=lambda entry: (not entry["support"], entry["f1"], entry["name"]))
    rows = []
    for entry in ordered:
        ratios = [page.bar(entry[key]) if entry["support"] else "–" for key in ("f1", "precision", "recall")]
        rows.append([escape(entry["name"]), *ratios, f"{entry['support']:,}"])
    body = page.table(["class", "F1", "precision", "recall", "clips#"], rows, "Scores by class, worst F1 first")
    note = "Precision: how many of the clips given this name have it. Recall: how many of the class's clips were found."
    return Section("Classes", page.panel(body), note)


def _calibration_section(metrics: Mapping[str, Any]) -> Section:
    filled = [entry for entry in metrics["calibration"] if entry["count"]]
    lean = sum(entry["count"] * (entry["confidence"] - entry["accuracy"]) for entry in filled) / max(metrics["clips"], 1)
    verdict = "claims more than it keeps" if lean > 0 else "is right more often than it claims"
    text = (
        '<div><p><span class="key"><svg viewBox="0 0 26 12" aria-hidden="true"><rect class="right" width="26" height="12"/></svg>accuracy</span>'
        '<span class="key"><svg viewBox="0 0 26 12" aria-hidden="true"><rect class="gap" width="26" height="12"/></svg>gap to confidence</span>'
        '<span class="key"><svg viewBox="0 0 26 12" aria-hidden="true"><path class="ideal" d="M0 6h26"/></svg>perfect</span></p>'
        f"<p>On average the model {verdict}, by {percent(abs(lean))}.</p>"
        '<p class="note">Bars below the dashed line are bins where the model is too sure of itself, bars above it where it is too modest.</p></div>'
    )
    note = (
        f"Of the clips about which the model is, say, 80\u202f% sure, are 80\u202f% right? The mean gap (ECE) is {percent(metrics['ece'])}."
    )
    return Section("Calibration", page.panel(f'<div class="beside">{reliability_chart(metrics["calibration"])}{text}</div>'), note)


def _example_section(examples: Sequence[Example], mel: MelConfig, scale: Scale) -> Section:
    if not examples:
        return Section("Examples", '<p class="note">No examples.</p>')
    figures = [
        gallery_figure(f"<b>{escape(e.label)}</b>", e.clip_id, e.mel, mel, scale, f"Spectrogram of {e.clip_id}, {e.label}")
        for e in examples
    ]
    body = colour_bar(scale) + f'<div class="gallery">{"".join(figures)}</div>'
    return Section("Examples", body, "One clip of each class: frequency on the mel scale over time, all in the same colours.")


def _mistake_section(mistakes: Sequence[Mistake], total: int, mel: MelConfig, scale: Scale) -> Section:
    if not mistakes:
        return Section("Most confident mistakes", '<p class="note">Not one clip was taken for another class.</p>')
    figures = []
    for m in mistakes:
        sure = percent(m.confidence, 0)
        caption = f'said <b class="wrong">{escape(m.predicted)}</b> ({escape(sure)}), is <b>{escape(m.label)}</b>'
        alt = f"Spectrogram of {m.clip_id}: said {m.predicted} ({sure}), is {m.label}"
        figures.append(gallery_figure(caption, m.clip_id, m.mel, mel, scale, alt))
    note = (
        f"{len(mistakes)} of {total}, the surest first. A wrong label in the data often shows here."
        if total > len(mistakes)
        else ("The surest first. A wrong label in the data often shows here.")
    )
    body = colour_bar(scale) + f'<div class="gallery">{"".join(figures)}</div>'
    return Section("Most confident mistakes", body, note)


def gallery_figure(html: str, clip_id: str, mel: np.ndarray, config: MelConfig, scale: Scale, alt: str) -> str:
    """A spectrogram under its caption `html`, with the clip's name small."""
    caption = f'<figcaption>{html}<span class="sub">{escape(clip_id)}</span></figcaption>'
    return f"<figure>{caption}{spectrogram_picture(mel, config, scale, alt)}</figure>"
