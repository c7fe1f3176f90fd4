"""Evaluation of a GAN: what a judge that had no part in its training makes of its clips, after the trip to sound and back.

Drawn clips go to a 16-bit file and through extraction, as any recording does. The judge's embeddings of them are set beside
those of real clips that neither it nor the GAN learnt from, and beside what an untrained generator draws.
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
from pipeline.gan.report_inputs import sound, write_run_report
from pipeline.gan.sampling import generate_mel, latents_from_seed, mel_to_samples, roundtrip_mel
from pipeline.gan.train_reference_classifier import get_reference_classifier
from pipeline.io.console import Progress
from pipeline.io.errors import UserError, report_os_errors
from pipeline.training.model_file import load_generator
from pipeline.training.run import load_run_data
from pipeline.training.run_folder import RunFolder

# Seeds of the clips that are scored: no sample of the training, and none that a user is likely to draw first.
FIRST_SEED = 1_000_000
# Real training clips that stand for all.
MAX_REAL_CLIPS = 2000
# A drawn clip is called a copy where it lies nearer to a training clip than all but this part of the held-out clips do.
MEMORIZATION_QUANTILE = 0.01
NEIGHBOURS_SHOWN = 6


@dataclass(frozen=True)
class EvaluatedClips:
    """Spectrograms in dB `[shape=(N, n_mels, num_frames)]`, their classes, and what the judge makes of them."""

    mels: np.ndarray
    labels: np.ndarray
    embeddings: np.ndarray
    probabilities: np.ndarray

    @property
    def class_accuracy(self) -> float:
        """Part of the clips that the judge takes for their class."""
        return float((self.probabilities.argmax(axis=1) == self.labels).mean())


def evaluate_gan(run: Path, per_class: int, out: Path | None = None) -> dict[str, Any]:
    """Draws `per_class` clips of each class, scores them, writes `evaluation.json` and `report.html`; returns the figures.

    Raises:
        UserError: an unusable run, or shards that are no longer there or no longer the same.
    """
    saved = load_generator(run)
    config, rows, split = load_run_data(run, TrainGanConfig)
    judge = get_reference_classifier(config, "evaluation")
    held = split.held_out if len(split.held_out) else split.val
    if len(held) < 2:
        raise UserError(
            f"--run {run}: it learnt from all clips, none is left to compare with; train with --val-fraction or --fold"
        )

    def clips(mels: np.ndarray, labels: np.ndarray) -> EvaluatedClips:
        return EvaluatedClips(mels, labels, *embed_and_classify(judge, mels))

    learnt = subsample_evenly(split.train, MAX_REAL_CLIPS)
    drawn = clips(*generate_and_resynthesize(saved.model, saved.card.features, per_class, "drawing"))
    torch.manual_seed(config.seed)
    untrained = Generator(config.gan, rows.features.shape, len(rows.class_names))
    untrained.set_statistics(saved.model.mel_mean_M, saved.model.mel_std_M)
    blank = clips(
        *generate_and_resynthesize(
            untrained.eval(), saved.card.features, per_class, "drawing with an untrained generator"
        )
    )
    real = clips(rows.mels[learnt].astype(np.float32), rows.labels[learnt])
    fresh = clips(rows.mels[held].astype(np.float32), rows.labels[held])
    metrics = compute_metrics(drawn, blank, real, fresh, rows.class_names)
    with report_os_errors("writing to", out or run):
        (out or run).mkdir(parents=True, exist_ok=True)
        RunFolder(out or run).write_json("evaluation.json", metrics)
        pairs = nearest_pairs(drawn, real, metrics["nearest"]["held_out"], rows.features, rows.class_names)
        write_run_report(run, metrics, pairs, out)
    print(describe_metrics(metrics) + f"\nreport: {(out or run) / 'report.html'}", flush=True)
    return metrics


def generate_and_resynthesize(
    model: Generator, features: FeatureConfig, per_class: int, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Spectrograms of drawn clips, made to sound and extracted again, and their classes."""
    torch.set_num_threads(1)
    vocoder = Vocoder(features.mel)
    labels = np.repeat(np.arange(model.num_classes), per_class)
    progress = Progress(what, len(labels), "clips")
    mels = []
    for number, label in enumerate(labels):
        mel = generate_mel(model, latents_from_seed(model, [FIRST_SEED + number]), int(label), features.mel)
        wav = io.BytesIO()
        samples = mel_to_samples(mel, features, vocoder, number, raised=False)
        soundfile.write(wav, samples, features.mel.sample_rate, format="WAV", subtype="PCM_16")
        mels.append(roundtrip_mel(wav.getvalue(), features))
        progress.add(1)
    progress.finish()
    return np.stack(mels), labels


def compute_metrics(
    drawn: EvaluatedClips,
    blank: EvaluatedClips,
    real: EvaluatedClips,
    fresh: EvaluatedClips,
    names: Sequence[str],
) -> dict[str, Any]:
    """All figures of an evaluation, as JSON values; `fresh` are the held-out real clips."""
    density, coverage = density_and_coverage(fresh.embeddings, drawn.embeddings)
    # As many real training clips as there are drawn ones: coverage grows with their number.
    some = np.linspace(0, len(real.labels) - 1, min(len(real.labels), len(drawn.labels))).round().astype(int)
    real_density, real_coverage = density_and_coverage(fresh.embeddings, real.embeddings[some])
    _, apart = nearest_neighbors(drawn.embeddings, real.embeddings)
    _, usual = nearest_neighbors(fresh.embeddings, real.embeddings)
    confusion = confusion_matrix(drawn.labels, drawn.probabilities.argmax(axis=1), len(names))
    return {
        "clips": len(drawn.labels),
        "per_class": [class_metrics(drawn, confusion, label, names) for label in range(len(names))],
        "class_accuracy": drawn.class_accuracy,
        "class_accuracy_real": fresh.class_accuracy,
        "frechet": {
            "generated": frechet_distance(drawn.embeddings, fresh.embeddings),
            "untrained": frechet_distance(blank.embeddings, fresh.embeddings),
            "real": frechet_distance(real.embeddings, fresh.embeddings),
            "held_out_clips": len(fresh.labels),
        },
        "density": density,
        "coverage": coverage,
        "real_density": real_density,
        "real_coverage": real_coverage,
        "nearest": {
            "generated": float(apart.mean()),
            "held_out": float(usual.mean()),
            "ratio": float(apart.mean() / max(float(usual.mean()), 1e-12)),
            "copies": int((apart < np.quantile(usual, MEMORIZATION_QUANTILE)).sum()),
        },
        "confusion": confusion.tolist(),
    }


def class_metrics(
    drawn: EvaluatedClips, confusion: np.ndarray, label: int, names: Sequence[str]
) -> dict[str, Any]:
    """The figures of one class."""
    own = drawn.labels == label
    wrong = confusion[label].copy()
    wrong[label] = 0
    return {
        "name": names[label],
        "clips": int(own.sum()),
        "class_accuracy": float(confusion[label, label] / max(1, own.sum())),
        "confidence": float(drawn.probabilities[own, label].mean()),
        "most_confused_with": names[int(wrong.argmax())] if wrong.any() else None,
    }


def nearest_pairs(
    drawn: EvaluatedClips, real: EvaluatedClips, unit: float, features: FeatureConfig, names: Sequence[str]
) -> list[NearestPair]:
    """The drawn clips that lie nearest to a training clip, beside it; distances in multiples of `unit`."""
    index, apart = nearest_neighbors(drawn.embeddings, real.embeddings)
    vocoder = Vocoder(features.mel)
    pairs = []
    for i in np.argsort(apart, kind="stable")[:NEIGHBOURS_SHOWN]:
        label = names[drawn.labels[i]]
        beside = (
            sound(f"drawn {label}", drawn.mels[i], features, vocoder),
            sound("training clip", real.mels[index[i]], features, vocoder),
        )
        pairs.append(NearestPair(label, *beside, float(apart[i] / max(unit, 1e-12))))
    return pairs


def describe_metrics(metrics: dict[str, Any]) -> str:
    """The figures in words."""
    frechet = metrics["frechet"]
    return (
        f"{metrics['clips']} drawn clips: {metrics['class_accuracy']:.1%} recognised (real ones {metrics['class_accuracy_real']:.1%}), "
        f"Fréchet distance {frechet['generated']:.1f} (untrained {frechet['untrained']:.1f}, real {frechet['real']:.1f}), "
        f"density {metrics['density']:.2f}, coverage {metrics['coverage']:.2f}, "
        f"nearest training clip at {metrics['nearest']['ratio']:.2f} of a real clip's distance"
    )
