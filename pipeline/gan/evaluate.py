"""Evaluation of a GAN by an independent reference classifier, after a round trip through 16-bit audio.

Generated clips are written to 16-bit files and go through extraction, as any recording does. Their
embeddings are compared with those of held-out real clips, on which neither GAN nor classifier was trained,
and with those of an untrained generator.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from models.gan import Generator
from models.gan_metrics import nearest_neighbors
from pipeline.audio.features import FeatureConfig
from pipeline.audio.vocoder import Vocoder
from pipeline.data.loader import subsample_evenly
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.evaluation_metrics import EvaluatedClips, compute_metrics, describe_metrics
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
MAX_REPORTED_PAIRS = 6


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
        unit = None if metrics["nearest"]["ratio"] is None else metrics["nearest"]["held_out"]
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


def nearest_pairs(
    generated: EvaluatedClips,
    train: EvaluatedClips,
    unit: float | None,
    features: FeatureConfig,
    class_names: Sequence[str],
) -> list[NearestPair]:
    """Return the generated clips nearest to training clips, as pairs; distances are in units of `unit`.

    Without a unit, distances are None.
    """
    index, distances = nearest_neighbors(generated.embeddings, train.embeddings)
    vocoder = Vocoder(features.mel)
    pairs = []
    for i in np.argsort(distances, kind="stable")[:MAX_REPORTED_PAIRS]:
        label = class_names[generated.labels[i]]
        pair = (
            audio_clip(f"generated {label}", generated.mels[i], features, vocoder),
            audio_clip("training clip", train.mels[index[i]], features, vocoder),
        )
        pairs.append(NearestPair(label, *pair, None if unit is None else float(distances[i] / unit)))
    return pairs
