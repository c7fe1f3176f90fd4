"""HTML report of a GAN: generated next to real clips, to see and to hear, with its metrics and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.confusion import Confusion
from pipeline.data.split_warnings import name_list
from pipeline.report.charts import Chart, History, best_epoch, curve_charts, describe_epochs, has_key
from pipeline.report.clips import (
    Scale,
    audio_data_uri,
    color_bar,
    decibel_scale,
    spectrogram,
    spectrogram_data_uri,
)
from pipeline.report.confusion import (
    COLOR_NOTE,
    confusion_chart,
    frequent_confusions,
    selection_note,
    top_confusions,
)
from pipeline.report.page import write_page
from pipeline.report.selection import describe_selection

if TYPE_CHECKING:
    from pipeline.audio.features import FeatureConfig

# Maximum number of epochs in the progress table, and pixels of its images (bands, frames): twice their size
# on the page.
MAX_SNAPSHOTS = 8
THUMBNAIL_SHAPE = (64, 108)
# Rows of the table of classes.
MAX_TABLE_CLASSES = 100
# Memorization is possible if more than this fraction of the generated clips is closer to a training clip than
# 99 % of the held-out clips are, or if their mean distance is below this fraction of the held-out clips'. Of
# real clips, 1 % is that close; but with few held-out clips the limit is little more than their minimum
# distance, and real clips exceed a fraction of 3 / clips in 1 of 20 cases.
MEMORIZED_FRACTION, MEMORIZED_RATIO = 0.05, 0.5


@dataclass(frozen=True)
class AudioClip:
    """A clip to see and to hear."""

    name: str
    mel: np.ndarray
    """Spectrogram in dB `[shape=(n_mels, num_frames)]`."""
    samples: np.ndarray
    """In [-1, 1] `[shape=(num_samples,)]`."""


@dataclass(frozen=True)
class ClassClips:
    """Real and generated clips of a class."""

    label: str
    real: Sequence[AudioClip]
    generated: Sequence[AudioClip]


@dataclass(frozen=True)
class NearestPair:
    """A generated clip and its nearest training clip in the embedding of the reference classifier."""

    label: str
    generated: AudioClip
    real: AudioClip
    distance: float | None
    """In units of the mean distance of a held-out real clip to its nearest training clip, if it is not 0."""


@dataclass(frozen=True)
class EpochSnapshot:
    """Output for fixed latents after an epoch."""

    epoch: int
    mels: np.ndarray
    """One clip per class, in dB `[shape=(C, n_mels, num_frames)]`."""


def write_gan_report(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, str],
    metrics: Mapping[str, Any] | None,
    confusion: Confusion | None,
    history: History,
    classes: Sequence[ClassClips],
    snapshots: Sequence[EpochSnapshot],
    pairs: Sequence[NearestPair],
    features: FeatureConfig,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write the report atomically; sections without content are omitted.

    Args:
        path: HTML file; its folder is created.
        title: heading of the page.
        summary: short facts of the run, shown below the title.
        metrics: result of `pipeline.gan.evaluate.compute_metrics`; none before the evaluation.
        confusion: pairs of requested and predicted class of the generated clips, with the metrics.
        history: one entry per epoch, as of `pipeline.gan.loop`; `class_accuracy` and `frechet` may be
            missing.
        classes: real and generated clips of each class to show, with audio of the same vocoder.
        snapshots: samples of some epochs, with classes in the same order; up to 8 are shown, evenly spaced.
        pairs: generated clips with their nearest training clips.
        features: settings of the spectrograms.
        settings: more resolved settings, nested, listed with those of `features`.
    """
    scale = _scale(classes, snapshots, pairs)
    best = best_epoch(history)
    names = [entry["name"] for entry in metrics["per_class"]] if metrics else []
    per_class = worst_classes(metrics["per_class"] if metrics else [])
    write_page(
        path,
        "gan.html.j2",
        title=title,
        summary=summary,
        metrics=metrics,
        memorization=memorization_result(metrics) if metrics else "",
        selected=next((entry for entry in history if entry["epoch"] == best), None),
        num_epochs=len(history),
        classes=classes,
        snapshots=_select_snapshots(snapshots) if classes else [],
        left_out_classes=name_list(metrics["left_out_classes"]) if metrics else "",
        per_class=per_class,
        class_note=describe_selection(len(per_class), len(names), "those with the lowest class accuracy"),
        **_confusion_values(confusion if metrics else None, names),
        pairs=sorted(pairs, key=lambda pair: pair.distance or 0.0),
        curves=training_curves(history, best),
        curve_note=describe_epochs(history, best, "selected"),
        has_frechet=has_key(history, "frechet"),
        collapses=[entry["collapse"] for entry in history if entry.get("collapse")],
        plot=lambda mel: spectrogram(mel, features.mel, scale),
        thumbnail=lambda mel: spectrogram_data_uri(mel, scale, THUMBNAIL_SHAPE),
        audio=lambda samples: audio_data_uri(samples, features.mel.sample_rate),
        color_bar=color_bar(scale),
        settings={**(settings or {}), "features": features.to_dict()},
    )


def worst_classes(per_class: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return up to `MAX_TABLE_CLASSES` classes, those with the lowest class accuracy first."""

    def key(entry: Mapping[str, Any]) -> tuple[Any, ...]:
        return entry["class_accuracy"], entry["confidence"], entry["name"]

    return sorted(per_class, key=key)[:MAX_TABLE_CLASSES]


def _confusion_values(confusion: Confusion | None, names: Sequence[str]) -> dict[str, Any]:
    """Return the variables of the template that show which classes are confused."""
    if confusion is None:
        return {}
    return {
        "confusion": confusion_chart(confusion, names, "requested class"),
        "confusion_note": selection_note(confusion),
        "color_note": COLOR_NOTE,
        "top_confusions": top_confusions(confusion, names),
        "frequent_confusions": frequent_confusions(confusion, names),
    }


def _scale(
    classes: Sequence[ClassClips], snapshots: Sequence[EpochSnapshot], pairs: Sequence[NearestPair]
) -> Scale:
    """Return one scale for all images, that of the real clips: generated ones may have any level."""
    real = [clip.mel for entry in classes for clip in entry.real] + [pair.real.mel for pair in pairs]
    generated = [clip.mel for entry in classes for clip in entry.generated]
    return decibel_scale(real or generated + [snapshot.mels for snapshot in snapshots])


def memorization_result(metrics: Mapping[str, Any]) -> str:
    """Return whether generated clips are closer to training clips than real ones are at random.

    `undefined` if real clips are copies of each other.
    """
    nearest, held_out = metrics["nearest"], metrics["frechet"]["held_out_clips"]
    if nearest["ratio"] is None:
        return "undefined"
    limit = max(MEMORIZED_FRACTION, 3 / held_out)
    if nearest["suspected_copies"] > limit * metrics["clips"] or nearest["ratio"] < MEMORIZED_RATIO:
        return "possible memorization"
    if limit >= 0.5:  # the absence of copies says nothing if half of the clips may be some
        return "too few held-out clips to exclude memorization"
    searched, total = (nearest.get(key, 0) for key in ("searched_clips", "training_clips"))
    where = f" of {searched:,} of {total:,} training clips" if searched < total else ""
    return f"no sign of memorization{where}"


def _select_snapshots(snapshots: Sequence[EpochSnapshot]) -> list[EpochSnapshot]:
    """Select the first, the last and evenly spaced snapshots in between, ordered by epoch."""
    ordered = sorted(snapshots, key=lambda snapshot: snapshot.epoch)
    selected = np.linspace(0, len(ordered) - 1, min(len(ordered), MAX_SNAPSHOTS)).round().astype(int)
    return [ordered[i] for i in selected]


def training_curves(history: History, best: int | None) -> list[Chart]:
    """Return charts of losses, scores, metrics and learning rate over epochs."""
    curves = {
        "Losses": {"discriminator_loss": "discriminator", "generator_loss": "generator"},
        "Discriminator scores": {"real_score": "real clips", "fake_score": "generated clips"},
        "Fréchet distance": {"frechet": "Fréchet distance"},
        "Class accuracy": {"class_accuracy": "class accuracy"},
        "Diversity and augmentation": {"diversity": "diversity", "augment_p": "augmentation probability"},
        "Learning rate": {"learning_rate": "learning rate"},
    }
    return curve_charts(history, curves, best, as_percent={"Class accuracy"})
