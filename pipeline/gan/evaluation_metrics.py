"""Metrics of an evaluation: generated clips as a set, compared with held-out real clips by their embeddings.

A metric relative to real clips needs real clips that differ. Classes without that (silence, copies of one
clip) or without held-out clips are left out; with no class left, the metric is None: undefined. So is the
class accuracy of a single class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.confusion import count_classes, count_confusions
from models.gan_metrics import (
    class_diversity,
    comparable_classes,
    density_and_coverage,
    frechet_distance,
    nearest_neighbors,
)
from models.metrics import confusion_matrix
from pipeline.data.loader import subsample_evenly
from pipeline.data.split_warnings import name_list
from pipeline.io.text import plural
from pipeline.report.page import number

# A generated clip is suspected to be a copy if its distance to the nearest training clip is below this
# quantile of the distances of held-out clips.
MEMORIZATION_QUANTILE = 0.01
# Held-out clips whose mean distance to the nearest training clip is below this fraction of the spread of the
# training clips are copies of those.
MIN_RELATIVE_DISTANCE = 1e-3
# Held-out clips below which distances, density and coverage are rough: one clip is 2 % of the coverage.
FEW_CLIPS = 50


@dataclass(frozen=True)
class EvaluatedClips:
    """Clips with the outputs of the reference classifier."""

    mels: np.ndarray
    """Spectrograms in dB `[shape=(N, n_mels, num_frames)]`."""
    labels: np.ndarray
    """Requested or true classes `[shape=(N,)]`."""
    embeddings: np.ndarray
    """`[shape=(N, K)]`"""
    predictions: np.ndarray
    """Predicted classes `[shape=(N,)]`."""
    confidence: np.ndarray
    """Probabilities of the requested or true classes `[shape=(N,)]`."""

    def of_classes(self, classes: np.ndarray) -> EvaluatedClips:
        """Return the clips of some classes."""
        mask = np.isin(self.labels, classes)
        if mask.all():
            return self
        return EvaluatedClips(*(values[mask] for values in vars(self).values()))

    @property
    def class_accuracy(self) -> float:
        """Fraction of the clips that the classifier predicts as their class."""
        return float((self.predictions == self.labels).mean())


@dataclass(frozen=True)
class SearchedClips:
    """Training clips among which copies are searched for."""

    rows: np.ndarray
    """Their rows in the dataset `[shape=(N,)]`."""
    labels: np.ndarray
    """`[shape=(N,)]`"""
    embeddings: np.ndarray
    """`[shape=(N, K)]`"""
    num_training_clips: int
    """Number of all training clips."""

    def of_classes(self, classes: np.ndarray) -> np.ndarray:
        """Return the embeddings of the clips of some classes."""
        return self.embeddings[np.isin(self.labels, classes)]


def compute_metrics(
    generated: EvaluatedClips,
    untrained: EvaluatedClips,
    train: EvaluatedClips,
    held_out: EvaluatedClips,
    searched: SearchedClips,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Compute all metrics of an evaluation, as JSON values; None where one is undefined.

    Args:
        generated: clips of the trained generator, the same number of each class.
        untrained: clips of an untrained generator, of the same classes.
        train: some of the training clips.
        held_out: other real clips.
        searched: the training clips among which copies are searched for.
        class_names: names of the classes.
    """
    classes = comparable_classes(class_diversity(train.mels, train.labels), held_out.mels, held_out.labels)
    generated_, untrained_, train_, held_out_ = (
        clips.of_classes(classes) for clips in (generated, untrained, train, held_out)
    )
    nearest = _nearest_metrics(generated_, searched.of_classes(classes), held_out_)
    return {
        "clips": len(generated.labels),
        "per_class": class_metrics(generated, class_names),
        "class_accuracy": generated.class_accuracy if len(class_names) > 1 else None,
        "real_class_accuracy": held_out.class_accuracy if len(class_names) > 1 else None,
        "left_out_classes": [class_names[i] for i in np.setdiff1d(np.arange(len(class_names)), classes)],
        **_set_metrics(generated_, untrained_, train_, held_out_),
        "nearest": nearest
        | {"searched_clips": len(searched.rows), "training_clips": searched.num_training_clips},
        "confusion": confusion_matrix(generated.labels, generated.predictions, len(class_names)),
    }


def _set_metrics(
    generated: EvaluatedClips, untrained: EvaluatedClips, train: EvaluatedClips, held_out: EvaluatedClips
) -> dict[str, Any]:
    """Compute the metrics relative to real clips, of comparable classes; None if there are too few clips."""
    # Two for a covariance and a neighbor.
    defined = len(held_out.labels) >= 2
    density = coverage = real_density = real_coverage = None
    if defined:
        # The same number of each class on both sides: coverage grows with it.
        generated_embeddings, train_embeddings = _matched([generated, train])
        density, coverage = density_and_coverage(held_out.embeddings, generated_embeddings)
        real_density, real_coverage = density_and_coverage(held_out.embeddings, train_embeddings)
    return {
        "frechet": _frechet_distances(generated, untrained, train, held_out),
        "density": density,
        "coverage": coverage,
        "real_density": real_density,
        "real_coverage": real_coverage,
    }


def _frechet_distances(
    generated: EvaluatedClips, untrained: EvaluatedClips, train: EvaluatedClips, held_out: EvaluatedClips
) -> dict[str, Any]:
    """Compute the Fréchet distances to held-out clips, with the same number of clips of each class.

    The distance of small samples is too high, by an amount that depends on their size. With other frequencies
    of the classes it would be that of the frequencies, whatever the clips sound like.
    """
    *compared, reference = _matched([generated, untrained, train, held_out])
    names = ("generated", "untrained", "real")
    sizes = {"clips": len(reference), "held_out_clips": len(held_out.labels)}
    if len(reference) < 2:
        return dict.fromkeys(names) | sizes
    distances = [frechet_distance(embeddings, reference) for embeddings in compared]
    return dict(zip(names, distances, strict=True)) | sizes


def _matched(sets: Sequence[EvaluatedClips]) -> list[np.ndarray]:
    """Return the embeddings of evenly spaced clips of each set, of each class the same number in all sets."""
    labels = range(1 + max((int(clips.labels.max()) for clips in sets if len(clips.labels)), default=-1))
    rows = [[np.flatnonzero(clips.labels == label) for label in labels] for clips in sets]
    counts = [min(map(len, of_class)) for of_class in zip(*rows, strict=True)]
    nothing = np.zeros(0, int)
    return [
        clips.embeddings[
            np.concatenate([nothing, *(subsample_evenly(*pair) for pair in zip(parts, counts, strict=True))])
        ]
        for clips, parts in zip(sets, rows, strict=True)
    ]


def _nearest_metrics(
    generated: EvaluatedClips, train_embeddings: np.ndarray, held_out: EvaluatedClips
) -> dict[str, Any]:
    """Compare the distances of generated and of held-out clips to their nearest training clips.

    Ratio and suspected copies are None if the held-out clips are copies of training clips.
    """
    undefined = {"generated": None, "held_out": None, "ratio": None, "suspected_copies": None}
    if not len(held_out.labels):
        return undefined
    distances = nearest_neighbors(generated.embeddings, train_embeddings)[1]
    held_out_distances = nearest_neighbors(held_out.embeddings, train_embeddings)[1]
    means = {"generated": float(distances.mean()), "held_out": float(held_out_distances.mean())}
    spread = float(np.linalg.norm(train_embeddings.std(axis=0)))
    if means["held_out"] <= MIN_RELATIVE_DISTANCE * spread:
        return undefined | means
    limit = np.quantile(held_out_distances, MEMORIZATION_QUANTILE)
    return means | {
        "ratio": means["generated"] / means["held_out"],
        "suspected_copies": int((distances < limit).sum()),
    }


def class_metrics(generated: EvaluatedClips, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Compute the metrics of each class; all have clips."""
    counts = count_classes(generated.labels, generated.predictions, len(class_names))
    most_confused: dict[int, int] = {}
    confusion = count_confusions(generated.labels, generated.predictions, len(class_names))
    for label, predicted, _ in confusion.mistakes():
        most_confused.setdefault(label, predicted)
    return [
        {
            "name": name,
            "clips": int(counts.support[label]),
            "class_accuracy": float(counts.correct[label] / max(1, counts.support[label])),
            "confidence": float(generated.confidence[generated.labels == label].mean()),
            "most_confused_with": class_names[most_confused[label]] if label in most_confused else None,
        }
        for label, name in enumerate(class_names)
    ]


def describe_metrics(metrics: dict[str, Any]) -> str:
    """Format the metrics as one line of text."""
    frechet = metrics["frechet"]
    text = f"{metrics['clips']} generated clips: "
    if metrics["class_accuracy"] is not None:
        text += (
            f"class accuracy {metrics['class_accuracy']:.1%} (real {metrics['real_class_accuracy']:.1%}), "
        )
    text += (
        f"Fréchet distance {number(frechet['generated'], '.1f')} "
        f"(untrained {number(frechet['untrained'], '.1f')}, real {number(frechet['real'], '.1f')}), "
        f"density {number(metrics['density'])}, coverage {number(metrics['coverage'])}, "
        f"nearest-neighbor distance ratio {number(metrics['nearest']['ratio'])}; compared with "
        f"{plural(frechet['held_out_clips'], 'held-out clip')}"
    )
    if frechet["held_out_clips"] < FEW_CLIPS:
        text += ", too few to distinguish similar generators"
    if left_out := metrics["left_out_classes"]:
        text += f"; without classes that have no variety or no held-out clips: {name_list(left_out)}"
    return text
