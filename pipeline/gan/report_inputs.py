"""Inputs of a GAN's report: clips and snapshots of a run, collected after training and after evaluation.

Real clips are resynthesized with the same vocoder as generated ones: audible differences are due to the
generator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.confusion import Confusion
from pipeline.audio.features import FeatureConfig
from pipeline.audio.vocoder import Vocoder
from pipeline.data.dataset import ShardDataset
from pipeline.data.split import Split
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.report import AudioClip, ClassClips, EpochSnapshot, NearestPair, write_gan_report
from pipeline.gan.sampling import generate_mels, latents_from_seeds, mels_to_samples
from pipeline.gan.snapshots import FIRST_SAMPLES_NAME
from pipeline.io.errors import report_os_errors
from pipeline.report.figures import write_animation
from pipeline.report.selection import evenly_spaced
from pipeline.training.model_file import SavedGenerator, load_generator
from pipeline.training.run import load_run_data
from pipeline.training.run_folder import RunFolder
from pipeline.training.tensor_file import load_tensors

# Clips of each class.
NUM_REAL, NUM_GENERATED = 2, 3


def write_run_report(
    run: Path,
    metrics: Mapping[str, Any] | None = None,
    confusion: Confusion | None = None,
    pairs: Sequence[NearestPair] = (),
    out: Path | None = None,
    device: torch.device | None = None,
    shards: Path | None = None,
) -> None:
    """Write `report.html`, and unless it is for another folder `samples/progress.gif`.

    Args:
        run: folder of the run.
        metrics: metrics of the evaluation, if any.
        confusion: pairs of requested and predicted class of the evaluation.
        pairs: generated clips with their nearest training clips.
        out: folder of the report; by default that of the run.
        device: device on which the clips are generated (default: CPU).
        shards: folder of the run's dataset, if it has been moved since training.

    Raises:
        UserError: an unusable run, or a full disk.
    """
    config, dataset, split = load_run_data(run, TrainGanConfig, shards=shards)
    saved = load_generator(run)
    saved.model.to(device)
    folders = sorted((run / "samples").glob("epoch_*"))
    num_classes = len(dataset.class_names)
    labels = evenly_spaced(num_classes)
    shown = "" if len(labels) == num_classes else f" ({len(labels)} of them with clips below)"
    summary = {
        "classes": f"{num_classes}{shown}",
        "shards": config.shards.name,
        "training clips": f"{len(split.train):,}",
        "checkpoint epoch": f"{saved.metadata.training['epoch']} of {config.epochs}",
        "loss": config.loss,
    }
    with report_os_errors("writing to", out or run):
        images = [folder / "grid.png" for folder in folders if (folder / "grid.png").is_file()]
        if images and out is None:
            write_animation(run / "samples" / "progress.gif", images)
        write_gan_report(
            (out or run) / "report.html",
            title="Sound generator",
            summary=summary,
            metrics=metrics,
            confusion=confusion,
            history=RunFolder(run).read_history(),
            classes=class_clips(saved, dataset, split, labels),
            snapshots=[
                epoch_snapshot(folder, labels)
                for folder in folders
                if (folder / FIRST_SAMPLES_NAME).is_file()
            ],
            pairs=pairs,
            features=dataset.features,
            settings=config.identity(),
        )


def epoch_snapshot(folder: Path, labels: np.ndarray) -> EpochSnapshot:
    """Read the first sample of each of some classes after an epoch."""
    tensors = load_tensors(folder / FIRST_SAMPLES_NAME)[0]
    mels = tensors["mels"].float().numpy()
    # Runs of earlier versions have samples of all classes.
    rows = np.searchsorted(tensors["labels"].numpy(), labels) if "labels" in tensors else labels
    return EpochSnapshot(int(folder.name.removeprefix("epoch_")), mels[rows])


def class_clips(
    saved: SavedGenerator, dataset: ShardDataset, split: Split, labels: np.ndarray
) -> list[ClassClips]:
    """Return some real training clips and some generated ones of each of some classes."""
    torch.set_num_threads(1)
    features, model = dataset.features, saved.model
    vocoder = Vocoder(features.mel, device=model.mel_mean_M.device)
    seeds = range(1, NUM_GENERATED + 1)
    latents = latents_from_seeds(model, seeds)
    train_labels = dataset.labels[split.train]
    classes = []
    for label in labels.tolist():
        rows = split.train[train_labels == label][:NUM_REAL]
        names = [str(dataset.table["clip_id"][row]) for row in rows]
        real = audio_clips(names, dataset.mels[rows].astype(np.float32), features, vocoder)
        mels = generate_mels(model, latents, np.full(len(seeds), label), features.mel)
        generated = audio_clips([f"seed {seed}" for seed in seeds], mels, features, vocoder, seeds)
        classes.append(ClassClips(dataset.class_names[label], real, generated))
    return classes


def audio_clips(
    names: Sequence[str],
    mels: np.ndarray,
    features: FeatureConfig,
    vocoder: Vocoder,
    seeds: Sequence[int] | None = None,
) -> list[AudioClip]:
    """Synthesize spectrograms in dB `[shape=(N, n_mels, num_frames)]`, by default each with seed 0."""
    samples = mels_to_samples(mels, features, vocoder, [0] * len(mels) if seeds is None else seeds)
    return [AudioClip(*clip) for clip in zip(names, mels, samples, strict=True)]
