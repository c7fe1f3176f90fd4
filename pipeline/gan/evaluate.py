"""Evaluation of a GAN by an independent reference classifier, after a round trip through 16-bit audio.

Generated clips are written to 16-bit files and go through extraction, as any recording does. Their
embeddings are compared with those of held-out real clips, on which neither GAN nor classifier was trained,
and with those of an untrained generator.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from models.gan import Generator
from models.gan_metrics import density_and_coverage, frechet_distance, nearest_neighbors
from models.metrics import confusion_matrix
from pipeline.audio.features import FeatureConfig
from pipeline.audio.vocoder import Vocoder
from pipeline.data.loader import subsample_evenly
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.reference_classifier import embed_and_classify
from pipeline.gan.report import NearestPair
from pipeline.gan.report_inputs import audio_clip, write_run_report
from pipeline.gan.sampling import generate_mel, latents_from_seed, mel_to_samples, roundtrip_mel
from pipeline.gan.train_reference_classifier import get_reference_classifier
from pipeline.io.console import Progress
from pipeline.io.errors import UserError, report_os_errors
from pipeline.training.model_file import load_generator
from pipeline.training.run import load_run_data
from pipeline.training.run_folder import RunFolder

# Seed of the first evaluated clip; distinct from those of training samples and of typical users.
FIRST_SEED = 1_000_000
# Training clips that represent the training data.
MAX_REAL_CLIPS = 2000
# A generated clip is suspected to be a copy if its distance to the nearest training clip is below this
# quantile of the distances of held-out clips.
MEMORIZATION_QUANTILE = 0.01
MAX_REPORTED_PAIRS = 6


@dataclass(frozen=True)
class EvaluatedClips:
    """Clips with the outputs of the reference classifier."""

    mels: np.ndarray
    """Spectrograms in dB `[shape=(N, n_mels, num_frames)]`."""
    labels: np.ndarray
    """Requested or true classes `[shape=(N,)]`."""
    embeddings: np.ndarray
    """`[shape=(N, K)]`"""
    probabilities: np.ndarray
    """`[shape=(N, C)]`"""

    @property
    def class_accuracy(self) -> float:
        """Fraction of the clips that the classifier predicts as their class."""
        return float((self.probabilities.argmax(axis=1) == self.labels).mean())


def evaluate_gan(run: Path, clips_per_class: int, out: Path | None = None) -> dict[str, Any]:
    """Evaluate the generator of a run; write `evaluation.json` and `report.html`.

    Args:
        run: folder of the run.
        clips_per_class: generated clips of each class.
        out: folder of the results; by default that of the run.

    Returns:
        The metrics, as written.

    Raises:
        UserError: an unusable run, or shards that are missing or changed since training.
    """
    saved = load_generator(run)
    config, dataset, split = load_run_data(run, TrainGanConfig)
    classifier = get_reference_classifier(config, "evaluation")
    held_out_rows = split.held_out if len(split.held_out) else split.val
    if len(held_out_rows) < 2:
        raise UserError(
            f"--run {run}: trained on all clips; no held-out clips to compare with: "
            "train with --val-fraction or --fold"
        )

    def evaluated(mels: np.ndarray, labels: np.ndarray) -> EvaluatedClips:
        return EvaluatedClips(mels, labels, *embed_and_classify(classifier, mels))

    train_rows = subsample_evenly(split.train, MAX_REAL_CLIPS)
    features = saved.metadata.features
    generated = evaluated(*generate_and_resynthesize(saved.model, features, clips_per_class, "generating"))
    torch.manual_seed(config.seed)
    untrained_model = Generator(config.gan, dataset.features.shape, len(dataset.class_names))
    untrained_model.set_statistics(saved.model.mel_mean_M, saved.model.mel_std_M)
    untrained = evaluated(
        *generate_and_resynthesize(
            untrained_model.eval(), features, clips_per_class, "generating with an untrained generator"
        )
    )
    train = evaluated(dataset.mels[train_rows].astype(np.float32), dataset.labels[train_rows])
    held_out = evaluated(dataset.mels[held_out_rows].astype(np.float32), dataset.labels[held_out_rows])
    metrics = compute_metrics(generated, untrained, train, held_out, dataset.class_names)
    folder = out or run
    with report_os_errors("writing to", folder):
        folder.mkdir(parents=True, exist_ok=True)
        RunFolder(folder).write_json("evaluation.json", metrics)
        unit = metrics["nearest"]["held_out"]
        pairs = nearest_pairs(generated, train, unit, dataset.features, dataset.class_names)
        write_run_report(run, metrics, pairs, out)
    print(f"{describe_metrics(metrics)}\nreport: {folder / 'report.html'}", flush=True)
    return metrics


def generate_and_resynthesize(
    model: Generator, features: FeatureConfig, clips_per_class: int, description: str
) -> tuple[np.ndarray, np.ndarray]:
    """Generate clips, convert them to 16-bit audio and extract their spectrograms again.

    Returns:
        Spectrograms in dB `[shape=(N, n_mels, num_frames)]` and their classes `[shape=(N,)]`.
    """
    torch.set_num_threads(1)
    vocoder = Vocoder(features.mel)
    labels = np.repeat(np.arange(model.num_classes), clips_per_class)
    mels = []
    with Progress(description, len(labels), "clips") as progress:
        for number, label in enumerate(labels):
            mel = generate_mel(
                model, latents_from_seed(model, [FIRST_SEED + number]), int(label), features.mel
            )
            wav = io.BytesIO()
            samples = mel_to_samples(mel, features, vocoder, number, normalize=False)
            soundfile.write(wav, samples, features.mel.sample_rate, format="WAV", subtype="PCM_16")
            mels.append(roundtrip_mel(wav.getvalue(), features))
            progress.add(1)
        progress.finish()
    return np.stack(mels), labels


def compute_metrics(
    generated: EvaluatedClips,
    untrained: EvaluatedClips,
    train: EvaluatedClips,
    held_out: EvaluatedClips,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Compute all metrics of an evaluation, as JSON values."""
    density, coverage = density_and_coverage(held_out.embeddings, generated.embeddings)
    # The same number of training clips as of generated ones: coverage grows with it.
    count = min(len(train.labels), len(generated.labels))
    subset = np.linspace(0, len(train.labels) - 1, count).round().astype(int)
    real_density, real_coverage = density_and_coverage(held_out.embeddings, train.embeddings[subset])
    _, distances = nearest_neighbors(generated.embeddings, train.embeddings)
    _, held_out_distances = nearest_neighbors(held_out.embeddings, train.embeddings)
    predictions = generated.probabilities.argmax(axis=1)
    confusion = confusion_matrix(generated.labels, predictions, len(class_names))
    return {
        "clips": len(generated.labels),
        "per_class": [
            class_metrics(generated, confusion, label, class_names) for label in range(len(class_names))
        ],
        "class_accuracy": generated.class_accuracy,
        "real_class_accuracy": held_out.class_accuracy,
        "frechet": {
            "generated": frechet_distance(generated.embeddings, held_out.embeddings),
            "untrained": frechet_distance(untrained.embeddings, held_out.embeddings),
            "real": frechet_distance(train.embeddings, held_out.embeddings),
            "held_out_clips": len(held_out.labels),
        },
        "density": density,
        "coverage": coverage,
        "real_density": real_density,
        "real_coverage": real_coverage,
        "nearest": {
            "generated": float(distances.mean()),
            "held_out": float(held_out_distances.mean()),
            "ratio": float(distances.mean() / max(float(held_out_distances.mean()), 1e-12)),
            "suspected_copies": int(
                (distances < np.quantile(held_out_distances, MEMORIZATION_QUANTILE)).sum()
            ),
        },
        "confusion": confusion.tolist(),
    }


def class_metrics(
    generated: EvaluatedClips, confusion: np.ndarray, label: int, class_names: Sequence[str]
) -> dict[str, Any]:
    """Compute the metrics of one class."""
    class_mask = generated.labels == label
    errors = confusion[label].copy()
    errors[label] = 0
    return {
        "name": class_names[label],
        "clips": int(class_mask.sum()),
        "class_accuracy": float(confusion[label, label] / max(1, class_mask.sum())),
        "confidence": float(generated.probabilities[class_mask, label].mean()),
        "most_confused_with": class_names[int(errors.argmax())] if errors.any() else None,
    }


def nearest_pairs(
    generated: EvaluatedClips,
    train: EvaluatedClips,
    unit: float,
    features: FeatureConfig,
    class_names: Sequence[str],
) -> list[NearestPair]:
    """Return the generated clips nearest to training clips, as pairs; distances are in units of `unit`."""
    index, distances = nearest_neighbors(generated.embeddings, train.embeddings)
    vocoder = Vocoder(features.mel)
    pairs = []
    for i in np.argsort(distances, kind="stable")[:MAX_REPORTED_PAIRS]:
        label = class_names[generated.labels[i]]
        pair = (
            audio_clip(f"generated {label}", generated.mels[i], features, vocoder),
            audio_clip("training clip", train.mels[index[i]], features, vocoder),
        )
        pairs.append(NearestPair(label, *pair, float(distances[i] / max(unit, 1e-12))))
    return pairs


def describe_metrics(metrics: dict[str, Any]) -> str:
    """Format the metrics as one line of text."""
    frechet = metrics["frechet"]
    return (
        f"{metrics['clips']} generated clips: class accuracy {metrics['class_accuracy']:.1%} "
        f"(real {metrics['real_class_accuracy']:.1%}), Fréchet distance {frechet['generated']:.1f} "
        f"(untrained {frechet['untrained']:.1f}, real {frechet['real']:.1f}), "
        f"density {metrics['density']:.2f}, coverage {metrics['coverage']:.2f}, "
        f"nearest-neighbor distance ratio {metrics['nearest']['ratio']:.2f}"
    )
